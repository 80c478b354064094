"""Seeing: networks of this book's own parts read handwritten digits.

>>> from cairn.foundations.data import load_digits
>>> result = train(load_digits(), "cnn", TrainSettings(epochs=1))
>>> bool(result.accuracy > 0.5)  # guessing reaches 0.1
True
"""

from cairn.foundations.vision.models import cnn, mlp
from cairn.foundations.vision.train import Result, TrainSettings, train, train_digits, train_mnist

__all__ = ["Result", "TrainSettings", "cnn", "mlp", "train", "train_digits", "train_mnist"]
