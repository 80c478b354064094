"""How far predicted numbers are from true ones: MSE, RMSE, MAE and R2.

Which error a model makes small decides what it predicts: the mean is best for squared errors, the median for absolute
ones, so one outlier moves the first and not the second. R2 compares with the simplest model there is, the mean of the true
values: 0 is as good as it, 1 is perfect, and below 0 it would have been better to predict the mean.

>>> truth, predicted = [1, 2, 3, 10], [1, 2, 3, 4]
>>> mse(truth, predicted), rmse(truth, predicted), mae(truth, predicted), r2(truth, predicted)
(9.0, 3.0, 1.5, 0.28)

All take (N,), or (N, K) for K numbers a sample, whose scores are averaged. Checked against sklearn.metrics.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import as_weights, same_length


def mse(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean squared error, in squared units of the values."""
    error_NK, weight_N, _ = _errors(truth, predicted, weights)
    return float(np.average(error_NK**2, axis=0, weights=weight_N).mean())


def rmse(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Root of the mean squared error, in units of the values (of each of K, then averaged)."""
    error_NK, weight_N, _ = _errors(truth, predicted, weights)
    return float(np.sqrt(np.average(error_NK**2, axis=0, weights=weight_N)).mean())


def mae(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean absolute error, in units of the values."""
    error_NK, weight_N, _ = _errors(truth, predicted, weights)
    return float(np.average(np.abs(error_NK), axis=0, weights=weight_N).mean())


def r2(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """1 - squared error / squared error of the mean. Of values that are all alike: 1 if predicted exactly, else 0.

    NaN for a single sample, of which there is no spread.
    """
    error_NK, weight_N, truth_NK = _errors(truth, predicted, weights)
    if len(error_NK) < 2:
        return float("nan")
    left_K = weight_N @ error_NK**2
    total_K = weight_N @ (truth_NK - np.average(truth_NK, axis=0, weights=weight_N)) ** 2
    varied_K = (
        np.ptp(truth_NK[weight_N > 0], axis=0) > 0
    )  # exactly: a weighted mean of equal values may be off by a rounding
    share_K = np.where(varied_K, left_K / np.where(varied_K, total_K, 1), (left_K > 0).astype(float))
    return float((1 - share_K).mean())


def _errors(
    truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (N, K), weights (N,), true values (N, K)."""
    truth_NK, predicted_NK = same_length(truth, predicted)
    if truth_NK.shape != predicted_NK.shape:
        raise ValueError(
            f"true values of shape {truth_NK.shape}, predicted ones of {predicted_NK.shape}: both must be alike, "
            "since NumPy would compare every one with every other"
        )
    shape = (len(truth_NK), -1)
    truth_NK, predicted_NK = (array.astype(np.float64).reshape(shape) for array in (truth_NK, predicted_NK))
    for name, array in (("true", truth_NK), ("predicted", predicted_NK)):
        if not np.isfinite(array).all():
            at = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(f"the {name} value of sample {at[0]} is {array[tuple(at)]}: a number is needed")
    return truth_NK - predicted_NK, as_weights(weights, len(truth_NK)), truth_NK
