"""The bell curve, of a number and of a vector.

Of all distributions with a given mean and variance it is the one that assumes least (largest entropy), and sums of many small
things tend to it (`central_limit`). ln p(x) = -(x - m)^2 / 2 s^2 + const: so the most likely m is the one of least squares.
Of a vector the square becomes the distance in units of the spread, (x - m)^T C^-1 (x - m) (Mahalanobis).

>>> Normal(0.0, 1.0).cdf([0.0, 1.959964]).round(6).tolist()
[0.5, 0.975]
>>> flat = MultivariateNormal(np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]]))
>>> round(float(flat.log_density([[0.0, 0.0]])[0]), 6)
-2.387183

Shapes: N examples, D numbers of each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_array, as_matrix, as_symmetric, as_vector, number, positive
from cairn.foundations.mathematics.linear.cholesky import cholesky, solve_lower
from cairn.foundations.mathematics.probability.distribution import Distribution, Size, observations, varied
from cairn.foundations.mathematics.special import erfc


@dataclass(frozen=True)
class Normal(Distribution):
    """Around `location`, with standard deviation `scale`."""

    location: float
    scale: float

    def __post_init__(self) -> None:
        number(self.location, "location")
        positive(self.scale, "scale")

    @property
    def mean(self) -> float:
        return self.location

    @property
    def variance(self) -> float:
        return self.scale**2

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return self.location + self.scale * rng.standard_normal(size)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return -0.5 * ((x - self.location) / self.scale) ** 2 - np.log(self.scale) - 0.5 * np.log(2 * np.pi)

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """P(X <= x), with all digits in the lower tail."""
        z = (as_array(x, finite=False) - self.location) / self.scale
        return 0.5 * erfc(-z / np.sqrt(2))

    @classmethod
    def fit(cls, x: ArrayLike) -> "Normal":
        """The mean, and the root of the mean square around it: a little too narrow, since the mean is fitted too."""
        x_N = varied(observations(x))
        return cls(float(x_N.mean()), float(x_N.std()))


@dataclass(frozen=True, eq=False)
class MultivariateNormal:
    """Around `location` (D,), with `covariance` (D, D), symmetric and positive definite. x is (..., D)."""

    location: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        covariance = as_symmetric(self.covariance, "covariance")
        object.__setattr__(self, "location", as_vector(self.location, "location", len(covariance)))
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "_root", cholesky(covariance))

    _root = np.zeros((0, 0))  # L with covariance = L L^T

    @property
    def mean(self) -> np.ndarray:
        return self.location

    @property
    def variance(self) -> np.ndarray:
        """(D,): of each number alone; `covariance` has the rest."""
        return np.diag(self.covariance)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """(size, D): independent noise z becomes L z, whose covariance is L L^T."""
        return self.location + rng.standard_normal((size, len(self.location))) @ self._root.T

    def log_density(self, x: ArrayLike) -> np.ndarray:
        """ln p of each row of x (N, D): (N,). With y = L^-1 (x - m) the distance is |y|^2, and ln |C| = 2 sum ln L_ii."""
        x_ND = as_matrix(x, "x")
        if x_ND.shape[1] != len(self.location):
            raise ValueError(f"x has {x_ND.shape[1]} columns, the distribution {len(self.location)}: give the same")
        y_DN = solve_lower(self._root, (x_ND - self.location).T)
        constant = np.log(np.diag(self._root)).sum() + 0.5 * len(self.location) * np.log(2 * np.pi)
        return -0.5 * (y_DN**2).sum(axis=0) - constant

    def log_likelihood(self, x: ArrayLike) -> float:
        """ln of the density of all rows of x (N, D) together."""
        return float(self.log_density(x).sum())

    @classmethod
    def fit(cls, x: ArrayLike) -> "MultivariateNormal":
        """Mean and covariance (divided by N) of x (N, D), which needs more rows than columns."""
        x_ND = as_matrix(x, "x")
        if x_ND.shape[0] <= x_ND.shape[1]:
            raise ValueError(f"x has {x_ND.shape[0]} rows for {x_ND.shape[1]} columns: give more rows than columns")
        mean_D = x_ND.mean(axis=0)
        return cls(mean_D, (x_ND - mean_D).T @ (x_ND - mean_D) / len(x_ND))
