"""A recurrent language model: characters in, scores of the next one out; what came before is in the state.

    ids -> embedding -> recurrent layers -> dense -> logits

Unlike the GPT of the next chapter it needs no window: the state may be carried on for ever, at the same cost for each character.

>>> model = RecurrentModel(RecurrentConfig(symbols=27, size=16))
>>> model(np.array([[1, 4, 1, 0]])).shape
(1, 4, 27)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.foundations.network import Dense, Embedding, Layer
from cairn.foundations.recurrent.cells import State
from cairn.foundations.recurrent.layers import Recurrent
from cairn.foundations.tensor import Tensor


@dataclass(frozen=True)
class RecurrentConfig:
    """Sizes of a model."""

    symbols: int  # different characters
    kind: str = "lstm"  # tanh, relu, lstm or gru
    width: int = 24  # of a character's vector
    size: int = 96  # of the state
    layers: int = 1
    seed: int = 0  # of the fresh weights
    dtype: str = "float32"


class RecurrentModel(Layer):
    """Called with ids (B, T) it gives logits (B, T, V)."""

    def __init__(self, config: RecurrentConfig):
        rng = np.random.default_rng(config.seed)
        self.config = config
        self.embedding = Embedding(config.symbols, config.width, rng)
        self.recurrent = Recurrent(config.kind, config.width, config.size, rng, config.layers)
        self.head = Dense(config.size, config.symbols, rng)
        self.astype(config.dtype)

    def forward(self, x: np.ndarray) -> Tensor:
        return self.run(x)[0]

    def run(self, ids_BT: np.ndarray, states: Sequence[State] | None = None) -> tuple[Tensor, list[State]]:
        """Logits (B, T, V), and the states to go on from."""
        y_BTH, ends = self.recurrent.run(self.embedding(ids_BT), states)
        return self.head(y_BTH), ends
