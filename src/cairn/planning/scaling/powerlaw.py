"""A power law y = c x^p: a straight line between logarithms, by least squares or by Huber's loss."""

import math
from dataclasses import dataclass

import numpy as np

from cairn.planning.scaling.bootstrap import Estimate, estimate
from cairn.planning.scaling.solve import minimize_huber


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient x^exponent."""

    coefficient: float
    exponent: float

    def __call__(self, x: float) -> float:
        return self.coefficient * x**self.exponent


@dataclass(frozen=True)
class PowerFit:
    """The best law and those of the bootstrap. runs and fitted: what the intervals are widened by."""

    law: PowerLaw
    samples: tuple[PowerLaw, ...]
    runs: int
    fitted: int

    @property
    def exponent(self) -> Estimate:
        return estimate(self.law.exponent, np.array([s.exponent for s in self.samples]), self.runs, self.fitted)

    def at(self, x: float) -> Estimate:
        return estimate(self.law(x), np.array([s(x) for s in self.samples]), self.runs, self.fitted)


def line(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> PowerLaw | None:
    """Least squares on logarithms; None where there are not two different x."""
    u, v = np.log(x), np.log(y)
    w = np.ones_like(u) if weights is None else weights
    w = w / w.sum()
    middle = w @ u
    spread = w @ (u - middle) ** 2
    if not spread > 1e-12:
        return None
    slope = float(w @ ((u - middle) * (v - w @ v)) / spread)
    return PowerLaw(math.exp(w @ v - slope * middle), slope)


def robust_lines(x: np.ndarray, y: np.ndarray, weights_PN: np.ndarray, delta: float) -> list[PowerLaw]:
    """The law of least Huber loss on ln y under each row of weights."""
    middle = np.log(x).mean()
    u = np.log(x) - middle
    slope = np.stack([np.ones_like(u), u], -1)

    def curve(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta @ slope.T, np.broadcast_to(slope, (len(theta), *slope.shape))

    start = np.polyfit(u, np.log(y), 1)[::-1]
    far = np.full(2, 1e6)
    starts = np.repeat(start[None], len(weights_PN), axis=0)
    theta, _ = minimize_huber(curve, starts, np.log(y), weights_PN, delta=delta, low_K=-far, high_K=far)
    return [PowerLaw(math.exp(c - p * middle), float(p)) for c, p in theta]
