"""Linear regression by gradient descent: the plane that leaves the smallest squared error.

With standardised features Z (N, D) and targets t that are centred and scaled in the same way, the loss and its gradient are

    f(w) = 1/(2N) |Z w - t|^2 + l2/2 |w|^2          df/dw = Z^T (Z w - t) / N + l2 w

(each sample's error times its features, averaged). The curvature is Z^T Z / N + l2, the same everywhere, so that its largest
eigenvalue gives the step. Setting the gradient to 0 gives the normal equations, whose solution this comes to.

>>> rng = np.random.default_rng(0)
>>> x = rng.normal(size=(50, 2)) * [1, 20]
>>> model = LinearRegression().fit(x, 3 * x[:, 0] - 0.2 * x[:, 1] + 7)
>>> model.weights.round(6), round(model.intercept, 6)
(array([ 3. , -0.2]), 7.0)

Checked against sklearn.linear_model. Shapes: N samples, D features.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.classical.gradient_descent import minimise
from cairn.foundations.classical.standardise import Standardiser, as_features


class LinearRegression:
    """l2: strength of the pull of all weights towards 0 (of standardised features); the intercept is free.

    After `fit`: weights (D,) and intercept in units of the data; standard_weights (D,) for a feature's standard deviation,
    which can be compared with each other; steps that were needed.
    """

    def __init__(self, l2: float = 0.0, tolerance: float = 1e-10):
        if not (l2 >= 0 and tolerance > 0):
            raise ValueError(f"l2 must not be below 0 and tolerance above it, got {l2} and {tolerance}")
        self.l2, self.tolerance = l2, tolerance

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """x (N, D), y (N,). Of features that are copies of each other, the weights are the smallest that do."""
        x_ND, y_N = as_features(x), np.asarray(y)
        if y_N.shape != (len(x_ND),):
            raise ValueError(f"{len(x_ND)} samples but targets of shape {y_N.shape}: give one number for each")
        if y_N.dtype.kind not in "fiub" or not np.isfinite(y_N).all():
            raise ValueError("targets must be finite numbers: leave out the samples whose target is missing")
        scaler = Standardiser().fit(x_ND)
        z_ND, samples = scaler.transform(x_ND), len(x_ND)
        middle, spread = float(y_N.mean()), float(y_N.std()) or 1.0
        t_N = (y_N - middle) / spread

        def gradient(w_D: np.ndarray) -> np.ndarray:
            return z_ND.T @ (z_ND @ w_D - t_N) / samples + self.l2 * w_D

        curvature = float(np.linalg.norm(z_ND, 2)) ** 2 / samples + self.l2
        found = minimise(gradient, np.zeros(x_ND.shape[1]), curvature=curvature or 1.0, tolerance=self.tolerance)
        self.steps, self.standard_weights = found.steps, found.point * spread
        self.weights = self.standard_weights / scaler.spread
        self.intercept = middle - float(scaler.mean @ self.weights)
        return self

    def predict(self, x: ArrayLike) -> np.ndarray:
        """(N,)"""
        return as_features(x, len(self.weights)) @ self.weights + self.intercept
