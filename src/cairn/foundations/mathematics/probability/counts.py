"""Distributions on whole numbers: a coin, many coins, a die, and rare events.

The coin (Bernoulli) is the ground: n coins count as binomial, and many coins that seldom show heads, n p = rate, as Poisson.
The die (categorical) is what a language model predicts: one of V tokens. All fits here are a share or a mean: set the
derivative of the log-likelihood to 0 and solve.

>>> Binomial(n=2, p=0.5).log_density([0, 1, 2]).round(4).tolist()
[-1.3863, -0.6931, -1.3863]
>>> Categorical.fit([0, 0, 1, 2]).p.tolist()
[0.5, 0.25, 0.25]
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_probabilities, count, number, positive
from cairn.foundations.mathematics.probability.distribution import Distribution, Size, observations
from cairn.foundations.mathematics.special import gammaln

MOST = 10_000_000  # categories: as many probabilities are held


def times_log(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """x ln y, and 0 where x is 0: the limit, since what never happens needs no probability."""
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    with np.errstate(divide="ignore"):
        return x * np.where(x == 0, 0.0, np.log(np.where(x == 0, 1.0, y)))


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """1 with probability p, else 0."""

    p: float

    def __post_init__(self) -> None:
        _share(self.p)

    @property
    def mean(self) -> float:
        return self.p

    @property
    def variance(self) -> float:
        return self.p * (1 - self.p)

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return (rng.random(size) < self.p).astype(np.int64)

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x == 0) | (x == 1)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return times_log(x, self.p) + times_log(1 - x, 1 - self.p)

    @classmethod
    def fit(cls, x: ArrayLike) -> "Bernoulli":
        """The share of ones."""
        return cls(float(observations(x, 0, whole=True, most=1).mean()))


@dataclass(frozen=True)
class Binomial(Distribution):
    """The number of ones among n independent Bernoulli(p)."""

    n: int
    p: float

    def __post_init__(self) -> None:
        count(self.n, "n")
        _share(self.p)

    @property
    def mean(self) -> float:
        return self.n * self.p

    @property
    def variance(self) -> float:
        return self.n * self.p * (1 - self.p)

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return rng.binomial(self.n, self.p, size)

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x == np.floor(x)) & (x >= 0) & (x <= self.n)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        orders = gammaln(self.n + 1) - gammaln(x + 1) - gammaln(self.n - x + 1)  # in how many orders x ones can come
        return orders + times_log(x, self.p) + times_log(self.n - x, 1 - self.p)

    @classmethod
    def fit(cls, x: ArrayLike, n: int | None = None) -> "Binomial":
        """The share of ones in all throws. How many coins a count is of cannot be told from counts: give n."""
        if n is None:
            raise ValueError("n is missing: say how many coins each count is of")
        return cls(count(n, "n"), float(observations(x, 0, whole=True, most=n).mean()) / n)


@dataclass(frozen=True, eq=False)
class Categorical(Distribution):
    """0, 1, ... V - 1 with the probabilities p (V,). Its mean and variance are those of the number drawn."""

    p: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", as_probabilities(self.p))
        if self.p.ndim != 1:
            raise ValueError(f"p has shape {self.p.shape}: give the probabilities of one distribution")

    @property
    def mean(self) -> float:
        return float(self.p @ np.arange(len(self.p)))

    @property
    def variance(self) -> float:
        return float(self.p @ (np.arange(len(self.p)) - self.mean) ** 2)

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        """Lay the probabilities end to end on [0, 1) and see into which of them a uniform number falls."""
        ends = np.cumsum(self.p)
        return np.searchsorted(ends / ends[-1], rng.random(size), side="right")

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x == np.floor(x)) & (x >= 0) & (x < len(self.p))

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.p)[x.astype(np.int64)]

    @classmethod
    def fit(cls, x: ArrayLike, categories: int | None = None) -> "Categorical":
        """Each category's share; `categories` is V, where the last ones may not have come up."""
        x_N = observations(x, 0, whole=True)
        size = count(x_N.max() + 1 if categories is None else categories, "the number of categories", 1, MOST)
        x_N = observations(x_N, most=size - 1)
        return cls(np.bincount(x_N.astype(np.int64), minlength=size) / len(x_N))


@dataclass(frozen=True)
class Poisson(Distribution):
    """How many independent rare events fall into a span that has `rate` of them on average."""

    rate: float

    def __post_init__(self) -> None:
        positive(self.rate, "rate")

    @property
    def mean(self) -> float:
        return self.rate

    @property
    def variance(self) -> float:
        return self.rate

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return rng.poisson(self.rate, size)

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x == np.floor(x)) & (x >= 0)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return x * np.log(self.rate) - self.rate - gammaln(x + 1)

    @classmethod
    def fit(cls, x: ArrayLike) -> "Poisson":
        """The mean."""
        x_N = observations(x, 0, whole=True)
        if not x_N.any():
            raise ValueError("all counts are 0, and a rate is above 0: observe for longer")
        return cls(float(x_N.mean()))


def _share(p: float) -> None:
    if not 0 <= number(p, "p") <= 1:
        raise ValueError(f"p is {p}: give a probability from 0 to 1")
