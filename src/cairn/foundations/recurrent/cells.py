"""Cells: one step of a recurrent network, from what was known and what is read to what is known now.

The same cell with the same weights is used at every place of a text, so a text may have any length. What is carried from step
to step is the state.

**RNN** (Elman 1990). The state is a mixture of what is read and the state before, bent into a bound or cut at 0:

    h' = tanh(Wx + bx + U h + bh)

Each step multiplies the derivative by U^T times the slope of tanh: over many steps it fades or blows up.

**LSTM** (Hochreiter & Schmidhuber 1997; the forget gate is of Gers et al. 2000). A second state c is a conveyor belt: it is
only scaled and added to. Gates between 0 and 1 decide what is written, what stays and what is shown:

    i = sigmoid(..) write      f = sigmoid(..) keep      g = tanh(..) what      o = sigmoid(..) show
    c' = f * c + i * g                                   h' = o * tanh(c')

dc'/dc is f, and no matrix: where the gate stays open the derivative passes unharmed.

**GRU** (Cho et al. 2014). The same idea with one state: z slides between the old state and a new one, r says how much of the
old state the new one is made of:

    r = sigmoid(..)    z = sigmoid(..)    n = tanh(Wx + bx + r * (U h + bh))    h' = (1 - z) * n + z * h

A step is given Wx + bx, which does not depend on the state and was calculated for all places at once, and U h + bh. The gates'
rows stand one below the other in torch's order, (i, f, g, o) and (r, z, n).

Shapes: B batch, H size of the state, G gates times H.

>>> import numpy as np
>>> zero, state = np.zeros((1, 8)), (Tensor(np.zeros((1, 2))), Tensor(np.full((1, 2), 4.0)))
>>> open_gates = Tensor(np.array([[-9.0, -9, 9, 9, 0, 0, 9, 9]]))     # write nothing, keep all, show all
>>> h, c = lstm_step(open_gates, zero, state)
>>> c.data.round(2), h.data.round(2)
(array([[4., 4.]]), array([[1., 1.]]))
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from cairn.foundations.tensor import Tensor, relu, sigmoid, tanh

State = tuple[Tensor, ...]  # each (B, H); the first is what others see


class Cell(NamedTuple):
    """A kind of cell: how many gates, how many states, and its step."""

    gates: int
    states: int
    step: Callable[[Any, Any, State], State]


def tanh_step(read_BG: Any, kept_BG: Any, state: State) -> State:
    return (tanh(read_BG + kept_BG),)


def relu_step(read_BG: Any, kept_BG: Any, state: State) -> State:
    return (relu(read_BG + kept_BG),)


def lstm_step(read_BG: Any, kept_BG: Any, state: State) -> State:
    _, c_BH = state
    i, f, g, o = _gates(read_BG + kept_BG, 4)
    c_BH = sigmoid(f) * c_BH + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c_BH), c_BH


def gru_step(read_BG: Any, kept_BG: Any, state: State) -> State:
    (h_BH,) = state
    read_r, read_z, read_n = _gates(read_BG, 3)
    kept_r, kept_z, kept_n = _gates(kept_BG, 3)
    z = sigmoid(read_z + kept_z)
    n = tanh(read_n + sigmoid(read_r + kept_r) * kept_n)
    return (n + z * (h_BH - n),)


def _gates(x_BG: Any, count: int) -> list[Any]:
    size = x_BG.shape[-1] // count
    return [x_BG[..., gate * size : (gate + 1) * size] for gate in range(count)]


CELLS = {
    "tanh": Cell(1, 1, tanh_step),
    "relu": Cell(1, 1, relu_step),
    "lstm": Cell(4, 2, lstm_step),
    "gru": Cell(3, 1, gru_step),
}
