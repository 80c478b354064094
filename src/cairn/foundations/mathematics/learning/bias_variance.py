"""Why the model that fits best does not predict best: bias, variance and noise.

Draw a data set, fit, and predict at x; do it again with other data. The predictions scatter (variance) around their mean, which
misses the truth (bias), and a new observation misses the truth as well (noise). Squared, the three add up:

    E (y - f^(x))^2 = (f(x) - E f^(x))^2 + E (f^(x) - E f^(x))^2 + s^2

because the cross terms are 0: new noise knows nothing of the fit. A stiff model has bias, a supple one variance, and the sum
has its lowest point between them. Here it is measured rather than claimed: the left side on data sets of its own.

>>> rng = np.random.default_rng(0)
>>> stiff, supple = (decompose(polynomial(d), wave, 0.3, 25, 200, rng) for d in (1, 12))
>>> stiff.bias > 10 * supple.bias and supple.variance > 5 * stiff.variance
True

Shapes: N points of a data set, T points at which is predicted, R repeats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cairn.foundations.mathematics.checks import count, positive

Function = Callable[[np.ndarray], np.ndarray]
Learner = Callable[[np.ndarray, np.ndarray], Function]  # from data (x, y) to what it predicts

GRID = 100  # T: points from -1 to 1 at which predictions are compared


@dataclass(frozen=True)
class Decomposition:
    """Averages over x of the three parts, and of the squared error of fits to other data sets. All in y's unit squared."""

    bias: float  # squared; without the share that the scatter of the mean of R fits adds to it
    variance: float
    noise: float
    error: float
    uncertainty: float  # standard error of `error - total`

    @property
    def total(self) -> float:
        return self.bias + self.variance + self.noise


def wave(x: np.ndarray) -> np.ndarray:
    """One period of a sine on [-1, 1]."""
    return np.sin(np.pi * x)


def polynomial(degree: int) -> Learner:
    """Least squares with polynomials of the degree.

    In Legendre's basis, whose columns are nearly perpendicular; in powers of x the condition number grows tenfold with every
    few degrees.
    """
    degree = count(degree, "degree", 0)

    def learn(x_N: np.ndarray, y_N: np.ndarray) -> Function:
        if degree >= len(x_N):
            raise ValueError(
                f"degree {degree} needs more than {degree} points, there are {len(x_N)}: lower it or add some"
            )
        basis = np.polynomial.legendre.legvander
        coefficients, *_ = np.linalg.lstsq(basis(x_N, degree), y_N, rcond=None)
        return lambda x: basis(x, degree) @ coefficients

    return learn


def decompose(
    learner: Learner, truth: Function, noise: float, points: int, repeats: int, rng: np.random.Generator
) -> Decomposition:
    """Measure it on data y = truth(x) + noise at `points` even points of [-1, 1], the x of all `repeats` data sets alike.

    `noise` is a standard deviation. Twice as many data sets are drawn: half for the parts, half for the error.
    """
    positive(noise, "noise")
    points, repeats = count(points, "points", 2), count(repeats, "repeats", 2)
    x_N = np.linspace(-1, 1, points)
    x_T = np.linspace(-1, 1, GRID)
    truth_T = truth(x_T)

    def fits() -> np.ndarray:
        drawn_RN = truth(x_N) + noise * rng.standard_normal((repeats, points))
        return np.array([learner(x_N, y_N)(x_T) for y_N in drawn_RN])

    fit_RT = fits()
    variance = float(fit_RT.var(axis=0, ddof=1).mean())
    # The mean of R fits scatters by variance / R, which would count as bias.
    bias = float(((fit_RT.mean(axis=0) - truth_T) ** 2).mean()) - variance / repeats
    fresh_RT = truth_T + noise * rng.standard_normal((repeats, GRID))
    error_R = ((fresh_RT - fits()) ** 2).mean(axis=1)
    # bias + variance is, to the last digit, the mean of this; so that is what they are uncertain by.
    missed_R = ((fit_RT - truth_T) ** 2).mean(axis=1)
    uncertainty = np.sqrt((error_R.var(ddof=1) + missed_R.var(ddof=1)) / repeats)
    return Decomposition(bias, variance, noise**2, float(error_R.mean()), float(uncertainty))
