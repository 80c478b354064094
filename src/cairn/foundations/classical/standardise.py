"""Features in units of their own spread: mean 0, standard deviation 1, both measured on the training samples.

Gradient descent needs it (a feature in millimetres has a gradient a thousand times that of one in metres, and one step
size must do for both), L2 needs it (it compares the sizes of weights), distances need it (k-NN, k-means). What was measured
on the training samples is then applied to all others: measuring on everything lets the test into the training (`leakage`).

>>> scaler = Standardiser().fit(np.array([[1.0, 200.0], [3.0, 600.0]]))
>>> scaler.transform(np.array([[2.0, 800.0]]))
array([[0., 2.]])

Shapes: N samples, D features.
"""

from typing import Any, Protocol, Self

import numpy as np


class Estimator(Protocol):
    """What learns: `fit` sees training samples, `predict` answers for others. scikit-learn's models are such as well."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any: ...
    def predict(self, x: np.ndarray) -> np.ndarray: ...


class Standardiser:
    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Measure mean and spread (D,). A feature that never changes has a spread of 1: it becomes 0."""
        check_features(x)
        self.mean, spread = x.mean(axis=0), x.std(axis=0)
        self.spread = np.where(spread > 1e-12 * np.abs(x).max(axis=0), spread, 1.0)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.spread


class Chain:
    """Preparations and a model as one model, so that what prepares is fitted on the training samples as well.

    >>> from cairn.foundations.classical import LinearRegression
    >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])
    >>> Chain(Standardiser(), LinearRegression()).fit(x, y).predict(np.array([[3.0]])).round(6)
    array([7.])
    """

    def __init__(self, *parts: Any):
        *self.preparations, self.model = parts

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        for part in self.preparations:
            x = part.fit(x, y).transform(x)
        self.model.fit(x, y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict(self._prepare(x))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(self._prepare(x))

    def _prepare(self, x: np.ndarray) -> np.ndarray:
        for part in self.preparations:
            x = part.transform(x)
        return x


def check_features(x: np.ndarray) -> None:
    """Raise ValueError unless x is (N, D) with samples in it and all numbers finite."""
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"features of shape {x.shape}: (samples, features) is needed; x[:, None] for a single feature")
    if not np.isfinite(x).all():
        at = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"feature {at[1]} of sample {at[0]} is {x[tuple(at)]}: fill in or leave out what is missing")
