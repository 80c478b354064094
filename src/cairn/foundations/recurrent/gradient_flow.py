"""Vanishing gradients: how much of what the end of a text wants reaches its beginning.

By the chain rule the derivative of the last state by one n steps before is a product of n Jacobians. In a tanh network each is
diag(1 - h^2) U: with singular values of U below r < 1 the product shrinks like r^n, above 1 it may explode (Bengio et al.
1994, Pascanu et al. 2013). Weights learn only from what arrives. In an LSTM one factor of the product is the forget gate
itself, which stays near 1 where it has learned (or was told by its bias) to keep: 0.5^n for a gate half open, 0.95^n for a bias
of 3.

Measured, not assumed: dL/dstate_t for L = the last state times a random direction, with autograd, at every place t.

>>> steps = 60
>>> x_BTD = np.random.default_rng(1).normal(size=(4, steps, 8))
>>> plain = gradient_norms(RecurrentLayer("tanh", 8, 32, np.random.default_rng(0)), x_BTD)
>>> lstm = RecurrentLayer("lstm", 8, 32, np.random.default_rng(0))
>>> keeping = gradient_norms(open_gate(lstm, 4.0), x_BTD)
>>> bool(plain[0] / plain[-1] < 1e-6), bool(keeping[0] / keeping[-1] > 0.01)
(True, True)
"""

import numpy as np

from cairn.foundations.recurrent.layers import RecurrentLayer
from cairn.foundations.tensor import Tensor, grad


def gradient_norms(layer: RecurrentLayer, x_BTD: np.ndarray, seed: int = 0) -> np.ndarray:
    """(T,): length of dL/dstate after each step, both parts of an LSTM's state together, averaged over the batch."""
    direction_H = np.random.default_rng(seed).normal(size=layer.size)
    states = layer.walk(Tensor(x_BTD))
    loss = (states[-1][0] * direction_H).sum()
    parts = [part for state in states for part in state]
    squares = [(g.data**2).sum(axis=-1) for g in grad(loss, parts)]
    count = len(states[0])
    return np.array([np.sqrt(sum(squares[t : t + count])).mean() for t in range(0, len(squares), count)])


def set_spectral_norm(layer: RecurrentLayer, radius: float, seed: int = 0) -> RecurrentLayer:
    """A tanh or relu layer with U = radius times a rotation: every direction is scaled by `radius` in a step."""
    if layer.cell.gates > 1:
        raise ValueError(
            "gates have matrices of their own, so no one number scales the state: give a tanh or relu layer"
        )
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(layer.size, layer.size)))
    layer.weight_hh.data[:] = radius * q
    return layer


def open_gate(layer: RecurrentLayer, bias: float) -> RecurrentLayer:
    """An LSTM or GRU whose gate that keeps (f or z: the second of both) begins at about sigmoid(bias).

    Gers et al. 2000; Jozefowicz et al. 2015 advise 1, and more for longer memories.
    """
    if layer.cell.gates < 2:
        raise ValueError("a tanh or relu layer has no gate to open: give an LSTM or GRU")
    layer.bias_ih.data[layer.size : 2 * layer.size] = bias
    layer.bias_hh.data[layer.size : 2 * layer.size] = 0.0
    return layer
