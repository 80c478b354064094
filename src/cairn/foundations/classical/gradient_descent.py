"""Downhill until the slope is gone: gradient descent whose step is derived rather than tuned.

If the slope changes by at most L for each unit of way (L is the largest curvature), the loss lies below the parabola
f(w) + g (v - w) + L/2 |v - w|^2 around each point w. That parabola is lowest at v = w - g / L: the step 1 / L always leads
down. It is slow in a long valley, where the curvature along it is far below L. Nesterov's way (1983) of looking ahead along
the way so far makes the steps grow with the square root of the ratio of both curvatures instead of the ratio. When the
momentum points uphill it is dropped (O'Donoghue and Candes 2015).

It ends when no component of the gradient is larger than `tolerance`: of a convex function that is the minimum.

>>> valley = np.array([1.0, 100.0])  # curvatures that differ a hundredfold
>>> found = minimise(lambda w: valley * (w - 3), np.zeros(2), curvature=100.0)
>>> found.point.round(6), found.steps < 500
(array([3., 3.]), True)
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Minimum(NamedTuple):
    point: np.ndarray
    steps: int
    slope: float  # largest component of the gradient there


def minimise(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    curvature: float,
    tolerance: float = 1e-10,
    max_steps: int = 100_000,
) -> Minimum:
    """The minimum of a convex function of any shape of array. Raises ValueError when it is not reached in max_steps."""
    point, ahead, pace = start, start, 1.0
    slope_there = gradient(ahead)
    for step in range(max_steps):
        slope = float(np.abs(slope_there).max())
        if slope <= tolerance:
            return Minimum(ahead, step, slope)
        if not np.isfinite(slope):
            raise ValueError(f"the slope after {step} steps is {slope}: is the curvature the largest one there is?")
        following = ahead - slope_there / curvature
        if np.vdot(slope_there, following - point) > 0:  # the way goes uphill: stop, and begin anew from here
            pace, following = 1.0, point - gradient(point) / curvature
        next_pace = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        ahead = following + (pace - 1) / next_pace * (following - point)
        point, pace = following, next_pace
        slope_there = gradient(ahead)
    raise ValueError(
        f"no minimum within {max_steps} steps: the slope is still {np.abs(slope_there).max():.1g}; give more L2, a larger "
        "tolerance or max_steps (without L2 there is none where a plane separates the classes: weights grow forever)"
    )
