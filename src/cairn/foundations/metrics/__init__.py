"""Scores: how good predictions are, what guessing would reach, and how sure one can be of either. NumPy alone.

>>> accuracy([1, 0, 1, 1], [1, 0, 0, 1])
0.75
"""

from cairn.foundations.metrics.calibration import Reliability, expected_calibration_error, reliability_curve
from cairn.foundations.metrics.confusion import (
    ClassScores,
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    f1,
    matthews,
    precision,
    recall,
)
from cairn.foundations.metrics.intervals import bootstrap_interval, chance_level, proportion_interval
from cairn.foundations.metrics.probability import brier, log_loss
from cairn.foundations.metrics.ranking import (
    PrecisionRecallCurve,
    RocCurve,
    average_precision,
    precision_recall_curve,
    roc_auc,
    roc_auc_one_vs_rest,
    roc_curve,
)
from cairn.foundations.metrics.regression import mae, mse, r2, rmse

__all__ = [
    "ClassScores",
    "PrecisionRecallCurve",
    "Reliability",
    "RocCurve",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "bootstrap_interval",
    "brier",
    "chance_level",
    "class_scores",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "log_loss",
    "mae",
    "matthews",
    "mse",
    "precision",
    "precision_recall_curve",
    "proportion_interval",
    "r2",
    "recall",
    "reliability_curve",
    "rmse",
    "roc_auc",
    "roc_auc_one_vs_rest",
    "roc_curve",
]
