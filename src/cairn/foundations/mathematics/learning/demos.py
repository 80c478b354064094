"""Pictures of fitting and predicting.

>>> [name for name in DEMOS]
['bias-variance', 'double-descent']
"""

from pathlib import Path

import numpy as np

from cairn.foundations.demo import Demo
from cairn.foundations.mathematics.learning.bias_variance import decompose, polynomial, wave
from cairn.foundations.mathematics.learning.double_descent import NOISE, errors_by_width
from cairn.foundations.picture import new_figure, save


def draw_bias_variance(out: Path) -> list[str]:
    """Fits of a stiff, a fitting and a supple polynomial, and the three parts of the error by degree."""
    rng = np.random.default_rng(0)
    noise, points, repeats = 0.4, 20, 400
    figure, axes = new_figure(columns=4, size=(2.8, 2.7))
    x, grid = np.linspace(-1, 1, points), np.linspace(-1, 1, 200)
    for panel, degree in zip(axes, (1, 3, 12)):
        for _ in range(25):
            fitted = polynomial(degree)(x, wave(x) + noise * rng.standard_normal(points))
            panel.plot(grid, fitted(grid), "C0", lw=0.5, alpha=0.5)
        panel.plot(grid, wave(grid), "k")
        panel.set(title=f"degree {degree}, 25 data sets", ylim=(-2, 2))
    degrees = range(0, 14)
    parts = [decompose(polynomial(d), wave, noise, points, repeats, rng) for d in degrees]
    axes[3].plot(degrees, [p.bias for p in parts], label="bias squared")
    axes[3].plot(degrees, [p.variance for p in parts], label="variance")
    axes[3].plot(degrees, [p.total for p in parts], "k", label="both + noise")
    axes[3].errorbar(
        degrees, [p.error for p in parts], [1.96 * p.uncertainty for p in parts], fmt="C3.", label="error, other data"
    )
    axes[3].axhline(noise**2, color="0.7", ls=":")
    axes[3].set(title="error; dotted: noise", xticks=range(0, 14, 2), xlabel="degree", ylim=(0, 0.7))
    axes[3].legend(fontsize=7)
    save(figure, out / "bias-variance.svg")
    lines = [
        f"degree {d:2}: bias^2 {p.bias:z.4f} + variance {p.variance:.4f} + noise {p.noise:.4f} = {p.total:.4f}; "
        f"error {p.error:.4f} +- {1.96 * p.uncertainty:.4f}"
        for d, p in zip(degrees, parts)
        if d in (0, 1, 3, 5, 9, 13)
    ]
    inside = sum(abs(p.error - p.total) <= 1.96 * p.uncertainty for p in parts)
    return [*lines, f"the error lies within its 95 % interval of the sum at {inside} of {len(parts)} degrees"]


def draw_double_descent(out: Path) -> list[str]:
    """Test error of random-feature regression with 60 examples, by the number of features."""
    widths = [5, 10, 20, 30, 40, 50, 55, 60, 65, 70, 80, 100, 150, 250, 400, 600, 1000]
    errors = errors_by_width(widths, 60, 15, np.random.default_rng(0))
    figure, (axes,) = new_figure(size=(5.5, 3.4))
    axes.loglog(widths, errors, "o-")
    axes.axvline(60, color="0.7", ls=":")
    axes.axhline(1.0, color="0.7", ls="--")
    axes.text(75, axes.get_ylim()[1] * 0.4, "as many features as examples", fontsize=8)
    axes.text(5, 1.05, "always predicting 0", fontsize=8)
    axes.set(xlabel="random features", ylabel="test error", title=f"60 examples with noise {NOISE}")
    save(figure, out / "double-descent.svg")
    return [
        f"{w:4} features: test error {e:.3f}" for w, e in zip(widths, errors) if w in (5, 20, 40, 60, 80, 150, 1000)
    ]


DEMOS = {
    "bias-variance": Demo("bias, variance and noise, measured by degree of a polynomial", draw_bias_variance),
    "double-descent": Demo("the test error beyond the point where everything can be fitted", draw_double_descent),
}
