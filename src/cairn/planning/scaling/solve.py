"""Robust curve fitting, many problems at once: the engine under every fit of this room.

A law is fitted by the sum of Huber's loss over its residuals on log-loss, as Hoffmann et al. (2022) do: quadratic near zero,
linear beyond `delta`, so that a run that went wrong does not bend the curve. Levenberg-Marquardt with Huber's weights finds
the minimum, for all starts and all bootstrap samples in one batch of small matrices: a bootstrap is the same problem with
other weights. Steps are in float64 NumPy.

Shapes: P problems, N runs, K parameters.
"""

from collections.abc import Callable

import numpy as np

# theta (P, K) -> predictions (P, N) and their derivatives (P, N, K)
Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

HARDEST = 1e12  # damping at which a step no longer moves anything


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    """r^2 / 2 within delta, delta (|r| - delta / 2) beyond (Huber 1964)."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def minimize_huber(
    curve: Curve,
    start_PK: np.ndarray,
    target_N: np.ndarray,
    weight_PN: np.ndarray,
    *,
    delta: float,
    low_K: np.ndarray,
    high_K: np.ndarray,
    iterations: int = 400,
) -> tuple[np.ndarray, np.ndarray]:
    """The parameters (P, K) and the sums of Huber's loss (P,) that each start comes to, inside the box low .. high.

    Each step minimises a quadratic that touches Huber's sum from above (weights min(1, delta / |r|)), damped until it
    lowers the sum itself; a parameter that leans on the border of the box stays there for the step.
    """
    theta = np.clip(np.array(start_PK, dtype=np.float64), low_K, high_K)
    out, cost_P = theta.copy(), np.full(len(theta), np.inf)
    alive = np.arange(len(theta))
    weight = np.broadcast_to(weight_PN, (len(theta), len(target_N)))
    damping = np.full(len(theta), 1e-4)
    value, slope = curve(theta)
    residual = value - target_N
    cost = (weight * huber(residual, delta)).sum(1)
    quiet = np.zeros(len(theta), dtype=int)
    for _ in range(iterations):
        scaled = weight * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
        gradient = np.einsum("pnk,pn->pk", slope, scaled * residual)
        hessian = (slope * scaled[:, :, None]).swapaxes(1, 2) @ slope
        held = ((theta <= low_K) & (gradient > 0)) | ((theta >= high_K) & (gradient < 0))
        trial = np.clip(theta - _damped(hessian, gradient, damping, held), low_K, high_K)
        trial_value, trial_slope = curve(trial)
        trial_residual = trial_value - target_N
        trial_cost = (weight * huber(trial_residual, delta)).sum(1)
        better = trial_cost < cost  # False for NaN
        # Finished where neither long nor short steps have gained anything for a while.
        gained = np.where(better, cost - trial_cost, 0.0) > 1e-11 * cost
        quiet = np.where(gained, 0, quiet + 1)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, HARDEST)
        pick = better[:, None]
        theta = np.where(pick, trial, theta)
        residual = np.where(pick, trial_residual, residual)
        slope = np.where(pick[:, :, None], trial_slope, slope)
        cost = np.where(better, trial_cost, cost)
        out[alive], cost_P[alive] = theta, cost
        keep = (quiet < 12) & (damping < HARDEST) & (cost > 0)
        if not keep.all():
            alive, theta, residual, slope = alive[keep], theta[keep], residual[keep], slope[keep]
            cost, damping, quiet, weight = cost[keep], damping[keep], quiet[keep], weight[keep]
        if not len(alive):
            break
    return out, cost_P


def _damped(hessian: np.ndarray, gradient: np.ndarray, damping: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(H + damping diag H)^-1 g, with held parameters at zero. Marquardt's scaling: no parameter's unit matters."""
    diagonal = np.einsum("pkk->pk", hessian)
    ridge = damping[:, None] * diagonal + 1e-14 * diagonal.max(1, keepdims=True) + 1e-300
    matrix = hessian + ridge[:, :, None] * np.eye(hessian.shape[-1])
    free = ~held
    matrix = np.where(free[:, :, None] & free[:, None, :], matrix, 0.0)
    matrix = matrix + (held * matrix.max((1, 2))[:, None].clip(1e-300))[:, :, None] * np.eye(hessian.shape[-1])
    return np.linalg.solve(matrix, np.where(free, gradient, 0.0)[:, :, None])[:, :, 0]
