"""How large a step may be: below 2 / L, where L is the largest curvature.

On a bowl f = sum of c_i w_i^2 / 2 a plain step w_i -= r c_i w_i multiplies the distance along each axis by 1 - r c_i.
That is why

- a walk comes closer only if |1 - r c_i| < 1 along each axis, so r < 2 / L with L = max c: at 2 / L it jumps from wall to
  wall for ever, beyond it climbs out;
- r = 1 / L stops overshooting, but along the flattest axis only 1 / k of the way goes by per step, where k = max c / min c
  is the condition number;
- the best is to be as far too short along the flattest axis as too far along the steepest, r = 2 / (min c + max c), and
  even then the distance shrinks by (k - 1) / (k + 1) per step. Other methods are made against that k.

Near a minimum every smooth function is a bowl, with the eigenvalues of its Hessian as curvatures, so the bound holds there.

>>> from cairn.foundations.descent import LANDSCAPES, walk
>>> curvature = curvatures(LANDSCAPES["bowl"], np.zeros(2))
>>> curvature.tolist(), bound(curvature), round(best(curvature), 4)
([1.0, 25.0], 0.08, 0.0769)
>>> path = walk(LANDSCAPES["bowl"], "plain", rate=best(curvature), steps=60)
>>> bool(np.isclose(measured(path), shrinkage(best(curvature), curvature)))
True

Shapes: w (2,); c (2,), curvatures from flattest to steepest.
"""

import numpy as np

from cairn.foundations.descent.landscapes import Landscape


def curvatures(land: Landscape, w: np.ndarray) -> np.ndarray:
    """Eigenvalues of the Hessian at w, in rising order."""
    return np.linalg.eigvalsh(land.hessian(w))


def bound(curvature: np.ndarray) -> float:
    """2 / L: plain steps of this rate or more do not settle. ValueError where nothing curves upwards."""
    if curvature.max() <= 0:
        raise ValueError(f"curvatures {curvature.tolist()}: no rate settles where the ground curves up in no direction")
    return float(2 / curvature.max())


def best(curvature: np.ndarray) -> float:
    """2 / (min c + max c): the rate at which the slowest axis is fastest."""
    return float(2 / (curvature.min() + curvature.max()))


def shrinkage(rate: float, curvature: np.ndarray) -> float:
    """What the distance to the minimum is multiplied by per step, in the long run: max |1 - r c|; above 1 it grows."""
    return float(np.abs(1 - rate * curvature).max())


def measured(path: np.ndarray, minimum: tuple[float, float] = (0.0, 0.0)) -> float:
    """The same, read off the last step of a path (steps + 1, 2). ValueError: no step, or one that began at the minimum."""
    if len(path) < 2:
        raise ValueError("the path has no step to measure: walk at least one")
    before, after = np.linalg.norm(path[-2:] - minimum, axis=1)
    if before == 0:
        raise ValueError("the path had arrived before its last step: measure a shorter one")
    return float(after / before)
