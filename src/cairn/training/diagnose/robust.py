"""Trend and noise of a curve, by statistics that a few wild points do not move.

A loss curve is a trend with noise whose size nobody told us. A check that compares two points, or a mean with a mean, finds
something in every noisy run; medians and ranks do not.
"""

import math
from dataclasses import dataclass

import numpy as np

from cairn.core.stats import Z95

MOST = 300  # points of which all pairs are compared; a longer curve is thinned to medians of stretches
MAD_TO_DEVIATION = 1.4826  # of a normal distribution: 1 / the 0.75 quantile


@dataclass(frozen=True)
class Slope:
    """A slope with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def falls(self) -> bool:
        return self.high < 0

    @property
    def rises(self) -> bool:
        return self.low > 0


def theil_sen(x: np.ndarray, y: np.ndarray) -> Slope:
    """The median of the slopes of all pairs of points (Theil 1950) with Sen's interval by ranks (Sen 1968), as
    scipy.stats.theilslopes. Up to 29 % of the points may be anything. Fewer than 4 points, or points at one x, have no
    slope (0, -inf, inf)."""
    x, y = thin(x, MOST), thin(y, MOST)
    n = len(x)
    if n < 4:
        return Slope(0.0, -math.inf, math.inf)
    first, second = np.triu_indices(n, 1)
    apart = x[second] != x[first]
    slopes = np.sort((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    if not len(slopes):
        return Slope(0.0, -math.inf, math.inf)
    spread = Z95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)  # of Kendall's S when there is no trend
    low = max(round((len(slopes) - spread) / 2), 0)
    high = min(round((len(slopes) + spread) / 2), len(slopes) - 1)
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` medians of stretches of equal length."""
    if len(values) <= most:
        return values
    return np.array([np.median(part) for part in np.array_split(values, most)])


def noise(y: np.ndarray) -> float:
    """The standard deviation of a point about the trend, from differences of neighbours: a trend that is small from one
    point to the next does not count, a jump is one difference among many."""
    if len(y) < 3:
        return 0.0
    steps = np.diff(y)
    return float(MAD_TO_DEVIATION * np.median(np.abs(steps - np.median(steps))) / math.sqrt(2))


def running_median(y: np.ndarray, width: int = 5) -> np.ndarray:
    """The median of `width` points around each, fewer at both ends."""
    half = width // 2
    return np.array([np.median(y[max(0, i - half) : i + half + 1]) for i in range(len(y))])


def level(y: np.ndarray, end: bool) -> float:
    """The median of the last (or first) tenth of the points, of three at least."""
    count = max(3, len(y) // 10)
    return float(np.median(y[-count:] if end else y[:count]))
