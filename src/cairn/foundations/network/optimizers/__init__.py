"""Optimizers: what to do with a gradient, once it is there.

All of them walk downhill. They differ in what they remember: nothing (gradient descent), the way they came (momentum), how
large the gradient of each weight usually is (Adagrad, RMSProp), or both (Adam). Each file is one of them, with its formula.

>>> sorted(name for name in __all__ if name != "Optimizer")
['Adagrad', 'Adam', 'AdamW', 'RMSProp', 'SGD']
"""

from cairn.foundations.network.optimizers.adagrad import Adagrad
from cairn.foundations.network.optimizers.adam import Adam, AdamW
from cairn.foundations.network.optimizers.base import Optimizer
from cairn.foundations.network.optimizers.rmsprop import RMSProp
from cairn.foundations.network.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSProp"]
