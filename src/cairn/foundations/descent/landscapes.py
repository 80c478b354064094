"""Landscapes to walk down: functions of two numbers, each with its gradient and its Hessian written out.

Each has one difficulty that training a network also has, small enough to be seen:

- *bowl*: f = (x^2 + k y^2) / 2, k times steeper across than along. The step that does not overshoot the steep direction
  crawls along the flat one.
- *Rosenbrock* (1960): a curved valley, easy to find and slow to follow.
- *Himmelblau* (1972): four minima of the same depth; which one is found depends on the walk.
- *Beale* (1958): plains that are nearly flat between steep walls.
- *saddle*: level at the origin, down to both sides in y. A method that looks for a gradient of 0 can end there.

>>> landscape = LANDSCAPES["Rosenbrock"]
>>> float(landscape.value(np.array([1.0, 1.0]))), landscape.gradient(np.array([0.0, 0.0])).tolist()
(0.0, [-2.0, 0.0])
>>> numerical = finite_differences(landscape.value, landscape.start)
>>> np.allclose(landscape.gradient(landscape.start), numerical, rtol=1e-6)
True

Shapes: w (2,) is a point x, y; the Hessian is (2, 2). Values work on grids too: w (2, ...) gives (...).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CONDITION = 25.0  # of the bowl: its steepest curvature over its flattest


@dataclass(frozen=True)
class Landscape:
    """A function with its derivatives, and how to show it."""

    name: str
    value: Callable[[np.ndarray], Any]  # a number of one point, an array of a grid
    gradient: Callable[[np.ndarray], np.ndarray]
    hessian: Callable[[np.ndarray], np.ndarray]
    minima: tuple[tuple[float, float], ...]  # the lowest points
    start: np.ndarray  # where walks begin
    view: tuple[float, float, float, float]  # least and largest x, least and largest y


def finite_differences(value: Callable[[np.ndarray], Any], w: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """(f(w + h) - f(w - h)) / 2h along each axis; right up to about h^2 f''' / 6. value may give vectors too."""
    return np.array([(value(w + h) - value(w - h)) / (2 * step) for h in step * np.eye(len(w))])


def bowl(condition: float = CONDITION) -> Landscape:
    """f = (x^2 + k y^2) / 2: curvature 1 along x and k along y."""
    curvature = np.array([1.0, condition])
    return Landscape(
        "bowl",
        value=lambda w: (w[0] ** 2 + condition * w[1] ** 2) / 2,
        gradient=lambda w: curvature * w,
        hessian=lambda w: np.diag(curvature),
        minima=((0.0, 0.0),),
        start=np.array([-4.0, 1.5]),
        view=(-4.5, 1.5, -2.0, 2.0),
    )


def _rosenbrock() -> Landscape:
    """f = (1 - x)^2 + 100 (y - x^2)^2; with r = y - x^2, dr/dx = -2x and dr/dy = 1."""

    def gradient(w: np.ndarray) -> np.ndarray:
        x, y = w
        r = y - x**2
        return np.array([-2 * (1 - x) - 400 * x * r, 200 * r])

    def hessian(w: np.ndarray) -> np.ndarray:
        x, y = w
        return np.array([[2 - 400 * (y - 3 * x**2), -400 * x], [-400 * x, 200.0]])

    return Landscape(
        "Rosenbrock",
        value=lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
        gradient=gradient,
        hessian=hessian,
        minima=((1.0, 1.0),),
        start=np.array([-1.2, 1.0]),
        view=(-1.8, 1.8, -0.8, 2.4),
    )


def _himmelblau() -> Landscape:
    """f = p^2 + q^2 with p = x^2 + y - 11 and q = x + y^2 - 7."""

    def gradient(w: np.ndarray) -> np.ndarray:
        x, y = w
        p, q = x**2 + y - 11, x + y**2 - 7
        return np.array([4 * x * p + 2 * q, 2 * p + 4 * y * q])

    def hessian(w: np.ndarray) -> np.ndarray:
        x, y = w
        p, q = x**2 + y - 11, x + y**2 - 7
        return np.array([[8 * x**2 + 4 * p + 2, 4 * (x + y)], [4 * (x + y), 8 * y**2 + 4 * q + 2]])

    return Landscape(
        "Himmelblau",
        value=lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
        gradient=gradient,
        hessian=hessian,
        # The second to fourth are roots of polynomials; to the digits that a float holds.
        minima=(
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        start=np.array([-0.5, -1.0]),
        view=(-5.0, 5.0, -5.0, 5.0),
    )


def _beale() -> Landscape:
    """f = sum over i of (c_i - x (1 - y^i))^2 for i = 1, 2, 3 and c = 1.5, 2.25, 2.625."""
    terms = tuple(zip((1, 2, 3), (1.5, 2.25, 2.625)))

    def gradient(w: np.ndarray) -> np.ndarray:
        x, y = w
        dx = dy = 0.0
        for i, c in terms:
            r = c - x * (1 - y**i)  # dr/dx = y^i - 1, dr/dy = i x y^(i-1)
            dx += 2 * r * (y**i - 1)
            dy += 2 * r * i * x * y ** (i - 1)
        return np.array([dx, dy])

    def hessian(w: np.ndarray) -> np.ndarray:
        x, y = w
        dxx = dxy = dyy = 0.0
        for i, c in terms:
            r, rx, ry = c - x * (1 - y**i), y**i - 1, i * x * y ** (i - 1)
            rxy, ryy = i * y ** (i - 1), (i * (i - 1) * x * y ** (i - 2) if i > 1 else 0.0)
            dxx += 2 * rx * rx
            dxy += 2 * (rx * ry + r * rxy)
            dyy += 2 * (ry * ry + r * ryy)
        return np.array([[dxx, dxy], [dxy, dyy]])

    return Landscape(
        "Beale",
        value=lambda w: sum((c - w[0] * (1 - w[1] ** i)) ** 2 for i, c in terms),
        gradient=gradient,
        hessian=hessian,
        minima=((3.0, 0.5),),
        start=np.array([0.5, 1.5]),
        view=(-1.0, 4.5, -1.3, 2.0),
    )


def _saddle() -> Landscape:
    """f = x^2 / 2 - y^2 / 2 + y^4 / 4 + 1/4: level at the origin, and 0, the least, at (0, -1) and (0, 1)."""
    return Landscape(
        "saddle",
        value=lambda w: w[0] ** 2 / 2 - w[1] ** 2 / 2 + w[1] ** 4 / 4 + 0.25,
        gradient=lambda w: np.array([w[0], w[1] ** 3 - w[1]]),
        hessian=lambda w: np.diag([1.0, 3 * w[1] ** 2 - 1]),
        minima=((0.0, -1.0), (0.0, 1.0)),
        start=np.array([-1.5, 0.05]),
        view=(-2.0, 1.8, -1.7, 1.7),
    )


LANDSCAPES = {landscape.name: landscape for landscape in (bowl(), _rosenbrock(), _himmelblau(), _beale(), _saddle())}
