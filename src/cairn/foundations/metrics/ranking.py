"""How well scores put one class before the other: ROC and precision-recall curves, and the areas under them.

A score becomes a decision by a threshold, and each threshold has its own confusion matrix. A curve walks through all of
them: sort by falling score, and count the right and the false alarms as the threshold sinks below one sample after the
other. Samples of equal score pass together, since no threshold can part them.

The area under the ROC curve is a probability: that a sample of the class has a higher score than one that is not, ties
counting half. 0.5 is chance whatever the shares of the classes. Average precision is the precision at each threshold,
averaged over the recall that is gained there; its chance level is the share of the class, so it says more where the
class is rare.

>>> truth, score = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
>>> roc_auc(truth, score)  # of the four pairs, three are in order
0.75
>>> round(average_precision(truth, score), 4)
0.8333

Checked against sklearn.metrics. Shapes: N samples, C classes, K thresholds.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import as_weights, class_numbers, same_length


class RocCurve(NamedTuple):
    """(K + 1,) each, from "no alarm at all" at an infinite threshold to "always"."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall (K + 1,) by rising thresholds (K,), and at the end the point of no alarm, (1, 0)."""

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


def roc_curve(truth: ArrayLike, score: ArrayLike, positive: Any = 1, weights: ArrayLike | None = None) -> RocCurve:
    """False and true positive rates at every threshold. NaN where a class does not occur."""
    right_K, false_K, threshold_K = _alarms(truth, score, positive, weights)
    with np.errstate(invalid="ignore"):
        rates = [np.append(0.0, alarms_K) / alarms_K[-1] for alarms_K in (false_K, right_K)]
    return RocCurve(rates[0], rates[1], np.append(np.inf, threshold_K))


def roc_auc(truth: ArrayLike, score: ArrayLike, positive: Any = 1, weights: ArrayLike | None = None) -> float:
    """The area under the ROC curve, by trapezoids: a tie is a slope, and counts half."""
    truth_N, _ = same_length(truth, score)
    if len(np.unique(truth_N)) < 2:
        raise ValueError("only one class occurs: the area under a ROC curve compares two")
    if not (truth_N == positive).any():
        raise ValueError(f"no sample is of the class positive={positive!r}: name the one that high scores stand for")
    curve = roc_curve(truth, score, positive, weights)
    return float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate))


def roc_auc_one_vs_rest(
    truth: ArrayLike, score: ArrayLike, classes: ArrayLike | None = None, average: str = "macro"
) -> float:
    """The areas of each class against all others, averaged; score (N, C), columns in the sorted order of the classes.

    average: "macro", or "weighted" by how often a class is there.

    >>> roc_auc_one_vs_rest([0, 1, 2], [[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
    1.0
    """
    truth_N, score_NC = same_length(truth, score)
    classes_C = np.unique(truth_N if classes is None else np.asarray(classes))
    if score_NC.ndim != 2 or score_NC.shape[1] != len(classes_C):
        raise ValueError(
            f"scores of shape {score_NC.shape} for {len(classes_C)} classes: one column for each is needed"
        )
    if average not in ("macro", "weighted"):
        raise ValueError(f"average {average!r} is unknown; known: macro, weighted")
    number_N = class_numbers(truth_N, classes_C)
    area_C = [roc_auc(number_N == c, score_NC[:, c]) for c in range(len(classes_C))]
    share_C = np.bincount(number_N, minlength=len(classes_C)) if average == "weighted" else None
    return float(np.average(area_C, weights=share_C))


def precision_recall_curve(
    truth: ArrayLike, score: ArrayLike, positive: Any = 1, weights: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """Precision and recall at every threshold."""
    right_K, false_K, threshold_K = _alarms(truth, score, positive, weights)
    if right_K[-1] == 0:
        raise ValueError(f"no sample is of the class positive={positive!r}: there is nothing to find")
    all_K = right_K + false_K
    precision_K = np.where(all_K > 0, right_K / np.where(all_K > 0, all_K, 1), 0.0)  # 0 / 0 by samples of weight 0
    recall_K = right_K / right_K[-1]
    return PrecisionRecallCurve(np.append(precision_K[::-1], 1.0), np.append(recall_K[::-1], 0.0), threshold_K[::-1])


def average_precision(truth: ArrayLike, score: ArrayLike, positive: Any = 1, weights: ArrayLike | None = None) -> float:
    """The sum of precision times the recall gained, over the thresholds. Steps, not trapezoids: between two thresholds
    there is no decision rule, and a straight line between two points of this curve would promise one."""
    curve = precision_recall_curve(truth, score, positive, weights)
    return float(max(0.0, -np.sum(np.diff(curve.recall) * curve.precision[:-1])))


def _alarms(
    truth: ArrayLike, score: ArrayLike, positive: Any, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of right and of false alarms at each distinct score taken as threshold, by falling threshold: (K,) each."""
    truth_N, score_N = same_length(truth, score)
    if truth_N.ndim != 1:
        raise ValueError(f"true classes of shape {truth_N.shape}: give one for each sample, (N,)")
    if score_N.ndim != 1 or not np.isfinite(score_N).all():
        raise ValueError("a curve takes one finite score a sample, higher for more likely of the class")
    if len(np.unique(truth_N)) > 2:
        raise ValueError("more than two classes: give truth == the class that counts, or use roc_auc_one_vs_rest")
    order_N = np.argsort(-score_N, kind="stable")
    score_N, weight_N = score_N[order_N], as_weights(weights, len(truth_N))[order_N]
    there_N = (truth_N == positive)[order_N]
    last_K = np.append(np.flatnonzero(np.diff(score_N)), len(score_N) - 1)  # of each group of equal scores
    right_K = np.cumsum(weight_N * there_N)[last_K]
    false_K = np.cumsum(weight_N * ~there_N)[last_K]
    return right_K, false_K, score_N[last_K]
