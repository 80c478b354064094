"""Scores with what makes them honest: chance level, number of items, 95 % interval."""

import math
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """A share of successes among n, with the share that guessing reaches and a 95 % interval."""

    score: float
    chance: float
    n: int
    low: float
    high: float


def wilson(successes: int, n: int, chance: float) -> Score:
    """A proportion with Wilson's interval, which stays inside [0, 1] and is right for small n (Wilson 1927).

    >>> wilson(8, 10, 0.25)
    Score(score=0.8, chance=0.25, n=10, low=0.4902, high=0.9433)
    """
    if n == 0:
        return Score(0.0, chance, 0, 0.0, 1.0)
    p, z2 = successes / n, Z95**2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Score(p, chance, n, round(max(0.0, center - half), 4), round(min(1.0, center + half), 4))


def mean_score(scores: list[Score]) -> Score:
    """The unweighted mean of independent scores, with the normal interval of their summed variances."""
    k = len(scores)
    value = sum(s.score for s in scores) / k
    variance = sum(s.score * (1 - s.score) / s.n for s in scores if s.n) / k**2
    half = Z95 * math.sqrt(variance)
    chance = sum(s.chance for s in scores) / k
    return Score(
        value, chance, sum(s.n for s in scores), round(max(0.0, value - half), 4), round(min(1.0, value + half), 4)
    )
