"""Losses by comparison: better than the others is enough, and by how much is a margin.

    hinge         max(0, 1 - y s): a support vector machine's; right by a margin of 1 costs nothing and moves nothing
    contrastive   pairs that belong together are pulled, pairs that do not are pushed until `margin` apart
    InfoNCE       of all partners in the batch, which is mine? a cross-entropy over similarities

>>> s_B = Tensor(np.array([2.0, 0.5, -1.0]), requires_grad=True)
>>> loss = hinge(s_B, np.array([1, 1, 1]))
>>> loss.backward()
>>> round(float(loss.data), 3), (s_B.grad * -3).round(6)  # (0 + 0.5 + 2) / 3, and the way up
(0.833, array([0., 1., 1.]))
"""

import numpy as np

from cairn.foundations.network.losses.classification import cross_entropy, one_hot
from cairn.foundations.network.losses.regression import same_shape
from cairn.foundations.tensor import Tensor, relu, sqrt


def hinge(scores: Tensor, signs: np.ndarray) -> Tensor:
    """Mean of max(0, 1 - sign * score) for signs of -1 and 1 (Cortes and Vapnik 1995)."""
    signs = same_shape(scores, signs)
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError("the hinge loss takes targets of -1 and 1")
    return relu(1 - scores * signs).mean()


def multiclass_hinge(scores_BC: Tensor, targets_B: np.ndarray) -> Tensor:
    """Every wrong class should score 1 less than the right one: torch.nn.functional.multi_margin_loss.

    Mean over the batch of sum_{j != y} max(0, 1 - s_y + s_j) / C.
    """
    rows, classes = scores_BC.shape
    targets_B = np.asarray(targets_B)
    if targets_B.shape != (rows,) or targets_B.dtype.kind not in "iu":
        raise ValueError(f"{rows} rows need ({rows},) targets of integers, got {targets_B.shape} of {targets_B.dtype}")
    right_BC = one_hot(targets_B, classes).astype(scores_BC.dtype)
    right_B1 = (scores_BC * right_BC).sum(axis=1, keepdims=True)
    return (relu(1 - right_B1 + scores_BC) * (1 - right_BC)).sum() / (rows * classes)


def contrastive(a_BD: Tensor, b_BD: Tensor, same_B: np.ndarray, margin: float = 1.0) -> Tensor:
    """Mean of d^2 for pairs of the same kind (same = 1) and of max(0, margin - d)^2 for others (same = 0), d the distance
    (Hadsell et al. 2006, without their factor 1/2).

    The gradient of max(0, margin - d)^2 is -2 (margin - d) (a - b) / d: a push along the line between them. The 1e-24 under
    the root keeps that finite where both are one point.
    """
    same_shape(a_BD, b_BD)
    difference = a_BD - b_BD
    square_B = (difference * difference).sum(axis=1)
    same_B = same_shape(square_B, same_B)
    gap_B = relu(margin - sqrt(square_B + 1e-24))
    return (square_B * same_B + gap_B * gap_B * (1 - same_B)).mean()


def info_nce(queries_BD: Tensor, keys_BD: Tensor, temperature: float = 0.1) -> Tensor:
    """Row i of the queries should be more like row i of the keys than like any other (van den Oord et al. 2018).

    Cosine similarities over the temperature are the logits of a cross-entropy, whose gradient p - q pulls a pair together
    and pushes each other key away by the probability it was given. Chance is log B.
    """
    same_shape(queries_BD, keys_BD)
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    logits_BB = _unit(queries_BD) @ _unit(keys_BD).T / temperature
    return cross_entropy(logits_BB, np.arange(len(logits_BB.data)))


def _unit(x_BD: Tensor) -> Tensor:
    return x_BD / sqrt((x_BD * x_BD).sum(axis=1, keepdims=True) + 1e-24)
