"""Automatic differentiation on single numbers: one step of an MLP (forward, hinge loss, backward) against micrograd, time
and memory.

    python benchmarks/scalar.py [--quick] [--json FILE]

Both sides run the network of their own library, relu between the layers, from the same weights on the same points; before
anything is timed, losses and gradients are compared. Each step builds its graph anew, as training does. Times are medians
of interleaved runs in this process; memory is the most that the step allocates at a time. ratio > 1 means better than the
peer.
"""

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import micrograd.engine
import micrograd.nn
import numpy as np
from measure import Row, interleaved, main, row

from cairn.foundations.scalar import MLP, Value

GOAL = 1.0
SIZES = {  # layers, and points in the batch; quick runs stop after the second
    "neuron 8": ([8, 1], 1),
    "MLP 2-16-16-1": ([2, 16, 16, 1], 8),
    "MLP 2-16-16-1, batch 64": ([2, 16, 16, 1], 64),
    "MLP 64-32-16-1": ([64, 32, 16, 1], 4),
}


def step(value: Callable[[float], Any], model: Callable[[list], Any], x_NI: np.ndarray, y_N: Sequence[float]) -> Any:
    """Mean hinge loss of the points, differentiated; what is written here is the same for both libraries."""
    total = value(0.0)
    for x, y in zip(x_NI.tolist(), y_N):
        score = model([value(number) for number in x])
        total = total + (score * -y + 1.0).relu()
    loss = total * (1.0 / len(y_N))
    loss.backward()
    return loss


def both(layers: list[int], rng: np.random.Generator) -> tuple[MLP, Any]:
    """Our network and the peer's with the same parameters."""
    ours = MLP(layers, rng, "relu")
    theirs = micrograd.nn.MLP(layers[0], layers[1:])
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data = mine.data
    return ours, theirs


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], parameters: Sequence[tuple[Any, Any]]) -> None:
    """Stop unless one step of each gives the same loss and gradients."""
    for mine, other in parameters:
        mine.grad = other.grad = 0.0
    found, wanted = ours(), theirs()
    pairs = [(found.data, wanted.data), *((mine.grad, other.grad) for mine, other in parameters)]
    error = max(abs(a - b) for a, b in pairs)
    if not error < 1e-10:
        raise RuntimeError(f"the two sides differ by {error:.1e}: nothing to compare")


def peak(function: Callable[[], object]) -> int:
    """Most bytes that the call holds at a time."""
    gc.collect()
    tracemalloc.start()
    function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.collect()
    return most


def measure(quick: bool) -> list[Row]:
    rows, rng = [], np.random.default_rng(0)
    for name, (layers, points) in list(SIZES.items())[: 2 if quick else None]:
        model, peer = both(layers, rng)
        x_NI, y_N = rng.normal(size=(points, layers[0])), rng.choice([-1.0, 1.0], points).tolist()

        def ours(model=model, x_NI=x_NI, y_N=y_N):
            return step(Value, lambda x: model(x)[0], x_NI, y_N)

        def theirs(peer=peer, x_NI=x_NI, y_N=y_N):
            return step(micrograd.engine.Value, peer, x_NI, y_N)

        compare(ours, theirs, list(zip(model.parameters(), peer.parameters())))
        found, wanted = (1e3 * seconds for seconds in interleaved([ours, theirs], 7 if quick else 21))
        rows.append(row(f"{name}: step", "micrograd", found, wanted, "ms", GOAL, less_is_better=True))
        found, wanted = (peak(function) / 1e6 for function in (ours, theirs))
        rows.append(row(f"{name}: memory", "micrograd", found, wanted, "MB", GOAL, less_is_better=True))
    return rows


if __name__ == "__main__":
    main(__doc__ or "", measure)
