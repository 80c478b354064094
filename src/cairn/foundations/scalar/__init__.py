"""A chapter on automatic differentiation, number by number: `value`, its graph drawn, a network of such numbers, two moons.

>>> x = Value(3.0)
>>> (x * x + 1.0).backward()
>>> x.grad
6.0
"""

from cairn.foundations.scalar.graph import draw, svg
from cairn.foundations.scalar.moons import accuracy, train, two_moons
from cairn.foundations.scalar.network import MLP, Layer, Neuron
from cairn.foundations.scalar.value import Value, topological_order, zero_grad

__all__ = [
    "MLP",
    "Layer",
    "Neuron",
    "Value",
    "accuracy",
    "draw",
    "svg",
    "topological_order",
    "train",
    "two_moons",
    "zero_grad",
]
