"""Distributions of waiting times: exponential for the first event, gamma for the one after `shape` of them.

If events come at a constant rate and without memory, the time to the next has density rate * exp(-rate x), and the counts in a
span are Poisson. The sum of k such times is a gamma with shape k, and k need not be whole. Its fit has no closed form: it is
where Newton's method earns its keep.

>>> Exponential(2.0).mean, Gamma(3.0, 2.0).mean
(0.5, 1.5)
>>> x = Gamma(3.0, 2.0).sample(np.random.default_rng(0), 10_000)
>>> fitted = Gamma.fit(x)
>>> bool(abs(fitted.shape - 3.0) < 0.1)
True
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import positive
from cairn.foundations.mathematics.probability.counts import times_log
from cairn.foundations.mathematics.probability.distribution import Distribution, Size, observations, varied
from cairn.foundations.mathematics.special import digamma, gammaln, trigamma

STEPS = 100  # of Newton's method, which takes about five


@dataclass(frozen=True)
class Exponential(Distribution):
    """Density rate * exp(-rate x) from 0 on."""

    rate: float

    def __post_init__(self) -> None:
        positive(self.rate, "rate")

    @property
    def mean(self) -> float:
        return 1 / self.rate

    @property
    def variance(self) -> float:
        return 1 / self.rate**2

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        """The inverse of P(X <= x) = 1 - exp(-rate x), of a uniform number."""
        return -np.log1p(-rng.random(size)) / self.rate

    def _support(self, x: np.ndarray) -> np.ndarray:
        return x >= 0

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.rate) - self.rate * x

    @classmethod
    def fit(cls, x: ArrayLike) -> "Exponential":
        """One over the mean."""
        x_N = observations(x, 0)
        if not x_N.any():
            raise ValueError("all times are 0: no rate is large enough; measure them more finely")
        return cls(float(1 / x_N.mean()))


@dataclass(frozen=True)
class Gamma(Distribution):
    """Density rate^shape x^(shape - 1) exp(-rate x) / G(shape) from 0 on."""

    shape: float
    rate: float

    def __post_init__(self) -> None:
        positive(self.shape, "shape")
        positive(self.rate, "rate")

    @property
    def mean(self) -> float:
        return self.shape / self.rate

    @property
    def variance(self) -> float:
        return self.shape / self.rate**2

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return rng.standard_gamma(self.shape, size) / self.rate

    def _support(self, x: np.ndarray) -> np.ndarray:
        return x >= 0

    def _somewhere(self) -> float:
        return 1.0

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return self.shape * np.log(self.rate) + times_log(self.shape - 1, x) - self.rate * x - gammaln(self.shape)

    @classmethod
    def fit(cls, x: ArrayLike) -> "Gamma":
        """Newton's method on the shape; the rate follows, since shape / rate must be the mean.

        With that rate the derivative by the shape a is N (ln a - digamma(a) - gap), where gap = ln mean(x) - mean(ln x) is
        all that the data have to say. Newton's step is taken on 1/a, in which the likelihood is nearly a parabola
        (Minka 2002, Estimating a Gamma distribution).
        """
        x_N = varied(observations(x, 0, inside=True))
        mean = float(x_N.mean())
        gap = float((np.log(mean) - np.log(x_N)).mean())
        if gap < 1e-12:
            raise ValueError("the values of x are equal to 6 digits: their spread is lost in rounding; fit a Normal")
        a = 0.5 / gap
        for _ in range(STEPS):
            slope = np.log(a) - digamma(a) - gap
            new = float(1 / (1 / a + slope / (a**2 * (1 / a - trigamma(a)))))
            if abs(new - a) < 1e-13 * a:
                break
            a = new
        return cls(new, new / mean)
