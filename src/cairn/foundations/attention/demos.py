"""Demonstrations of this chapter: why scores are scaled, what online softmax carries, and a head that learns by hand.

>>> list(DEMOS)
['attention-scale', 'attention-online', 'attention-reverses']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.attention.heatmap import draw_heads, draw_heatmap
from cairn.foundations.attention.online import flash_attend
from cairn.foundations.attention.reverse import Reverse, learn
from cairn.foundations.attention.scaled_dot_product import attend
from cairn.foundations.attention.softmax import softmax, softmax_jacobian
from cairn.foundations.demo import Demo
from cairn.foundations.picture import new_figure, save, save_animation


def draw_scale(out: Path) -> list[str]:
    """The largest share of 32 keys, and how much of the softmax's Jacobian is left, by the size of a head."""
    rng, sizes = np.random.default_rng(0), 2 ** np.arange(1, 11)
    shares, slopes = np.zeros((2, len(sizes))), np.zeros((2, len(sizes)))
    for column, K in enumerate(sizes):
        for row, scale in enumerate((1.0, K**-0.5)):
            p_TS = softmax((rng.normal(size=(200, 1, K)) * rng.normal(size=(200, 32, K))).sum(-1) * scale)
            shares[row, column] = p_TS.max(axis=-1).mean()
            slopes[row, column] = np.mean([np.linalg.norm(softmax_jacobian(p)) for p in p_TS])
    figure, axes = new_figure(columns=2)
    for ax, values, label in zip(
        axes, (shares, slopes), ("largest share of 32 keys", "size of the softmax's Jacobian")
    ):
        ax.semilogx(sizes, values[0], "o-", base=2, color="tab:red", label="q · k")
        ax.semilogx(sizes, values[1], "o-", base=2, color="tab:blue", label="q · k / √K")
        ax.set(xlabel="size of a head, K", ylabel=label, ylim=(0, None))
        ax.legend(frameon=False)
    figure.suptitle("Random queries and keys of variance 1")
    save(figure, out / "attention-scale.svg")
    return [
        f"K = {sizes[-1]}: unscaled, one of 32 keys takes {shares[0, -1]:.2f} of the attention; scaled, {shares[1, -1]:.2f}",
        f"the softmax's Jacobian has size {slopes[0, -1]:.3f} unscaled, {slopes[1, -1]:.3f} scaled",
    ]


def draw_online(out: Path) -> list[str]:
    """What one query carries while it reads its keys, and the error of the whole."""
    rng, T, K = np.random.default_rng(3), 2048, 32
    q, k, v = (rng.normal(size=(T, K)) for _ in range(3))
    figure, axes = new_figure(columns=2)
    query, read = q[:1] * 1.5, np.arange(1, 129)
    exact = attend(query, k[:128], v[:128])[0][0]
    partial = [attend(query, k[:n], v[:n])[0][0] for n in read]
    top = np.maximum.accumulate((k[:128] @ query[0]) / np.sqrt(K))
    axes[0].step(read, top, where="post", color="tab:orange")
    axes[0].set(xlabel="keys read", ylabel="largest score so far, m")
    axes[1].plot(read, [np.linalg.norm(o - exact) for o in partial], color="tab:blue")
    axes[1].set(xlabel="keys read", ylabel="distance of o / l from the result")
    figure.suptitle("One query reads its keys one by one")
    save(figure, out / "attention-online.svg")
    whole, blocks = attend(q, k, v)[0], flash_attend(q, k, v, block=128)[0]
    return [
        f"{T} tokens in blocks of 128 keys: largest error against all scores at once {np.abs(whole - blocks).max():.1e}",
        f"scores held at a time: {T * 128:,} instead of {T * T:,}",
    ]


def draw_reverse(out: Path) -> list[str]:
    """The weights of attention while a head learns to reverse words."""
    settings = Reverse()
    seen: dict[int, np.ndarray] = {}
    _, _, history = learn(settings, lambda step, weights_TT: seen.update({step: weights_TT}))
    places = [str(place + 1) for place in range(settings.length)]
    steps = [0, 20, 60, settings.steps - 1]
    titles = [f"step {step}: loss {history[step]:.2f}" for step in steps]
    save(draw_heads(np.stack([seen[step] for step in steps]), places, titles), out / "attention-reverses.png")
    figure, (ax,) = new_figure(size=(3.2, 3.4))
    image = draw_heatmap(ax, seen[0], places, titles[0])

    def update(frame: int) -> None:
        image.set_data(seen[3 * frame])
        ax.set_title(f"step {3 * frame}: loss {history[3 * frame]:.2f}")

    save_animation(figure, update, 40, out / "attention-reverses.gif")
    return [
        f"loss {history[0]:.3f} nats a letter at first (guessing: {np.log(settings.letters):.3f}), {history[-1]:.3f} at last"
    ]


DEMOS = {
    "attention-scale": Demo("Why scores are divided by the root of the head's size", draw_scale),
    "attention-online": Demo("Online softmax: exact attention, a block of keys at a time", draw_online),
    "attention-reverses": Demo("A head learns to reverse words, all gradients by hand (animated)", draw_reverse),
}
