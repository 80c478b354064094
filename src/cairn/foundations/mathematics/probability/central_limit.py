"""The central limit theorem: averages become normal, whatever they are averages of.

Standardise the mean of n independent draws, sqrt(n) (mean - m) / s: its distribution tends to the standard normal wherever the
variance is finite. How fast? Berry and Esseen: the largest gap between the two distribution functions is at most
C E|X - m|^3 / (s^3 sqrt(n)), with C = 0.4748 (Shevtsova 2011). Where there is no variance, as for Cauchy, nothing of it holds.

>>> from cairn.foundations.mathematics.probability import Exponential
>>> z = standardised_means(Exponential(1.0), 100, 20_000, np.random.default_rng(0))
>>> bool(gap_to_normal(z) < 0.03)
True
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_vector, count, positive
from cairn.foundations.mathematics.probability.distribution import Distribution
from cairn.foundations.mathematics.probability.normal import Normal

BERRY_ESSEEN = 0.4748


def standardised_means(source: Distribution, n: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """(repeats,): the mean of n draws, `repeats` times, minus its expectation, in units of its standard deviation."""
    if not np.isfinite(source.variance):
        raise ValueError(f"{source} has no finite variance: means of it do not become normal")
    means = source.sample(rng, (count(repeats, "repeats"), count(n, "n"))).mean(axis=1)
    return (means - source.mean) / np.sqrt(source.variance / n)


def gap_to_normal(z: ArrayLike) -> float:
    """Kolmogorov's distance: the largest gap between the share of z below a point and what a standard normal has there.

    The share jumps by 1/N at each value, so the gap is largest just before or just after a jump.
    """
    z_N = np.sort(as_vector(z, "z"))
    normal = Normal(0.0, 1.0).cdf(z_N)
    N = len(z_N)
    # Of equal values only the whole jump counts: its foot and its top.
    foot, top = np.searchsorted(z_N, z_N, "left") / N, np.searchsorted(z_N, z_N, "right") / N
    return float(max((normal - foot).max(), (top - normal).max()))


def berry_esseen(third: float, deviation: float, n: int) -> float:
    """The bound on that gap for means of n draws with E|X - m|^3 = `third` and standard deviation `deviation`."""
    return BERRY_ESSEEN * positive(third, "third") / (positive(deviation, "deviation") ** 3 * np.sqrt(count(n, "n")))
