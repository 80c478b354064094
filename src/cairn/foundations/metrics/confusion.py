"""Which classes are taken for which: the confusion matrix, and every score that is read off it.

Row i, column j counts the samples of class i that were called j; the diagonal is what was right. Its row sums are how
often a class is there, its column sums how often it is said, and all scores here are ratios of the three:

- recall: of those that are there, the share that was found (diagonal / row sum);
- precision: of those that were said, the share that is right (diagonal / column sum);
- F1: their harmonic mean, 2 diagonal / (row sum + column sum), which is small when either is.

Accuracy alone deceives where classes are rare: a test that never finds the one ill patient in ten is right for 90 %.

>>> truth, never = [0] * 9 + [1], [0] * 10
>>> accuracy(truth, never), balanced_accuracy(truth, never), recall(truth, never)
(0.9, 0.5, 0.0)
>>> confusion_matrix(["cat", "cat", "dog"], ["cat", "dog", "dog"])
array([[1, 1],
       [0, 1]])

Checked against sklearn.metrics. Shapes: N samples, C classes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import as_weights, class_numbers, same_labels

AVERAGES = ("binary", "micro", "macro", "weighted")


class ClassScores(NamedTuple):
    """Scores of each class (C,), and how often it is there (counts, or sums of weights)."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, classes: ArrayLike | None = None, weights: ArrayLike | None = None
) -> np.ndarray:
    """(C, C): samples of class i that were called j; counts, or sums of weights.

    classes: which, and in which order; by default all that occur, sorted. Samples of others are left out.
    """
    truth_N, predicted_N = same_labels(truth, predicted)
    classes_C = np.union1d(truth_N, predicted_N) if classes is None else _chosen(classes, truth_N)
    row_N, column_N = class_numbers(truth_N, classes_C), class_numbers(predicted_N, classes_C)
    known_N = (row_N >= 0) & (column_N >= 0)
    cell_N, size = (row_N * len(classes_C) + column_N)[known_N], len(classes_C)
    # bincount adds up a weight for every cell number; without weights it counts
    chosen_N = None if weights is None else as_weights(weights, len(truth_N))[known_N]
    return np.bincount(cell_N, weights=chosen_N, minlength=size * size).reshape(size, size)


