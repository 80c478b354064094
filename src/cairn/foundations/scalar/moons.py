"""Two moons: the smallest data that no straight line divides, and a network of single numbers that learns to.

Two half circles lie in each other's mouth. A score s(x) is asked of the network, above 0 for the one (y = 1) and below
for the other (y = -1), and the loss says how far it is from that:

- hinge: max(0, 1 - y s), nothing left to learn once every point is on its side with a margin of 1 (as in an SVM);
- logistic: log(1 + exp(-y s)), the cross-entropy of the probability sigmoid(s); it never quite ends.

L2, a small cost on each squared weight, keeps the boundary smooth. Gradient descent with momentum does the rest.

>>> x_N2, y_N = two_moons(100, 0.1, np.random.default_rng(0))
>>> model, record = train(x_N2, y_N, steps=60, seed=0)
>>> record[-1].loss < record[0].loss / 2
True
>>> accuracy(model, x_N2, y_N) > 0.9
True

Shapes: N points.
"""

import math
from typing import NamedTuple

import numpy as np

from cairn.foundations.scalar.network import MLP
from cairn.foundations.scalar.value import Value, zero_grad

LOSSES = ("hinge", "logistic")


def two_moons(count: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points x (N, 2) and sides y (N), 1 or -1 in turn; `noise` is the standard deviation around the half circles.

    The upper moon is a half circle of radius 1 around (0, 0), the lower one around (1, 0.5).
    """
    y_N = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    angle_N = rng.uniform(0.0, np.pi, count)
    upper_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    x_N2 = np.where(y_N[:, None] > 0, upper_N2, (1.0, 0.5) - upper_N2)
    return x_N2 + rng.normal(0.0, noise, x_N2.shape), y_N


class Step(NamedTuple):
    """What one step of training saw, on its batch and before it moved."""

    loss: float  # of the data and of the squared weights
    accuracy: float  # share of the batch on the right side


def batch_loss(model: MLP, x_N2: np.ndarray, y_N: np.ndarray, kind: str, l2: float) -> tuple[Value, float]:
    """Mean loss of the points plus l2 times the sum of squared parameters; and the share on the right side."""
    total, right = Value(0.0), 0
    for x, y in zip(x_N2, y_N):
        against = model(x)[0] * -y  # above 0: on the wrong side
        total = total + ((against + 1.0).relu() if kind == "hinge" else against.softplus())
        right += against.data < 0.0
    weights = Value(0.0)
    for parameter in model.parameters():
        weights = weights + parameter * parameter
    return total / len(y_N) + weights * l2, right / len(y_N)


def train(
    x_N2: np.ndarray,
    y_N: np.ndarray,
    *,
    hidden: tuple[int, ...] = (16,),
    loss: str = "hinge",
    l2: float = 1e-4,
    rate: float = 0.4,
    momentum: float = 0.9,
    steps: int = 300,
    batch: int = 20,
    seed: int = 0,
) -> tuple[MLP, list[Step]]:
    """Stochastic gradient descent with momentum; its rate falls in a line from `rate` to a tenth of it.

    ValueError: an unknown loss, no points, points or sides that are none, a batch below 1, or a loss that grew beyond all
    floats.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: choose one of {', '.join(LOSSES)}")
    if not len(x_N2):
        raise ValueError("there are no points to learn from: give at least one")
    if x_N2.ndim != 2 or x_N2.shape[1] != 2 or y_N.shape != (len(x_N2),):
        raise ValueError(f"x has shape {x_N2.shape}, y {y_N.shape}: give points (N, 2) and a side for each (N,)")
    if not np.isin(y_N, (-1.0, 1.0)).all():
        raise ValueError("y holds other numbers than 1 and -1: name the sides so, for instance by 2 * label - 1")
    if batch < 1:
        raise ValueError(f"batch is {batch}: give at least 1 point a step")
    rng = np.random.default_rng(seed)
    model = MLP([2, *hidden, 1], rng)
    parameters, record = model.parameters(), []
    velocities = [0.0] * len(parameters)
    for step in range(steps):
        chosen = rng.permutation(len(x_N2))[:batch]
        result, share = batch_loss(model, x_N2[chosen], y_N[chosen], loss, l2)
        if not math.isfinite(result.data):
            raise ValueError(f"the loss is {result.data} at step {step}: lower the rate, {rate:g}")
        zero_grad(parameters)
        result.backward()
        now = rate * (1.0 - 0.9 * step / steps)
        for i, parameter in enumerate(parameters):
            velocities[i] = momentum * velocities[i] + parameter.grad
            parameter.data -= now * velocities[i]
        record.append(Step(result.data, share))
    return model, record


def scores(model: MLP, x_N2: np.ndarray) -> np.ndarray:
    """The network's score of each point: (N), above 0 for y = 1."""
    return np.array([model(x)[0].data for x in x_N2])


def accuracy(model: MLP, x_N2: np.ndarray, y_N: np.ndarray) -> float:
    """Share of the points on the right side."""
    return float(np.mean(np.sign(scores(model, x_N2)) == y_N))
