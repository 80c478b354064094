"""What a score leaves open: an interval, and what guessing would reach.

A test of n samples is a draw from all that could have been tested. Of a share of successes the interval follows from
n alone (Wilson 1927); of any other score it is found by the bootstrap: draw n samples from the n with replacement, score
again, a thousand times, and see where the middle 95 % lie (Efron 1979).

>>> low, high = proportion_interval(95, 100)  # 95 % of 100 is anything from 89 to 98 %
>>> print(f"{low:.3f} {high:.3f}")
0.888 0.978
>>> low, high = proportion_interval(9500, 10000)
>>> print(f"{low:.3f} {high:.3f}")
0.946 0.954
>>> chance_level([0, 0, 0, 1])  # always say the most frequent class
0.75
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import same_length

Z95 = 1.959963984540054  # a normal variable is within so many standard deviations in 95 % of the cases


def proportion_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, Wilson's: inside [0, 1], around successes / n, and right for small n."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: there must be at least one trial, and no more successes")
    share, z2 = successes / n, Z95**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # at the ends exactly 0 and 1, which rounding may miss
    return 0.0 if successes == 0 else center - half, 1.0 if successes == n else center + half


def bootstrap_interval(
    score: Callable[[np.ndarray, np.ndarray], float],
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The 95 % interval of score(truth, predicted), by drawing the samples again. What `score` raises of a draw (with a
    rare class: that it does not occur) ends it.

    >>> from cairn.foundations.metrics import mae
    >>> low, high = bootstrap_interval(mae, np.arange(50), np.arange(50) + 2.0, rng=np.random.default_rng(0))
    >>> low, high  # every error is 2: no draw differs
    (2.0, 2.0)
    """
    truth_N, predicted_N = same_length(truth, predicted)
    if draws < 1:
        raise ValueError(f"{draws} draws: at least 1 is needed, 1000 are usual")
    found = []
    for _ in range(draws):
        drawn_N = rng.integers(0, len(truth_N), len(truth_N))
        found.append(score(truth_N[drawn_N], predicted_N[drawn_N]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def chance_level(truth: ArrayLike) -> float:
    """The accuracy of whoever always says the most frequent class: what a classifier has to beat."""
    truth_N, _ = same_length(truth, truth)
    _, count_C = np.unique(truth_N, return_counts=True)
    return float(count_C.max() / count_C.sum())
