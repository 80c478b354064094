"""What every metric asks of its arguments: one row a sample, as many in each, and weights that can be weights.

A weight says how much a sample counts: a sample of weight 3 is worth three equal ones of weight 1.

>>> same_length([1, 0, 1], [1, 1])
Traceback (most recent call last):
...
ValueError: 3 true values but 2 predicted ones: give one of each for every sample
>>> as_weights([1, 2, 1], 3)
array([1., 2., 1.])

Shapes: N samples, C classes.
"""

import numpy as np
from numpy.typing import ArrayLike


def same_length(truth: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, with N of the first axis alike and above 0."""
    truth_N, predicted_N = np.asarray(truth), np.asarray(predicted)
    if truth_N.ndim == 0 or predicted_N.ndim == 0:
        raise ValueError("a metric compares lists of values: a single number was given")
    if len(truth_N) != len(predicted_N):
        raise ValueError(
            f"{len(truth_N)} true values but {len(predicted_N)} predicted ones: give one of each for every sample"
        )
    if len(truth_N) == 0:
        raise ValueError("there are no samples: a metric needs at least one")
    return truth_N, predicted_N


def same_labels(truth: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as classes (N,) of one kind: a column (N, 1) beside a row (N,) would be every pair of samples to NumPy."""
    truth_N, predicted_N = same_length(truth, predicted)
    if truth_N.ndim != 1 or predicted_N.ndim != 1:
        raise ValueError(
            f"true classes of shape {truth_N.shape}, predicted ones of {predicted_N.shape}: give one class for each "
            "sample (of probabilities, the most probable: argmax(axis=1))"
        )
    if (truth_N.dtype.kind in "US") != (predicted_N.dtype.kind in "US"):
        raise ValueError("true and predicted classes must be of one kind: either names or numbers")
    return truth_N, predicted_N


def as_weights(weights: ArrayLike | None, samples: int) -> np.ndarray:
    """(N,) float64; all 1 where none are given."""
    if weights is None:
        return np.ones(samples)
    weights_N = np.asarray(weights, dtype=np.float64)
    if weights_N.shape != (samples,):
        raise ValueError(f"weights of shape {weights_N.shape} for {samples} samples: give one number for each")
    if not np.isfinite(weights_N).all() or (weights_N < 0).any() or weights_N.sum() == 0:
        raise ValueError("weights must be finite, none below 0, and not all 0")
    return weights_N


def class_numbers(values: np.ndarray, classes_C: np.ndarray) -> np.ndarray:
    """Where each value stands in `classes_C`, in any order; -1 where it does not."""
    order_C = np.argsort(classes_C, kind="stable")
    place_N = np.searchsorted(classes_C, values, sorter=order_C).clip(max=len(classes_C) - 1)
    number_N = order_C[place_N]
    return np.where(classes_C[number_N] == values, number_N, -1)


def probability_table(truth: ArrayLike, probability: ArrayLike, classes: ArrayLike | None) -> tuple[np.ndarray, ...]:
    """One-hot truth (N, C) and probabilities (N, C), columns in the sorted order of the classes.

    probability (N,) is that of the later of two classes. classes: where not all of them occur in truth.
    """
    truth_N, table_NC = same_length(truth, probability)
    table_NC = table_NC.astype(np.float64)
    if truth_N.ndim != 1 or table_NC.ndim > 2:
        raise ValueError(
            f"true classes of shape {truth_N.shape}, probabilities of {table_NC.shape}: give (N,), and (N,) or (N, classes)"
        )
    if table_NC.ndim == 1:
        table_NC = np.stack([1 - table_NC, table_NC], axis=1)
    if not ((table_NC >= 0) & (table_NC <= 1)).all():
        raise ValueError("probabilities must be within 0 and 1: scores have to pass a sigmoid or a softmax first")
    if np.abs(table_NC.sum(axis=1) - 1).max() > 1e-6:
        raise ValueError("the probabilities of a sample must sum to 1: divide each row by its sum")
    classes_C = np.unique(truth_N if classes is None else np.asarray(classes))
    if len(classes_C) != table_NC.shape[1]:
        raise ValueError(
            f"{table_NC.shape[1]} columns of probabilities but {len(classes_C)} classes: name all of them with classes="
        )
    number_N = class_numbers(truth_N, classes_C)
    if (number_N < 0).any():
        raise ValueError(f"{truth_N[number_N < 0][0]!r} is among the true values but not among classes")
    return np.eye(len(classes_C))[number_N], table_NC
