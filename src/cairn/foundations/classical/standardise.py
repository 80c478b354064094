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
from numpy.typing import ArrayLike


class Estimator(Protocol):
    """What learns: `fit` sees training samples, `predict` answers for others. scikit-learn's models are such as well."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any: ...
    def predict(self, x: np.ndarray) -> np.ndarray: ...


class Standardiser:
    def fit(self, x: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Measure mean and spread (D,). A feature that never changes has a spread of 1: it becomes 0."""
        x_ND = as_features(x)
        self.mean, spread = x_ND.mean(axis=0), x_ND.std(axis=0)
        self.spread = np.where(spread > 1e-12 * np.abs(x_ND).max(axis=0), spread, 1.0)
        return self

    def transform(self, x: ArrayLike) -> np.ndarray:
        return (as_features(x, len(self.mean)) - self.mean) / self.spread


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


def as_features(x: ArrayLike, features: int | None = None) -> np.ndarray:
    """x as an array (N, D), D of them `features` where that is given. ValueError: no sample, or a number that is missing."""
    x_ND = np.asarray(x)
    if x_ND.dtype.kind not in "fiub":
        raise ValueError(f"features of type {x_ND.dtype}: numbers are needed; make a column of 0 and 1 for each name")
    if x_ND.ndim != 2 or 0 in x_ND.shape:
        raise ValueError(
            f"features of shape {x_ND.shape}: (samples, features) is needed; x[:, None] for a single feature"
        )
    if features is not None and x_ND.shape[1] != features:
        raise ValueError(f"samples with {x_ND.shape[1]} features, but {features} were learned from: give the same ones")
    if not np.isfinite(x_ND).all():
        at = np.argwhere(~np.isfinite(x_ND))[0]
        raise ValueError(
            f"feature {at[1]} of sample {at[0]} is {x_ND[tuple(at)]}: fill in or leave out what is missing"
        )
    return x_ND
