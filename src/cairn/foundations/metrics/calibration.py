"""Whether "80 %" happens in 80 % of the cases: the reliability curve and the expected calibration error.

Sort the samples into bins by the probability that was said, and compare the mean of what was said in a bin with the share
of what happened there. A perfect forecaster lies on the diagonal. One number for the whole curve is the mean distance from
it, weighted by the samples in a bin. Ranking and calibration are two things: squaring all probabilities changes no ROC
curve and ruins this one.

>>> said = [0.1] * 10 + [0.9] * 10
>>> happened = [0] * 9 + [1] + [1] * 6 + [0] * 4
>>> curve = reliability_curve(happened, said, bins=2)
>>> curve.happened, curve.said, curve.count
(array([0.1, 0.6]), array([0.1, 0.9]), array([10, 10]))
>>> round(expected_calibration_error(happened, said, bins=2), 3)
0.15

Checked against sklearn.calibration. Shapes: N samples, B bins that hold any.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import same_length

STRATEGIES = ("uniform", "quantile")


class Reliability(NamedTuple):
    """Of each bin that holds samples (B,): the share that happened, the mean that was said, and the number of samples."""

    happened: np.ndarray
    said: np.ndarray
    count: np.ndarray


def reliability_curve(
    truth: ArrayLike, probability: ArrayLike, bins: int = 10, strategy: str = "uniform"
) -> Reliability:
    """truth (N,): whether it happened (0 or 1); probability (N,): what was said of it.

    strategy: bins of equal width ("uniform"), or of equally many samples ("quantile").
    """
    truth_N, said_N = same_length(truth, probability)
    if not np.isin(truth_N, (0, 1)).all():
        raise ValueError("truth must be 0 or 1: for several classes give whether the most probable one was right")
    if said_N.ndim != 1 or not ((said_N >= 0) & (said_N <= 1)).all():
        raise ValueError("probability must be one number within 0 and 1 for each sample")
    if strategy not in STRATEGIES or bins < 1:
        raise ValueError(
            f"strategy {strategy!r} with {bins} bins: known are {', '.join(STRATEGIES)}, with 1 bin or more"
        )
    even = np.linspace(0, 1, bins + 1)
    edges = even if strategy == "uniform" else np.percentile(said_N, even * 100)
    bin_N = np.searchsorted(edges[1:-1], said_N)  # a value on an edge belongs to the lower bin
    count_B = np.bincount(bin_N, minlength=bins)
    filled_B = count_B > 0
    happened_B = np.bincount(bin_N, weights=truth_N, minlength=bins)[filled_B] / count_B[filled_B]
    said_B = np.bincount(bin_N, weights=said_N, minlength=bins)[filled_B] / count_B[filled_B]
    return Reliability(happened_B, said_B, count_B[filled_B])


def expected_calibration_error(
    truth: ArrayLike, probability: ArrayLike, bins: int = 10, strategy: str = "uniform"
) -> float:
    """Mean over the samples of |share that happened - mean that was said| in their bin (Naeini et al. 2015).

    For several classes give (predicted == truth) and the probability of the predicted class (Guo et al. 2017).
    """
    curve = reliability_curve(truth, probability, bins, strategy)
    return float(np.average(np.abs(curve.happened - curve.said), weights=curve.count))
