"""Diagnostics: what a network does while it learns, measured where trouble begins.

A loss that stays where it is says that something is wrong, not what. Four measurements do:

    dead units       ReLU units that are 0 for a whole batch get no gradient, and mostly never come back
    saturated        sigmoids and tanhs near their limits have a slope of almost 0
    gradient norms   by weight, from the first layer to the last: alike is healthy; falling towards the first is vanishing
    update / weight  length of a step over length of the weight: about 1/1000 is usual; 1/10 tears down what was learned

A `Watch` takes them every few steps. It shows each layer's output to itself only during those steps, so that others cost
nothing.

>>> from cairn.foundations.network import Dense, ReLU, SGD, Sequential, mse
>>> rng = np.random.default_rng(0)
>>> model = Sequential(Dense(3, 8, rng), ReLU(), Dense(8, 1, rng))
>>> model[0].bias.data -= 100  # a planted fault: no input lifts a unit above 0
>>> optimizer, watch = SGD(model.parameters(), lr=0.1), Watch(model)
>>> with watch.step(0):
...     mse(model(Tensor(rng.normal(size=(16, 3)))), np.ones((16, 1))).backward()
...     optimizer.step()
>>> watch.snapshots[0].dead
{'1': 1.0}
>>> print(watch.findings()[0])
layer 1: 100 % of its ReLU units are 0 for a whole batch; lower the learning rate, or use He initialisation or LeakyReLU
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from cairn.foundations.network.activations import ReLU, Sigmoid, Tanh
from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor

BINS = 40
# Thresholds of `findings`. In healthy networks of six layers the norms of gradients differ up to 3 times, steps are 1/1000 to
# 1/100 of a weight, and few units are dead; each threshold stands an order of magnitude or more beyond.
DEAD, SATURATED, UNEVEN, LARGE_UPDATE, SMALL_UPDATE = 0.5, 0.5, 100.0, 0.1, 1e-6


@dataclass
class Snapshot:
    """One step. Layers and weights go by their names in the model."""

    step: int
    outputs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # histogram: counts, edges
    spread: dict[str, float] = field(default_factory=dict)  # standard deviation of the outputs
    dead: dict[str, float] = field(default_factory=dict)  # of ReLUs
    saturated: dict[str, float] = field(default_factory=dict)  # of sigmoids and tanhs
    gradients: dict[str, float] = field(default_factory=dict)  # norm
    updates: dict[str, float] = field(default_factory=dict)  # norm of the step / norm of the weight


def dead_share(output: np.ndarray) -> float:
    """Share of units that are nowhere above 0. Units are channels of (B, C, H, W), else the last axis."""
    unit = 1 if output.ndim == 4 else output.ndim - 1
    return float((output.max(axis=tuple(axis for axis in range(output.ndim) if axis != unit)) <= 0).mean())


def saturated_share(output: np.ndarray, low: float, high: float) -> float:
    """Share of values within 1 % of a limit."""
    edge = 0.01 * (high - low)
    return float(((output < low + edge) | (output > high - edge)).mean())


def gradient_norms(parameters: dict[str, Tensor]) -> dict[str, float]:
    """Length of each gradient; 0 where there is none."""
    return {
        name: 0.0 if tensor.grad is None else float(np.linalg.norm(tensor.grad)) for name, tensor in parameters.items()
    }


def update_ratios(before: dict[str, np.ndarray], parameters: dict[str, Tensor]) -> dict[str, float]:
    """|step| / |weight| of each weight that was not all 0, as fresh biases are."""
    norms = {name: float(np.linalg.norm(weight)) for name, weight in before.items()}
    return {
        name: float(np.linalg.norm(parameters[name].data - before[name])) / norm for name, norm in norms.items() if norm
    }


class Watch:
    """Measures every `every`-th step of a model. Innermost layers only: an outer one shows what its last one does."""

    def __init__(self, model: Layer, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.model, self.every = model, every
        inner = {name: layer for name, layer in model.layers() if not any(True for _ in layer.children())}
        self.inner = inner or {type(model).__name__: model}  # a model of one layer
        self.snapshots: list[Snapshot] = []

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around forward pass, backward pass and the optimizer's step."""
        if number % self.every:
            yield
            return
        snapshot = Snapshot(number)
        before = {name: tensor.data.copy() for name, tensor in self.model.parameters().items()}
        for name, layer in self.inner.items():
            layer.watcher = lambda output, name=name, layer=layer: _see(snapshot, name, layer, output)
        try:
            yield
        finally:
            for layer in self.inner.values():
                layer.watcher = None
        parameters = self.model.parameters()
        snapshot.gradients = gradient_norms(parameters)
        snapshot.updates = update_ratios(before, parameters)
        self.snapshots.append(snapshot)

    def findings(self) -> list[str]:
        """What the last snapshot shows to be wrong: a line each, with what helps. Empty when healthy."""
        if not self.snapshots:
            return []
        last = self.snapshots[-1]
        lines = [
            f"layer {name}: {100 * share:.0f} % of its ReLU units are 0 for a whole batch; lower the learning rate, "
            "or use He initialisation or LeakyReLU"
            for name, share in last.dead.items()
            if share > DEAD
        ]
        lines += [
            f"layer {name}: {100 * share:.0f} % of its outputs are at their limits; begin with smaller weights or use ReLU"
            for name, share in last.saturated.items()
            if share > SATURATED
        ]
        norms = {name: norm for name, norm in last.gradients.items() if name.endswith("weight")}
        first, last_one = next(iter(norms), ""), next(reversed(norms), "")
        if not np.isfinite(list(norms.values())).all():
            lines.append("gradients are no longer finite; lower the learning rate or clip gradients")
        elif norms and not 1 / UNEVEN <= norms[first] / max(norms[last_one], 1e-300) <= UNEVEN:
            what = "vanish" if norms[first] < norms[last_one] else "explode"
            lines.append(
                f"gradients {what} on their way back: norm {norms[last_one]:.0e} at {last_one}, {norms[first]:.0e} at {first}; "
                "use ReLU, normalization or another initialisation"
            )
        for name, ratio in last.updates.items():
            if not name.endswith("weight"):
                continue
            largest = max(snapshot.updates.get(name, 0.0) for snapshot in self.snapshots)
            if ratio > LARGE_UPDATE:
                lines.append(f"{name}: a step changes it by {ratio:.0e} of its length; lower the learning rate")
            elif largest < SMALL_UPDATE:  # at the end of a schedule small steps are meant
                lines.append(
                    f"{name}: no step changed it by more than {largest:.0e} of its length; raise the learning rate"
                )
        return lines


def _see(snapshot: Snapshot, name: str, layer: Layer, output: np.ndarray) -> None:
    finite = output[np.isfinite(output)]
    snapshot.outputs[name] = np.histogram(finite, bins=BINS) if finite.size else (np.zeros(BINS), np.zeros(BINS + 1))
    snapshot.spread[name] = float(output.std())
    if isinstance(layer, ReLU):
        snapshot.dead[name] = dead_share(output)
    elif isinstance(layer, (Sigmoid, Tanh)):
        snapshot.saturated[name] = saturated_share(output, 0.0 if isinstance(layer, Sigmoid) else -1.0, 1.0)
