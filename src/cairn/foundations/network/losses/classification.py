"""Losses for classes: how surprised was the network by the right answer?

A network gives a score for each class (logits z); the softmax makes probabilities p_i = e^z_i / sum_j e^z_j of them. The
surprise at class y is -log p_y = -z_y + log sum_j e^z_j. Its gradient is as simple as it could be:

    d(-log p_y) / dz_i = e^z_i / sum_j e^z_j - [i = y] = p_i - [i = y]

what was said less what was right. With targets q in place of one class it is p - q. For two classes and one score the softmax
becomes the sigmoid p = 1 / (1 + e^-z), and the gradient is p - y again. Going by logits rather than by probabilities is not
only simpler: log sum e^z never takes the log of 0.

>>> z_BC = Tensor(np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]]), requires_grad=True)
>>> y_B = np.array([0, 2])
>>> cross_entropy(z_BC, y_B).backward()
>>> p_BC = np.exp(z_BC.data) / np.exp(z_BC.data).sum(axis=1, keepdims=True)
>>> bool(np.allclose(z_BC.grad, (p_BC - np.eye(3)[y_B]) / 2))
True
"""

import numpy as np

from cairn.foundations.network.losses.regression import same_shape
from cairn.foundations.tensor import Tensor, log, log_softmax, maximum, sigmoid, softplus


def cross_entropy(
    logits: Tensor,
    targets: np.ndarray,
    label_smoothing: float = 0.0,
    weights_C: np.ndarray | None = None,
    ignore: int = -100,
) -> Tensor:
    """logits (..., C); targets: classes (...), or probabilities (..., C). Equal to torch.nn.functional.cross_entropy.

    label_smoothing mixes that share of the even distribution into each target: the network is never asked for certainty.
    weights_C: how much each class counts; the mean is over the weights of the targets. Targets equal to `ignore` (padding)
    count nothing. ValueError: a class that does not exist, or nothing but ignored targets.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label smoothing is a share from 0 to 1, got {label_smoothing}")
    classes = logits.shape[-1]
    targets = np.asarray(targets)
    weights_C = np.ones(classes) if weights_C is None else np.asarray(weights_C)
    if weights_C.shape != (classes,):
        raise ValueError(f"{classes} classes need {classes} weights, got shape {weights_C.shape}")
    if targets.shape == logits.shape:
        counted, wanted_NC = np.ones(logits.shape[:-1]), targets
        total = float(counted.size)
    elif targets.shape == logits.shape[:-1] and targets.dtype.kind in "iu":
        counted = targets != ignore
        wanted_NC = one_hot(np.where(counted, targets, 0), classes)
        total = float((wanted_NC @ weights_C * counted).sum())
    else:
        raise ValueError(
            f"logits {logits.shape} need targets {logits.shape[:-1]} of integers, or probabilities {logits.shape}; "
            f"got {targets.shape} of {targets.dtype}"
        )
    if total <= 0:
        raise ValueError("no target counts: all are ignored, or of weight 0")
    # All of the above comes down to how much each log-probability counts: one constant matrix.
    wanted_NC = (1 - label_smoothing) * wanted_NC + label_smoothing / classes
    share_NC = wanted_NC * weights_C * counted[..., None] / -total
    return (log_softmax(logits, axis=-1) * share_NC.astype(logits.dtype)).sum()


def one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    """Classes (...) -> (..., C): 1 at the right class, 0 elsewhere. ValueError: a class that does not exist."""
    if ((targets < 0) | (targets >= classes)).any():
        raise ValueError(f"targets are from 0 to {classes - 1}, got {targets.min()} to {targets.max()}")
    found = np.zeros((*targets.shape, classes))
    np.put_along_axis(found, targets[..., None], 1.0, axis=-1)
    return found


def binary_cross_entropy_with_logits(logits: Tensor, targets: np.ndarray) -> Tensor:
    """-y log p - (1 - y) log(1 - p) with p = sigmoid(z): torch's function of that name.

    log p = z - softplus(z) and log(1 - p) = -softplus(z), so the sum is softplus(z) - y z.
    """
    targets = same_shape(logits, targets)
    return (softplus(logits) - logits * targets).mean()


def binary_cross_entropy(probabilities: Tensor, targets: np.ndarray) -> Tensor:
    """The same of probabilities: torch.nn.functional.binary_cross_entropy, which bounds each log below by -100 as well."""
    targets = same_shape(probabilities, targets)
    tiny = np.exp(-100.0)
    right = log(maximum(probabilities, tiny)) * targets
    return -(right + log(maximum(1 - probabilities, tiny)) * (1 - targets)).mean()


def focal(logits: Tensor, targets: np.ndarray, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary cross-entropy in which easy examples fade: alpha_y (1 - p_y)^gamma (-log p_y), p_y the probability of what is
    right (Lin et al. 2017; torchvision.ops.sigmoid_focal_loss with reduction="mean").

    Where 1 of 1000 is positive, the 999 easy negatives would decide the gradient; at p_y = 0.9 and gamma = 2 each counts a
    hundredth. alpha is the weight of positives, 1 - alpha that of negatives; gamma = 0 gives the weighted cross-entropy.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}: easy examples would count most")
    targets = same_shape(logits, targets)
    surprise = softplus(logits) - logits * targets
    p = sigmoid(logits)
    wrong = p * (1 - targets) + (1 - p) * targets
    if gamma < 1:  # the slope of wrong^gamma at 0 is infinite
        wrong = maximum(wrong, np.finfo(logits.dtype).tiny)
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return (surprise * wrong**gamma * balance).mean()


def kl_divergence(log_predicted: Tensor, target: np.ndarray) -> Tensor:
    """KL(target || predicted) = sum of q (log q - log p) over the last axis, mean over the rest: how many nats more it takes
    to describe what follows `target` with a code made for `predicted`.

    log_predicted (..., C): log-probabilities, as `log_softmax` gives them; target (..., C): probabilities.
    torch.nn.functional.kl_div with reduction="batchmean", where there is one axis beside C.
    """
    target = same_shape(log_predicted, target)
    rows = log_predicted.size // log_predicted.shape[-1]
    entropy = -(target * np.log(np.where(target > 0, target, 1.0))).sum() / rows  # 0 log 0 is 0
    return -(log_predicted * target).sum() / rows - float(entropy)
