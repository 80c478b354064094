"""Distributions that expect outliers: Laplace and Student's t.

A normal says that ten deviations never happen, so one such value drags its mean along. Laplace's log-density falls by |x|, not
x^2, and its most likely centre is the median. Student's t falls like a power, |x|^-(nu+1): nu = 1 is Cauchy's, which has no
mean at all, and nu -> infinity is the normal.

>>> x = [1.0, 2.0, 3.0, 100.0, 2.5]
>>> Laplace.fit(x).location
2.5
>>> bool(StudentT(3.0, 0.0, 1.0).log_density(10.0) > Laplace(0.0, 1.0).log_density(10.0))
True
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import number, positive
from cairn.foundations.mathematics.probability.distribution import Distribution, Size, observations, varied
from cairn.foundations.mathematics.special import digamma, gammaln

STEPS, ENOUGH = 2000, 1e-10  # of the fit of a Student's t: it is done when no parameter moves by more (relative)
NU = (0.05, 1e4)  # degrees of freedom that are looked at: beyond the last it is a normal to four digits


@dataclass(frozen=True)
class Laplace(Distribution):
    """Density exp(-|x - location| / scale) / (2 scale)."""

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
        return 2 * self.scale**2

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        """The difference of two waiting times."""
        return self.location + self.scale * (rng.standard_exponential(size) - rng.standard_exponential(size))

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        return -np.abs(x - self.location) / self.scale - np.log(2 * self.scale)

    @classmethod
    def fit(cls, x: ArrayLike) -> "Laplace":
        """The median, and the mean distance from it."""
        x_N = varied(observations(x))
        median = float(np.median(x_N))
        return cls(median, float(np.abs(x_N - median).mean()))


@dataclass(frozen=True)
class StudentT(Distribution):
    """location + scale * t, t with `nu` degrees of freedom."""

    nu: float
    location: float
    scale: float

    def __post_init__(self) -> None:
        positive(self.nu, "nu")
        number(self.location, "location")
        positive(self.scale, "scale")

    @property
    def mean(self) -> float:
        """NaN up to nu = 1: the average of samples never settles."""
        return self.location if self.nu > 1 else float("nan")

    @property
    def variance(self) -> float:
        """Infinite up to nu = 2, and NaN where there is no mean."""
        if self.nu > 2:
            return self.scale**2 * self.nu / (self.nu - 2)
        return float("inf") if self.nu > 1 else float("nan")

    def sample(self, rng: np.random.Generator, size: Size) -> np.ndarray:
        """A normal whose precision is itself drawn, from a gamma with mean 1: now and then it is small, and x far out."""
        precision = rng.standard_gamma(self.nu / 2, size) / (self.nu / 2)
        return self.location + self.scale * rng.standard_normal(size) / np.sqrt(precision)

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.location) / self.scale
        constant = gammaln((self.nu + 1) / 2) - gammaln(self.nu / 2) - 0.5 * np.log(self.nu * np.pi)
        return constant - np.log(self.scale) - (self.nu + 1) / 2 * np.log1p(z**2 / self.nu)

    @classmethod
    def fit(cls, x: ArrayLike) -> "StudentT":
        """By expectation-maximization (Liu & Rubin 1995, ECME), since the drawn precisions are not seen.

        Expect: given the parameters, value i's precision is w_i = (nu + 1) / (nu + z_i^2), small for what lies far out.
        Maximize: location and scale are then the weighted mean and deviation, and nu is looked up along the likelihood.
        (To divide by sum w, which comes to N in the end, takes fewer rounds than by N: Meng & van Dyk 1997.)
        """
        x_N = varied(observations(x))
        median = float(np.median(x_N))
        spread = float(np.median(np.abs(x_N - median))) or float(x_N.std())
        found, moved = cls(4.0, median, spread), np.inf
        for _ in range(STEPS):
            w_N = (found.nu + 1) / (found.nu + ((x_N - found.location) / found.scale) ** 2)
            location = float(w_N @ x_N / w_N.sum())
            scale = float(np.sqrt(w_N @ (x_N - location) ** 2 / w_N.sum()))
            if scale < 1e-9 * spread:
                raise ValueError("most values are the same: a density that narrow has no most likely width")
            nu = _best_nu(x_N, location, scale)
            moved = max(abs(location - found.location) / scale, abs(scale / found.scale - 1), abs(nu / found.nu - 1))
            found = cls(nu, location, scale)
            if moved < ENOUGH:
                break
        if moved >= ENOUGH or found.nu > 0.99 * NU[1]:  # the more normal x looks, the slower it settles
            raise ValueError("the tails of x are not heavier than a normal's: fit a Normal")
        return found


def _best_nu(x_N: np.ndarray, location: float, scale: float) -> float:
    """The degrees of freedom of largest likelihood: where its derivative changes sign, by halving an interval of ln nu."""
    square_N = ((x_N - location) / scale) ** 2

    def slope(nu: float) -> float:
        ratio_N = square_N / nu
        per_value = (nu + 1) / nu * ratio_N / (1 + ratio_N) - np.log1p(ratio_N)
        upper, lower = digamma([(nu + 1) / 2, nu / 2])
        return float(upper - lower - 1 / nu + per_value.mean())

    low, high = np.log(NU)
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) > 0 else (low, middle)
    return float(np.exp(high))
