"""Principal components: the directions along which data vary most.

Centre the data. The direction w of largest variance maximises w^T C w over unit vectors, C the covariance: that is C's first
eigenvector, and the variance along it its eigenvalue; the next directions follow, each perpendicular to those before. With
X = U S V^T centred, C = V S^2 V^T / (N - 1): the rows of V^T are the components, and C itself, which squares the numbers, is
never formed. Kept to k components, data are reconstructed with the least squared error that any k directions allow
(`low_rank` says why). Whitening divides by the spread: afterwards every direction varies by 1, and none goes with another.

>>> x = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])  # all on one line
>>> pca = fit_pca(x, 1)
>>> pca.explained.round(12).tolist(), pca.components.round(4).tolist()
([1.0], [[0.4472, 0.8944]])
>>> np.allclose(pca.reconstruct(pca.transform(x)), x)
True

Shapes: N examples, D numbers of each, K components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_matrix, count
from cairn.foundations.mathematics.linear.jacobi import svd


@dataclass(frozen=True)
class PCA:
    """Directions and the variance along them (divided by N - 1), from large to small; signs as in scikit-learn."""

    mean: np.ndarray  # (D,)
    components: np.ndarray  # (K, D), orthonormal rows
    variance: np.ndarray  # (K,)
    total: float  # the variance of all directions together

    @property
    def explained(self) -> np.ndarray:
        """(K,): each component's share of the variance."""
        return self.variance / self.total

    def transform(self, x: ArrayLike, whiten: bool = False) -> np.ndarray:
        """(N, K): coordinates along the components; `whiten` divides each by its standard deviation."""
        x_ND = as_matrix(x, "x")
        if x_ND.shape[1] != len(self.mean):
            raise ValueError(f"x has {x_ND.shape[1]} columns, the components {len(self.mean)}: give the same features")
        z_NK = (x_ND - self.mean) @ self.components.T
        return z_NK / self._deviation() if whiten else z_NK

    def reconstruct(self, z: ArrayLike, whitened: bool = False) -> np.ndarray:
        """(N, D): back from the coordinates; what the left-out components held is lost."""
        z_NK = as_matrix(z, "z")
        if z_NK.shape[1] != len(self.components):
            raise ValueError(f"z has {z_NK.shape[1]} columns for {len(self.components)} components: give one for each")
        return self.mean + (z_NK * self._deviation() if whitened else z_NK) @ self.components

    def _deviation(self) -> np.ndarray:
        deviation_K = np.sqrt(self.variance)
        if deviation_K[-1] <= len(self.mean) * np.finfo(float).eps * deviation_K[0]:
            raise ValueError("the data do not vary along the last component: whiten fewer components")
        return deviation_K


def fit_pca(x: ArrayLike, k: int | None = None) -> PCA:
    """The first k principal components of x (N, D); all min(N, D) of them without k."""
    x_ND = as_matrix(x, "x")
    N, D = x_ND.shape
    if N < 2:
        raise ValueError("x has one row, which does not vary: give two or more")
    k = count(min(N, D) if k is None else k, "k", 1, min(N, D))
    if (x_ND == x_ND[0]).all():  # asked before rounding: the mean of three times 0.1 is not 0.1
        raise ValueError("all rows of x are the same: there is no variance to explain")
    mean_D = x_ND.mean(axis=0)
    _, values, right_T = svd(x_ND - mean_D)
    variance = values**2 / (N - 1)
    if variance[0] == 0:  # below 1e-324
        raise ValueError("the squares of x's differences are too small for floats: scale x up")
    return PCA(mean_D, right_T[:k], variance[:k], float(variance.sum()))
