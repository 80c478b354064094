"""How sure a fit is: the same fit on many resamplings of the runs.

Resamplings are weights. Drawing runs with replacement gives each a count (Efron 1979); drawing exponential weights instead
(the Bayesian bootstrap, Rubin 1981) has the same spread, and no sample in which a whole size or token count is missing, with
which a law of few runs could not be fitted at all.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cairn.core.stats import Z95


@dataclass(frozen=True)
class Estimate:
    """A fitted number with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def run_weights(draws: int, runs: int, seed: int) -> np.ndarray:
    """(draws, runs): exponential weights with mean 1 in each draw."""
    weights = np.random.default_rng([seed, 17]).exponential(size=(draws, runs))
    return weights * (runs / weights.sum(1, keepdims=True))


def run_choices(draws: int, runs: int, seed: int) -> np.ndarray:
    """(draws, runs): whether a run is among those drawn with replacement. For what looks at single runs (an envelope)."""
    picks = np.random.default_rng([seed, 19]).integers(0, runs, (draws, runs))
    chosen = np.zeros((draws, runs), dtype=bool)
    np.put_along_axis(chosen, picks, True, axis=1)
    return chosen


def student95(freedom: float) -> float:
    """Student's two-sided 95 % quantile, by the expansion around the normal one (Abramowitz & Stegun 26.7.5).

    >>> round(student95(5), 2), round(student95(1000), 3)
    (2.57, 1.962)
    """
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))


def interval(samples: np.ndarray, runs: int, fitted: int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (low, high) over the first axis of `samples`, for a fit of `fitted` parameters to `runs` runs.

    A bootstrap is too sure by the factor sqrt(n / (n - k)) and knows no Student's t. Percentiles further out make up for
    both (the expanded percentile interval, Hesterberg 2015). Samples that are not finite are left out.
    """
    freedom = max(runs - fitted, 1)
    tail = NormalDist().cdf(-math.sqrt(runs / freedom) * student95(freedom))
    clean = np.where(np.isfinite(samples), samples, np.nan)
    low, high = np.nanquantile(clean, [tail, 1 - tail], axis=0)
    return low, high


def estimate(value: float, samples: np.ndarray, runs: int, fitted: int) -> Estimate:
    low, high = interval(samples, runs, fitted)
    return Estimate(float(value), float(low), float(high))