def accuracy(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The share of samples that are right."""
    truth_N, predicted_N = same_labels(truth, predicted)
    return float(np.average(truth_N == predicted_N, weights=as_weights(weights, len(truth_N))))


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean recall of the classes that are there: 1 / C for whoever guesses, however rare some classes are."""
    matrix_CC = confusion_matrix(truth, predicted, weights=weights)
    there_C = matrix_CC.sum(axis=1)
    return float((matrix_CC.diagonal()[there_C > 0] / there_C[there_C > 0]).mean())


def precision(truth: ArrayLike, predicted: ArrayLike, average: str = "binary", **options: Any) -> float:
    """Of the samples that were called a class, the share that belongs to it. Arguments as of `f1`."""
    return _score("precision", truth, predicted, average, **options)


def recall(truth: ArrayLike, predicted: ArrayLike, average: str = "binary", **options: Any) -> float:
    """Of the samples of a class, the share that was called so. Arguments as of `f1`."""
    return _score("recall", truth, predicted, average, **options)


def f1(truth: ArrayLike, predicted: ArrayLike, average: str = "binary", **options: Any) -> float:
    """The harmonic mean of precision and recall.

    average: "binary" (of the class `positive` alone), "macro" (mean over the classes), "weighted" (by how often each is
    there), "micro" (all counts added up first: the accuracy, where every class counts).
    Options: positive=1; classes=, those that count; weights=; zero_division=0.0, the value of 0 / 0, as of the precision
    of a class that was never said. With NaN such classes are left out of the mean.

    >>> f1([0, 1, 2, 2], [0, 2, 2, 2], average="macro")
    0.6
    """
    return _score("f1", truth, predicted, average, **options)


def class_scores(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> ClassScores:
    """Precision, recall and F1 of each class.

    >>> class_scores([0, 1, 2, 2], [0, 2, 2, 2]).recall
    array([1., 0., 1.])
    """
    return _ratios(_counts(truth, predicted, classes, weights), zero_division)


def matthews(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The correlation of what is said with what is there, over one-hot vectors: 1 is perfect, 0 is chance.

    Of two classes it reaches -1; 0 where either side is always the same (Matthews 1975; Gorodkin 2004 for more classes).
    """
    matrix_CC = confusion_matrix(truth, predicted, weights=weights).astype(np.float64)
    there_C, said_C, total = matrix_CC.sum(axis=1), matrix_CC.sum(axis=0), matrix_CC.sum()
    covariance = matrix_CC.trace() * total - there_C @ said_C
    spread = (total**2 - there_C @ there_C) * (total**2 - said_C @ said_C)
    varied = min(np.count_nonzero(there_C), np.count_nonzero(said_C)) > 1
    return float(covariance / np.sqrt(spread)) if varied else 0.0


def _chosen(classes: ArrayLike, truth_N: np.ndarray) -> np.ndarray:
    classes_C = np.asarray(classes)
    if classes_C.ndim != 1 or len(classes_C) == 0 or len(np.unique(classes_C)) < len(classes_C):
        raise ValueError(f"classes={classes_C.tolist()}: name one or more, each of them once")
    if (classes_C.dtype.kind in "US") != (truth_N.dtype.kind in "US"):
        raise ValueError(f"classes={classes_C.tolist()} are not of the kind of the true ones: either names or numbers")
    return classes_C


def _counts(truth: ArrayLike, predicted: ArrayLike, wanted: ArrayLike | None, weights: ArrayLike | None) -> np.ndarray:
    """(3, C): how often each class was right, is there, was said."""
    truth_N, predicted_N = same_labels(truth, predicted)
    every_C = np.union1d(truth_N, predicted_N)
    matrix_CC = confusion_matrix(truth_N, predicted_N, every_C, weights)
    counts_3C = np.stack([matrix_CC.diagonal(), matrix_CC.sum(axis=1), matrix_CC.sum(axis=0)]).astype(np.float64)
    if wanted is None:
        return counts_3C
    number_C = class_numbers(_chosen(wanted, truth_N), every_C)
    return np.where(number_C >= 0, counts_3C[:, number_C], 0.0)  # of a class that never occurs


def _ratios(counts_3C: np.ndarray, zero_division: float) -> ClassScores:
    right_C, there_C, said_C = counts_3C

    def ratio(part_C: np.ndarray, whole_C: np.ndarray) -> np.ndarray:
        return np.where(whole_C > 0, part_C / np.where(whole_C > 0, whole_C, 1), zero_division)

    return ClassScores(ratio(right_C, said_C), ratio(right_C, there_C), ratio(2 * right_C, there_C + said_C), there_C)


def _score(
    name: str,
    truth: ArrayLike,
    predicted: ArrayLike,
    average: str,
    *,
    positive: Any = 1,
    classes: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> float:
    if average not in AVERAGES:
        raise ValueError(f"average {average!r} is unknown; known: {', '.join(AVERAGES)}")
    if average == "binary":
        found = np.union1d(*same_labels(truth, predicted))
        if len(found) > 2:
            raise ValueError(f"{len(found)} classes: choose an average of macro, weighted or micro")
        of_one_kind = isinstance(positive, str) == (found.dtype.kind in "US")
        if not of_one_kind or (len(found) == 2 and positive not in found):
            raise ValueError(f"the class positive={positive!r} does not occur; these do: {found.tolist()}")
        classes = [positive]
    counts_3C = _counts(truth, predicted, classes, weights)
    if average == "micro":
        counts_3C = counts_3C.sum(axis=1, keepdims=True)
    scores = _ratios(counts_3C, zero_division)
    value_C, share_C = getattr(scores, name), scores.support if average == "weighted" else np.ones(counts_3C.shape[1])
    defined_C = ~np.isnan(value_C)
    if not defined_C.any():
        return float("nan")
    value_C, share_C = value_C[defined_C], share_C[defined_C]
    return float(np.average(value_C, weights=share_C if share_C.sum() > 0 else None))
