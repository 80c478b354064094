"""Demonstrations of this chapter: names from a GPT that has just been trained, and where its heads look.

>>> list(DEMOS)
['gpt-names', 'gpt-attention']
"""

from functools import cache
from pathlib import Path

import numpy as np

from cairn.foundations.attention.heatmap import draw_heads
from cairn.foundations.demo import Demo
from cairn.foundations.gpt.evaluate import compare
from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.ngrams import NGram
from cairn.foundations.gpt.sample import SampleConfig, write_lines
from cairn.foundations.gpt.text import Corpus, read_names
from cairn.foundations.gpt.train import TrainConfig, train
from cairn.foundations.picture import new_figure, save
from cairn.foundations.tensor import no_grad

CONTEXT = 16


@cache
def trained() -> tuple[GPT, Corpus, list[float]]:
    """A small model of the names that come with this chapter; few names, so few steps, or it learns them by heart."""
    corpus = read_names()
    model = GPT(GPTConfig(len(corpus.alphabet), CONTEXT, width=48, blocks=2, heads=4))
    return model, corpus, train(model, corpus.training, CONTEXT, TrainConfig(steps=500, rate=5e-3, warmup=30))


def look(model: GPT, ids_T: np.ndarray) -> np.ndarray:
    """Weights of attention (L, H, T, T) of every block and head over one text."""
    looks: list[np.ndarray] = []
    with no_grad():
        model(ids_T[None], looks)
    return np.stack(looks)[:, 0]


def draw_names(out: Path) -> list[str]:
    """The loss while it learns, beside those of counting; then names at three temperatures."""
    model, corpus, history = trained()
    figure, (ax,) = new_figure(size=(5.0, 3.4))
    ax.plot(history, linewidth=0.8, label="GPT, training text")
    for name, order, line in (("unigram", 1, ":"), ("bigram", 2, "--")):
        counted = NGram(corpus.training, len(corpus.alphabet), order).losses(corpus.held_out).mean()
        ax.axhline(counted, color="grey", linestyle=line, label=f"{name}, held-out text")
    ax.set(xlabel="step", ylabel="loss in nats a character", title="A GPT in NumPy learns names")
    ax.legend(frameon=False)
    save(figure, out / "gpt-names.svg")
    lines = compare(model, corpus, CONTEXT)
    for temperature in (0.5, 0.8, 1.2):
        names = write_lines(model, corpus.alphabet, CONTEXT, SampleConfig(10, temperature))
        lines.append(f"temperature {temperature}: {', '.join(names)}")
    return lines


def draw_attention(out: Path) -> list[str]:
    """Every head of the trained model on two names, and what they look at most."""
    model, corpus, _ = trained()
    text = "\nrosamund\nanton"
    looks_LHTT = look(model, corpus.alphabet.encode(text))
    L, H, T, _ = looks_LHTT.shape
    titles = [f"block {block + 1}, head {head + 1}" for block in range(L) for head in range(H)]
    save(draw_heads(looks_LHTT.reshape(L * H, T, T), list(text), titles), out / "gpt-attention.png")
    places = np.arange(1, T)  # the first token sees itself alone
    start = np.where(places > text.rindex("\n"), text.rindex("\n"), 0)
    goals = {"the newline before its name": start, "the character before": places - 1, "the character itself": places}
    lines = []
    for name, goal in goals.items():
        shares = looks_LHTT[:, :, places, goal].mean(axis=-1).ravel()
        lines.append(f"{titles[shares.argmax()]} gives {shares.max():.2f} of its attention to {name}")
    return [*lines, f"(looking evenly at all it sees, a head gives {np.mean(1 / (places + 1)):.2f} to any of them)"]


DEMOS = {
    "gpt-names": Demo("A GPT in NumPy learns to write names", draw_names),
    "gpt-attention": Demo("Where the heads of a trained GPT look", draw_attention),
}
