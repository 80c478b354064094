"""Functions that probability needs and NumPy lacks: log-gamma with its derivatives, and the error function.

Gamma extends the factorial, G(n + 1) = n!, and its logarithm is what formulas use: G(171) is too large for a float64. For large
x Stirling's series is exact to rounding,
    ln G(x) = (x - 1/2) ln x - x + ln(2 pi) / 2 + sum_k B_2k / (2k (2k - 1) x^(2k-1))      (Abramowitz & Stegun 6.1.40),
and small x become large by G(x + 1) = x G(x). The derivatives (6.3.18, 6.4.12) are the same series, term by term.

>>> gammaln([5.0, 0.5]).round(12).tolist()  # ln 4! and ln sqrt(pi)
[3.178053830348, 0.572364942925]
>>> digamma([1.0]).round(12).tolist()  # minus Euler's constant
[-0.577215664902]
>>> erf([0.0, 1.0]).round(12).tolist()
[0.0, 0.84270079295]
"""

from typing import Any

import numpy as np

# Bernoulli numbers B_2, B_4, ... B_16. From LARGE on the first term left out is below 2e-18.
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
LARGE = 10


def gammaln(x: Any) -> np.ndarray:
    """ln G(x) for x > 0, to about 1e-14 of max(1, |ln G|)."""
    x, large, shift = _shifted(x)
    small = 1 / large  # its powers fade to 0; those of a large x would overflow
    series = sum(b / (2 * k * (2 * k - 1)) * small ** (2 * k - 1) for k, b in enumerate(BERNOULLI, 1))
    # (x - 1/2) ln x - x, written so that it is not inf - inf at infinity
    stirling = (large - 0.5) * (np.log(large) - 1) - 0.5 + 0.5 * np.log(2 * np.pi) + series
    # G(x) = G(x + 10) / (x (x + 1) ... (x + 9)); the product stays below 1e13.
    product = np.ones_like(x)
    for i in range(LARGE):
        product *= np.where(shift, x + i, 1.0)
    return stirling - np.log(product)


def digamma(x: Any) -> np.ndarray:
    """d/dx ln G(x) for x > 0: about ln x, and for whole x a sum of 1/1 + 1/2 + ..."""
    x, large, shift = _shifted(x)
    small = 1 / large
    series = sum(b / (2 * k) * small ** (2 * k) for k, b in enumerate(BERNOULLI, 1))
    terms = sum(np.where(shift, 1 / (x + i), 0.0) for i in range(LARGE))
    return np.log(large) - 0.5 * small - series - terms


def trigamma(x: Any) -> np.ndarray:
    """The second derivative of ln G(x) for x > 0: above 1/x, so ln G is convex."""
    x, large, shift = _shifted(x)
    small = 1 / large
    series = sum(b * small ** (2 * k + 1) for k, b in enumerate(BERNOULLI, 1))
    terms = sum(np.where(shift, 1 / (x + i) ** 2, 0.0) for i in range(LARGE))
    return small + 0.5 * small**2 + series + terms


def _shifted(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, x where it is large or else x + 10, and where it was shifted."""
    x = np.asarray(x, dtype=np.float64)
    if not (x > 0).all():
        raise ValueError("x must be above 0: the gamma function has poles at 0, -1, -2, ...")
    shift = x < LARGE
    return x, np.where(shift, x + LARGE, x), shift


def erf(x: Any) -> np.ndarray:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x: how much of a bell curve lies within x sqrt(2) deviations.

    The series exp(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...) (Abramowitz & Stegun 7.1.6) has no minus sign, so nothing cancels.
    """
    x = np.asarray(x, dtype=np.float64)
    near = np.clip(x, -NEAR, NEAR)
    term = total = near
    for n in range(1, 30):  # from 25 on nothing changes any more
        term = term * (2 * near**2 / (2 * n + 1))
        total = total + term
    series = 2 / np.sqrt(np.pi) * np.exp(-(near**2)) * total
    return np.where(np.abs(x) <= NEAR, series, np.sign(x) * (1 - _erfc_far(np.abs(x))))


def erfc(x: Any) -> np.ndarray:
    """1 - erf(x), with all its digits also where that is 1e-300: what lies beyond."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(x <= NEAR, 1 - erf(np.minimum(x, NEAR)), _erfc_far(np.maximum(x, NEAR)))


NEAR = 1.5  # up to here the series for erf, beyond it the fraction for erfc


def _erfc_far(x: np.ndarray) -> np.ndarray:
    """exp(-x^2) / sqrt(pi) / (x + 1/2 / (x + 1 / (x + 3/2 / (x + ...)))) for x >= NEAR, from the inside out (7.1.14)."""
    x = np.maximum(x, NEAR)
    fraction = x
    for n in range(80, 0, -1):  # at 1.5, where it converges slowest, 60 levels leave 2e-13
        fraction = x + n / 2 / fraction
    return np.exp(-(x**2)) / np.sqrt(np.pi) / fraction
