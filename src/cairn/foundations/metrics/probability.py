"""How good probabilities are, not only the decisions made from them: log-loss and Brier score.

Both are proper: nobody can do better on average than by saying what he believes. Log-loss is the surprise, in nats, at
what happened, and has no upper bound: one sample called impossible outweighs thousands. The Brier score is the squared
distance to what happened; certain and wrong costs 1 (of two classes), not infinity.

>>> honest, boastful = [0.75, 0.75, 0.75, 0.75], [0.999, 0.999, 0.999, 0.999]
>>> truth = [1, 1, 1, 0]
>>> round(log_loss(truth, honest), 3), round(log_loss(truth, boastful), 3)
(0.562, 1.728)
>>> round(brier(truth, honest), 4), round(brier(truth, boastful), 4)
(0.1875, 0.2495)

Checked against sklearn.metrics. Shapes: N samples, C classes.
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.metrics.arrays import as_weights, probability_table

# A probability of exactly 0 for what happened is an infinite loss; so small is what float64 can tell from it near 1.
EPSILON = np.finfo(np.float64).eps


def log_loss(
    truth: ArrayLike, probability: ArrayLike, classes: ArrayLike | None = None, weights: ArrayLike | None = None
) -> float:
    """Mean of -ln p(what happened). probability: (N, C), or (N,) of the later of two classes in sorted order."""
    one_hot_NC, table_NC = probability_table(truth, probability, classes)
    surprise_N = -np.sum(one_hot_NC * np.log(table_NC.clip(EPSILON, 1 - EPSILON)), axis=1)
    return float(np.average(surprise_N, weights=as_weights(weights, len(surprise_N))))


def brier(
    truth: ArrayLike, probability: ArrayLike, classes: ArrayLike | None = None, weights: ArrayLike | None = None
) -> float:
    """Mean squared distance of the probabilities to what happened, between 0 and 1 for two classes (there it is halved,
    the distance of p alone), up to 2 for more (Brier 1950)."""
    one_hot_NC, table_NC = probability_table(truth, probability, classes)
    distance_N = np.sum((table_NC - one_hot_NC) ** 2, axis=1)
    if table_NC.shape[1] == 2:
        distance_N = distance_N / 2
    return float(np.average(distance_N, weights=as_weights(weights, len(distance_N))))
