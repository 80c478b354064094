"""Distributions on an interval: uniform, and beta, which is what one believes about a probability.

Beta(a, b) has density x^(a-1) (1-x)^(b-1) / B(a, b) on [0, 1]: flat at a = b = 1, narrow when both are large, and shaped by a
coin's a - 1 heads and b - 1 tails (`bayes`).

>>> Beta(2.0, 2.0).log_density([0.5]).round(6).tolist(), Uniform(0.0, 4.0).variance
([0.405465], 1.3333333333333333)
>>> Uniform.fit([2.0, 5.0, 3.0])
Uniform(low=2.0, high=5.0)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import number, positive
from cairn.foundations.mathematics.probability.counts import times_log
from cairn.foundations.mathematics.probability.distribution import Distribution, Size, observations, varied
from cairn.foundations.mathematics.special import digamma, gammaln, trigamma

STEPS = 200  # of Newton's method, which takes about ten


@dataclass(frozen=True)
class Uniform(Distribution):
    """The same density everywhere from low to high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not number(self.low, "low") < number(self.high, "high"):
            raise ValueError(f"low {self.low} is not below high {self.high}: swap them or widen the interval")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def variance(self) -> float:
        return (self.high - self.low) ** 2 / 12

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return self.low + (self.high - self.low) * rng.random(size)

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x >= self.low) & (x <= self.high)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return np.full_like(x, -np.log(self.high - self.low))

    @classmethod
    def fit(cls, x: ArrayLike) -> "Uniform":
        """The smallest interval that holds all of x: always narrower than the true one."""
        x_N = varied(observations(x))
        return cls(float(x_N.min()), float(x_N.max()))


@dataclass(frozen=True)
class Beta(Distribution):
    """Density x^(a-1) (1-x)^(b-1) / B(a, b) on [0, 1], B(a, b) = G(a) G(b) / G(a + b)."""

    a: float
    b: float

    def __post_init__(self) -> None:
        positive(self.a, "a")
        positive(self.b, "b")

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> float:
        total = self.a + self.b
        return self.a * self.b / (total**2 * (total + 1))

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        return rng.beta(self.a, self.b, size)

    def _support(self, x: np.ndarray) -> np.ndarray:
        return (x >= 0) & (x <= 1)

    def _somewhere(self) -> float:
        return 0.5

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        powers = times_log(self.a - 1, x) + times_log(self.b - 1, 1 - x)
        return powers - gammaln(self.a) - gammaln(self.b) + gammaln(self.a + self.b)

    @classmethod
    def fit(cls, x: ArrayLike) -> "Beta":
        """Newton's method on both at once, from the beta with x's mean and variance.

        Per value the log-likelihood is a s + b t - ln B(a, b) + const with s = mean(ln x), t = mean(ln(1 - x)). It is concave,
        so Newton's step, halved while it leads down or below 0, finds its only summit.
        """
        x_N = varied(observations(x, 0, 1, inside=True))
        s, t = float(np.log(x_N).mean()), float(np.log1p(-x_N).mean())

        def likelihood(ab: np.ndarray) -> float:
            return float(ab @ [s, t] - gammaln(ab).sum() + gammaln(ab.sum())) if ab.min() > 0 else -np.inf

        mean, variance = float(x_N.mean()), float(x_N.var())
        if variance < 1e-12 * mean * (1 - mean):
            raise ValueError("the values of x are equal to 6 digits: their spread is lost in rounding; fit a Normal")
        ab = np.maximum(mean * (1 - mean) / variance - 1, 1e-3) * np.array([mean, 1 - mean])
        for _ in range(STEPS):
            gradient = np.array([s, t]) - digamma(ab) + digamma(ab.sum())
            hessian = trigamma(ab.sum()) - np.diag(trigamma(ab))
            step = -np.linalg.solve(hessian, gradient)
            before = likelihood(ab)
            while likelihood(ab + step) < before - 1e-12 * abs(before):
                step /= 2
            ab = ab + step
            if (np.abs(step) < 1e-12 * ab).all():
                break
        return cls(float(ab[0]), float(ab[1]))
