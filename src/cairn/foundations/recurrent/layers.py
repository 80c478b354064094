"""Recurrent layers: a cell walked along a text, and several of them one above the other.

A layer reads vectors and gives a vector for each place: its state there. The layer above reads those. Weights have the names,
shapes and order of torch.nn.RNN, LSTM and GRU, and begin as there, evenly between -1/sqrt(H) and 1/sqrt(H).

Shapes: B batch, T places, D size of an input, H size of the state, G gates times H.

>>> rng = np.random.default_rng(0)
>>> network = Recurrent("lstm", inputs=3, size=5, layers=2, rng=rng)
>>> x_BTD = Tensor(rng.normal(size=(2, 7, 3)))
>>> y_BTH, states = network.run(x_BTD)
>>> y_BTH.shape, len(states), [part.shape for part in states[0]]
((2, 7, 5), 2, [(2, 5), (2, 5)])

A text in two pieces, the state carried over, is the text:

>>> first, carried = network.run(x_BTD[:, :4])
>>> second, _ = network.run(x_BTD[:, 4:], carried)
>>> bool(np.allclose(second.data, y_BTH.data[:, 4:]))
True
"""

from collections.abc import Sequence

import numpy as np

from cairn.foundations.network.layer import Layer
from cairn.foundations.recurrent.cells import CELLS, State
from cairn.foundations.tensor import Tensor, stack, where


class RecurrentLayer(Layer):
    """One layer. weight_ih (G, D), weight_hh (G, H), bias_ih and bias_hh (G), as torch.nn.RNN, LSTM or GRU."""

    def __init__(self, kind: str, inputs: int, size: int, rng: np.random.Generator):
        if kind not in CELLS:
            raise ValueError(f"no cell is called {kind!r}; known: {', '.join(CELLS)}")
        self.cell, self.size = CELLS[kind], size
        gates, bound = self.cell.gates * size, size**-0.5

        def fresh(*shape: int) -> Tensor:
            return Tensor(rng.uniform(-bound, bound, shape), requires_grad=True)

        self.weight_ih, self.weight_hh = fresh(gates, inputs), fresh(gates, size)
        self.bias_ih, self.bias_hh = fresh(gates), fresh(gates)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(
        self, x_BTD: Tensor, state: State | None = None, length_B: np.ndarray | None = None
    ) -> tuple[Tensor, State]:
        """States at all places (B, T, H), and the state at the end.

        state: where it begins, zeros by default. length_B: how long each text is; behind its end the output is 0, and its
        state at the end is the one after its last token.
        """
        states = self.walk(x_BTD, state, length_B)
        y_BTH = stack([state[0] for state in states], axis=1)
        if length_B is not None:
            y_BTH = where((np.arange(x_BTD.shape[1]) < np.asarray(length_B)[:, None])[:, :, None], y_BTH, 0.0)
        return y_BTH, states[-1]

    def walk(self, x_BTD: Tensor, state: State | None = None, length_B: np.ndarray | None = None) -> list[State]:
        """The state after each of the T steps."""
        if x_BTD.ndim != 3 or not x_BTD.shape[1]:
            raise ValueError(f"an input {x_BTD.shape}: give (batch, places, size), with at least one place")
        B, T, _ = x_BTD.shape
        if length_B is not None:
            length_B = _checked(length_B, B, T)
        if state is None:
            state = tuple(Tensor(np.zeros((B, self.size), x_BTD.dtype)) for _ in range(self.cell.states))
        if len(state) != self.cell.states or any(part.shape != (B, self.size) for part in state):
            raise ValueError(
                f"a state of {[part.shape for part in state]}: this cell carries {self.cell.states} of {(B, self.size)}"
            )
        read_BTG = x_BTD @ self.weight_ih.T + self.bias_ih  # for all places at once: it needs no state
        weight_HG = self.weight_hh.T
        states = []
        for t in range(T):
            new = self.cell.step(read_BTG[:, t], state[0] @ weight_HG + self.bias_hh, state)
            if length_B is not None:
                going_B1 = t < length_B[:, None]
                new = tuple(where(going_B1, after, before) for after, before in zip(new, state))
            state = new
            states.append(state)
        return states


class Recurrent(Layer):
    """Several layers of one kind: "tanh", "relu", "lstm" or "gru"; each reads the outputs of the one below."""

    def __init__(self, kind: str, inputs: int, size: int, rng: np.random.Generator, layers: int = 1):
        if layers < 1:
            raise ValueError(f"{layers} layers: at least 1 is needed")
        self.stack = [RecurrentLayer(kind, inputs if not below else size, size, rng) for below in range(layers)]

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(
        self, x: Tensor, states: Sequence[State] | None = None, length_B: np.ndarray | None = None
    ) -> tuple[Tensor, list[State]]:
        """Outputs of the top layer (B, T, H), and every layer's state at the end; arguments as of `RecurrentLayer.run`."""
        if states is not None and len(states) != len(self.stack):
            raise ValueError(f"{len(states)} states for {len(self.stack)} layers: give one for each, lowest first")
        ends = []
        for i, layer in enumerate(self.stack):
            x, end = layer.run(x, states[i] if states is not None else None, length_B)
            ends.append(end)
        return x, ends


def _checked(length_B: np.ndarray, texts: int, places: int) -> np.ndarray:
    length_B = np.asarray(length_B)
    if length_B.shape != (texts,) or length_B.min() < 1 or length_B.max() > places:
        raise ValueError(
            f"lengths {length_B.tolist()} for {texts} texts of {places} places: give each its own, 1 to {places}"
        )
    return length_B


def detach(states: Sequence[State]) -> list[State]:
    """The same states without their past: gradients stop here."""
    return [tuple(part.detach() for part in state) for state in states]
