"""Pictures of information: surprise, two ways to be wrong, and what correlation does not see.

>>> [name for name in DEMOS]
['entropy', 'divergences', 'mutual-information']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.mathematics.information.divergences import jensen_shannon, kl
from cairn.foundations.mathematics.information.entropies import cross_entropy, entropy
from cairn.foundations.mathematics.information.mutual import mutual_information, mutual_information_of, through
from cairn.foundations.picture import new_figure, save


def draw_entropy(out: Path) -> list[str]:
    """Entropy of a coin, and what a wrong belief about it costs."""
    figure, (left, right) = new_figure(columns=2)
    p = np.linspace(0, 1, 501)
    coins = np.stack([p, 1 - p], axis=1)
    left.plot(p, entropy(coins, unit="bits"))
    left.set(title="entropy of a coin", xlabel="P(heads)", ylabel="bits")
    truth = np.array([0.3, 0.7])
    right.plot(p, cross_entropy(truth, coins, unit="bits"), label="cross-entropy")
    right.axhline(float(entropy(truth, unit="bits")), color="0.6", ls=":", label="entropy")
    right.set(title="the coin has 0.3; believed is ...", xlabel="believed P(heads)", ylabel="bits", ylim=(0, 4))
    right.legend()
    save(figure, out / "entropy.svg")
    best = p[np.argmin(cross_entropy(truth, coins))]
    return [
        f"entropy of a coin is largest at {p[np.argmax(entropy(coins))]:.1f}: {entropy(coins, unit='bits').max():.4f} bits",
        f"cross-entropy with a coin of 0.3 is smallest at {best:.1f}: {cross_entropy(truth, coins, unit='bits').min():.4f} "
        f"bits, its entropy {entropy(truth, unit='bits'):.4f}",
    ]


def draw_divergences(out: Path) -> list[str]:
    """A mixture of two bells, and the one bell that is nearest to it by either direction of KL, found on a grid."""
    x = np.linspace(-6, 6, 241)

    def bell(mean: float, deviation: float) -> np.ndarray:
        height = np.exp(-0.5 * ((x - mean) / deviation) ** 2)
        return height / height.sum()

    p = 0.6 * bell(-2.0, 0.7) + 0.4 * bell(2.2, 0.8)
    candidates = [(m, s) for m in np.linspace(-3, 3, 61) for s in np.linspace(0.4, 3.5, 63)]
    q = np.array([bell(m, s) for m, s in candidates])
    figure, (left, right) = new_figure(columns=2, size=(4.4, 3.2))
    left.fill_between(x, p, color="0.85")
    lines = []
    for name, distances in {"KL(p || q): covers": kl(p, q), "KL(q || p): settles": kl(q, p)}.items():
        best = int(np.argmin(distances))
        mean, deviation = candidates[best]
        left.plot(x, q[best], label=name)
        lines.append(f"{name}: mean {mean:.2f}, deviation {deviation:.2f}, {distances[best]:.4f} nats")
    left.set(title="p (grey) and the nearest single bell")
    left.legend(fontsize=7)
    share = np.linspace(0, 1, 201)
    coins = np.stack([share, 1 - share], axis=1)
    fair = np.array([0.5, 0.5])
    right.plot(share, kl(fair, coins), label="KL(fair || coin)")
    right.plot(share, kl(coins, fair), label="KL(coin || fair)")
    right.plot(share, jensen_shannon(fair, coins), label="Jensen-Shannon")
    right.set(title="how far is a coin from a fair one?", xlabel="P(heads)", ylabel="nats", ylim=(0, 2))
    right.legend(fontsize=7)
    save(figure, out / "divergences.svg")
    mean, variance = float(p @ x), float(p @ (x - p @ x) ** 2)
    return [
        *lines,
        f"p itself has mean {mean:.2f} and deviation {np.sqrt(variance):.2f}: covering means matching moments",
    ]


def draw_mutual(out: Path) -> list[str]:
    """Clouds whose correlation and mutual information tell different stories; and information through a noisy channel."""
    rng = np.random.default_rng(0)
    n, bins = 4000, 12
    angle = rng.uniform(0, 2 * np.pi, n)
    u, v = rng.standard_normal((2, n))
    clouds = {
        "independent": (u, v),
        "a line in noise": (u, 0.8 * u + 0.6 * v),
        "a parabola": (u, u**2 + 0.3 * v),
        "a ring": (np.cos(angle) + 0.1 * u, np.sin(angle) + 0.1 * v),
    }
    figure, axes = new_figure(columns=5, size=(2.3, 2.5))
    lines = []
    for panel, (name, (x, y)) in zip(axes, clouds.items()):
        # Bins of equal counts: any value is then as likely as any other.
        xs, ys = (np.searchsorted(np.quantile(z, np.linspace(0, 1, bins + 1)[1:-1]), z) for z in (x, y))
        information = float(mutual_information_of(xs, ys, unit="bits", corrected=True))
        correlation = float(np.corrcoef(x, y)[0, 1])
        panel.plot(x[:1500], y[:1500], ".", ms=1.5)
        panel.set_title(f"{name}\nr {correlation:z.2f}, I {information:z.2f} bits")
        panel.set_axis_off()
        lines.append(f"{name}: correlation {correlation:z.2f}, mutual information {information:z.2f} bits")
    flips = np.linspace(0, 0.5, 51)
    bit = np.array([[0.5, 0.0], [0.0, 0.5]])
    once, twice = [], []
    for flip in flips:
        channel = np.array([[1 - flip, flip], [flip, 1 - flip]])
        once.append(float(mutual_information(through(bit, channel), unit="bits")))
        twice.append(float(mutual_information(through(through(bit, channel), channel), unit="bits")))
    axes[-1].plot(flips, once, label="once")
    axes[-1].plot(flips, twice, label="twice")
    axes[-1].set(title="a bit through noise", xlabel="P(flip)", ylabel="bits")
    axes[-1].legend()
    save(figure, out / "mutual-information.png")
    return [*lines, f"a bit, flipped with 0.1: {once[10]:.3f} bits are left, after twice {twice[10]:.3f}"]


DEMOS = {
    "entropy": Demo("entropy of a coin, and what a wrong belief costs", draw_entropy),
    "divergences": Demo("KL in both directions: covering and settling", draw_divergences),
    "mutual-information": Demo("what mutual information sees and correlation does not", draw_mutual),
}
