"""Recurrent networks: RNN, LSTM and GRU, walked along a text, and what they can and cannot remember.

Read in this order: `cells` (one step), `layers` (along a text, several above each other), `gradient_flow` (why gradients
vanish, measured), `recall` (a task that shows it), `language_model` (characters), `truncated` (long texts in pieces).

>>> import numpy as np
>>> from cairn.foundations.recurrent import Recurrent
>>> from cairn.foundations.tensor import Tensor
>>> Recurrent("gru", inputs=3, size=4, rng=np.random.default_rng(0))(Tensor(np.ones((2, 5, 3)))).shape
(2, 5, 4)
"""

from cairn.foundations.recurrent.cells import CELLS, Cell, State
from cairn.foundations.recurrent.gradient_flow import gradient_norms, open_gate, set_spectral_norm
from cairn.foundations.recurrent.language_model import RecurrentConfig, RecurrentModel
from cairn.foundations.recurrent.layers import Recurrent, RecurrentLayer, detach
from cairn.foundations.recurrent.truncated import train_truncated

__all__ = [
    "CELLS",
    "Cell",
    "Recurrent",
    "RecurrentConfig",
    "RecurrentLayer",
    "RecurrentModel",
    "State",
    "detach",
    "gradient_norms",
    "open_gate",
    "set_spectral_norm",
    "train_truncated",
]
