"""A task that needs memory: which symbol came first, asked after a long row of distracting ones.

Nothing between helps. A network that answers must carry the first symbol along, and to learn that, a gradient must come back
all the way from the answer to the first step. Where it vanishes the loss stays at log(symbols), which is guessing.

>>> accuracy, history = learn("lstm", Recall(steps=8, updates=120, size=16, bias=3.0))
>>> bool(accuracy > 0.9)
True
"""

from dataclasses import dataclass

import numpy as np

from cairn.foundations.gpt.train import TrainConfig, optimize
from cairn.foundations.network import Dense, cross_entropy
from cairn.foundations.recurrent.gradient_flow import open_gate
from cairn.foundations.recurrent.layers import RecurrentLayer
from cairn.foundations.tensor import Tensor, no_grad


@dataclass(frozen=True)
class Recall:
    """Settings of the task."""

    symbols: int = 4  # guessing is right once in so many
    steps: int = 30  # from the symbol to the question
    size: int = 24  # of the state
    batch: int = 32
    updates: int = 250
    rate: float = 1e-2
    bias: float = 0.0  # of the gate that keeps, in an LSTM or GRU: 4 begins at sigmoid(4) = 0.98; 0 leaves it as drawn
    seed: int = 0


def draw(task: Recall, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one-hot symbols (B, T, D), and the first symbol of each (B,)."""
    symbol_BT = rng.integers(task.symbols, size=(count, task.steps))
    # The first symbol has vectors of its own, so that "remember this" can be told from the rest.
    shown_BT = np.concatenate([symbol_BT[:, :1] + task.symbols, symbol_BT[:, 1:]], axis=1)
    return np.eye(2 * task.symbols)[shown_BT], symbol_BT[:, 0]


def learn(kind: str, task: Recall) -> tuple[float, list[float]]:
    """Share of 1000 fresh rows answered right after training, and the loss of every update."""
    rng = np.random.default_rng(task.seed)
    layer = RecurrentLayer(kind, 2 * task.symbols, task.size, rng)
    if task.bias:
        open_gate(layer, task.bias)
    head = Dense(task.size, task.symbols, rng)

    def answer(x_BTD: np.ndarray) -> Tensor:
        return head(layer.walk(Tensor(x_BTD))[-1][0])

    def next_loss() -> Tensor:
        x_BTD, first_B = draw(task, rng, task.batch)
        return cross_entropy(answer(x_BTD), first_B)

    weights = {
        f"{name}.{part}": w
        for name, some in (("layer", layer), ("head", head))
        for part, w in some.parameters().items()
    }
    config = TrainConfig(steps=task.updates, warmup=10, rate=task.rate, weight_decay=0.0)
    history = optimize(weights, next_loss, config)
    with no_grad():
        x_BTD, first_B = draw(task, rng, 1000)
        return float((answer(x_BTD).numpy().argmax(axis=-1) == first_B).mean()), history
