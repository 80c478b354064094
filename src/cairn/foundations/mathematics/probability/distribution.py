"""What a distribution can do: say how likely a value is, draw values, and fit itself to them.

A learner's model is a distribution with knobs, and learning is turning them until the data are as likely as can be: maximum
likelihood. The common losses are negative log-likelihoods: squared error that of a normal, cross-entropy that of a
categorical distribution, absolute error that of a Laplace.

>>> from cairn.foundations.mathematics.probability import Normal
>>> Normal.fit([1.0, 2.0, 3.0]).mean
2.0

Shapes: x any shape, taken number by number.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_array, as_vector

Size = int | tuple[int, ...]


class Distribution(ABC):
    """A distribution on numbers; its parameters are the fields of the frozen dataclass that it is."""

    @property
    @abstractmethod
    def mean(self) -> float: ...

    @property
    @abstractmethod
    def variance(self) -> float: ...

    @abstractmethod
    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray: ...

    @classmethod
    @abstractmethod
    def fit(cls, x: ArrayLike) -> Any:
        """The member of the family under which x (N,) is most likely."""

    @abstractmethod
    def _log_density(self, x: np.ndarray) -> np.ndarray:
        """On the support; elsewhere the value does not matter, but must not warn."""

    def _support(self, x: np.ndarray) -> np.ndarray:
        """Which x can occur."""
        return np.isfinite(x)

    def log_density(self, x: ArrayLike) -> np.ndarray:
        """ln p(x), the shape of x: of a density, or of a probability where values are counted. -inf where x cannot occur."""
        array = as_array(x, finite=False)
        possible = self._support(array) & np.isfinite(array)
        inside = np.where(possible, array, self._somewhere())
        return np.where(possible, self._log_density(inside), -np.inf)

    def _somewhere(self) -> float:
        """A value that can occur, to stand in for those that cannot."""
        return 0.0

    def log_likelihood(self, x: ArrayLike) -> float:
        """ln of the probability (density) of all of x together, drawn independently: the sum of their logarithms."""
        return float(self.log_density(x).sum())


def observations(
    x: ArrayLike, least: float = -np.inf, most: float = np.inf, whole: bool = False, inside: bool = False
) -> np.ndarray:
    """(N,) to fit to, or ValueError where one of them cannot have come from the family; `inside` excludes the ends."""
    x_N = as_vector(x)
    wrong = (x_N < least) | (x_N > most) | (whole & (x_N != np.floor(x_N)))
    if inside:
        wrong |= (x_N == least) | (x_N == most)
    if wrong.any():
        low, high = ("above", "below") if inside else ("from", "up to")
        limit = f" {low} {least:g}" * bool(least > -np.inf) + f" {high} {most:g}" * bool(most < np.inf)
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"x holds {x_N[wrong][0]:g}: give {kind}{limit}, or fit another family")
    return x_N


def varied(x_N: np.ndarray) -> np.ndarray:
    """x_N, or ValueError where all of it is one value: the likelihood then has no maximum, a density has no width of 0."""
    if x_N.min() == x_N.max():
        raise ValueError(f"all {len(x_N)} values are {x_N[0]:g}: a density needs two different ones to be fitted")
    return x_N
