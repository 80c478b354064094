"""The training loop: the same few lines for every network.

    for each epoch:  for each batch:  loss of the model's output -> gradients -> a step

Around them stand the parts of the other files: a schedule sets the rate, gradients are clipped, examples are augmented,
another set of examples says after each epoch how well it goes, and early stopping takes the best weights back.

>>> from cairn.foundations.network import Adam, Dense, Sequential, Tanh, mse
>>> rng = np.random.default_rng(0)
>>> model = Sequential(Dense(1, 16, rng), Tanh(), Dense(16, 1, rng))
>>> x_N1 = np.linspace(-3, 3, 64)[:, None]
>>> history = fit(model, mse, Adam(model.parameters(), lr=0.02), x_N1, np.sin(x_N1), epochs=100, batch_size=16, rng=rng)
>>> bool(history[0].loss > 10 * history[-1].loss), bool(np.abs(predict(model, x_N1) - np.sin(x_N1)).mean() < 0.1)
(True, True)
"""

from collections.abc import Callable
from contextlib import nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from cairn.foundations.data.batches import batches
from cairn.foundations.network.clipping import clip_norm
from cairn.foundations.network.diagnostics import Watch
from cairn.foundations.network.layer import Layer
from cairn.foundations.network.optimizers import Optimizer
from cairn.foundations.network.regularisation import EarlyStopping
from cairn.foundations.network.schedules import Schedule
from cairn.foundations.tensor import Tensor, no_grad

Loss = Callable[[Tensor, np.ndarray], Tensor]
Measure = Callable[[np.ndarray, np.ndarray], float]  # (outputs, targets) -> a number for people


class Epoch(NamedTuple):
    """One line of the record. Losses are means over examples; validation fields are NaN where there is no such set."""

    epoch: int
    loss: float  # while learning: with dropout, augmented, and of weights that changed on the way
    validation_loss: float
    validation_measure: float
    lr: float
    seconds: float  # since the beginning


def accuracy(outputs_BC: np.ndarray, targets_B: np.ndarray) -> float:
    """Share of rows whose largest output is that of the right class."""
    if targets_B.shape != outputs_BC.shape[:1]:  # (B, 1) would be compared with every row
        raise ValueError(
            f"outputs of shape {outputs_BC.shape} need {outputs_BC.shape[:1]} classes, got {targets_B.shape}"
        )
    return float((outputs_BC.argmax(axis=1) == targets_B).mean())


def predict(model: Layer, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Outputs for all rows, as in use: no dropout, no graph. The model is left as it was."""
    if not len(x):
        raise ValueError("there are no rows to predict")
    modes = [(layer, layer.training) for layer in (model, *(layer for _, layer in model.layers()))]
    model.eval()
    try:
        with no_grad():
            parts = [model(_input(x[first : first + batch_size])).data for first in range(0, len(x), batch_size)]
    finally:
        for layer, training in modes:  # one by one: a part of the model may have been in use while the rest learned
            layer.training = training
    return np.concatenate(parts)


def fit(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    measure: Measure | None = None,
    patience: int | None = None,
    watch: Watch | None = None,
    report: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` on rows x with targets y, and give the record back.

    schedule: factor on the optimizer's rate by step. clip: bound on the norm of the gradients. validation: (x, y) that is
    only looked at; measure: of its outputs, such as `accuracy`. patience: stop when the validation loss was not better for so
    many epochs; the best weights are put back in any case where it is given. report: is called after each epoch.
    ValueError: nothing to learn from, patience or a measure without validation, or a loss that is not a number.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not len(x) or len(x) != len(y):
        raise ValueError(f"{len(x)} inputs and {len(y)} targets: there must be as many, and at least one")
    if validation is None and (patience is not None or measure is not None):
        raise ValueError("patience and measure go by examples that are not learned from: give validation=(x, y)")
    stopping = EarlyStopping(patience) if patience is not None else None
    history: list[Epoch] = []
    base, step, start = optimizer.lr, 0, perf_counter()
    try:
        for epoch in range(epochs):
            model.train()
            total = 0.0
            for rows in batches(len(x), batch_size, rng):
                if schedule is not None:
                    optimizer.lr = base * schedule(step)
                inputs = x[rows] if augment is None else augment(x[rows], rng)
                with nullcontext() if watch is None else watch.step(step):
                    optimizer.zero_grad()
                    value = loss(model(_input(inputs)), y[rows])
                    value.backward()
                    if clip is not None:
                        clip_norm(optimizer.parameters, clip)
                    optimizer.step()
                if not np.isfinite(value.data):
                    raise ValueError(
                        f"the loss is {value.item()} at step {step}: lower the learning rate or clip gradients"
                    )
                total += value.item() * len(rows)
                step += 1
            checked = (float("nan"), float("nan")) if validation is None else _check(model, loss, validation, measure)
            history.append(Epoch(epoch, total / len(x), *checked, optimizer.lr, perf_counter() - start))
            if report is not None:
                report(history[-1])
            if stopping is not None and stopping.update(checked[0], model):
                break
    finally:
        optimizer.lr = base  # also when the run was interrupted
    if stopping is not None:
        stopping.restore(model)
    model.eval()
    return history


def _check(
    model: Layer, loss: Loss, data: tuple[np.ndarray, np.ndarray], measure: Measure | None
) -> tuple[float, float]:
    outputs = predict(model, data[0])
    with no_grad():
        value = loss(Tensor(outputs), data[1]).item()
    return value, float("nan") if measure is None else measure(outputs, data[1])


def _input(x: np.ndarray) -> Any:
    return x if x.dtype.kind in "iu" else Tensor(x)  # integers are looked up, not calculated with
