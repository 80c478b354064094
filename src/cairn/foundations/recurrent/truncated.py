"""Truncated backpropagation through time: a long text learned in pieces, the state carried over, gradients not.

The gradient of a text of a million characters runs through a million steps: too long to hold, and mostly vanished. So the text
is read in pieces of T characters. Each begins with the state in which the last one ended, so the network remembers; but the
state comes without its history, so no gradient goes back further than T steps (Williams & Peng 1990). The text is cut into B
strands that are read side by side.

>>> from itertools import islice
>>> strands(np.arange(11), 2)           # every strand with one character more than it can predict
array([[ 0,  1,  2,  3,  4,  5],
       [ 5,  6,  7,  8,  9, 10]])
>>> [[ids.tolist(), wanted.tolist(), begins] for ids, wanted, begins in islice(pieces(strands(np.arange(7), 1), 3), 3)]
[[[[0, 1, 2]], [[1, 2, 3]], True], [[[3, 4, 5]], [[4, 5, 6]], False], [[[0, 1, 2]], [[1, 2, 3]], True]]
"""

from collections.abc import Callable, Iterator

import numpy as np

from cairn.foundations.gpt.train import TrainConfig, optimize
from cairn.foundations.network import cross_entropy
from cairn.foundations.recurrent.cells import State
from cairn.foundations.recurrent.language_model import RecurrentModel
from cairn.foundations.recurrent.layers import detach
from cairn.foundations.tensor import Tensor


def strands(ids_N: np.ndarray, count: int) -> np.ndarray:
    """(count, M + 1): the text cut into equal strands; the last character of one is the first of the next."""
    M = (len(ids_N) - 1) // count
    if M < 1:
        raise ValueError(
            f"a text of {len(ids_N)} characters gives no {count} strands: give more text or a smaller batch"
        )
    return ids_N[np.arange(count)[:, None] * M + np.arange(M + 1)]


def pieces(strand_BM: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Inputs and targets (B, `length`), one piece after the other, and whether a strand begins; round and round.

    What is left at a strand's end and is no whole piece is left out.
    """
    last = strand_BM.shape[1] - 1 - length
    if last < 0:
        raise ValueError(
            f"strands of {strand_BM.shape[1] - 1} characters have no piece of {length}: give a smaller batch"
        )
    while True:
        for first in range(0, last + 1, length):
            piece_BT = strand_BM[:, first : first + length + 1]
            yield piece_BT[:, :-1], piece_BT[:, 1:], first == 0


def train_truncated(
    model: RecurrentModel,
    ids_N: np.ndarray,
    length: int,
    config: TrainConfig,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train in place; gradients go back `length` characters at most, the state goes on. The loss of every step, in nats."""
    source = pieces(strands(ids_N, config.batch), length)
    carried: list[State] | None = None

    def next_loss() -> Tensor:
        nonlocal carried
        ids_BT, wanted_BT, begins = next(source)
        logits_BTV, ends = model.run(ids_BT, None if begins else carried)
        carried = detach(ends)
        return cross_entropy(logits_BTV, wanted_BT)

    return optimize(model.parameters(), next_loss, config, watch)
