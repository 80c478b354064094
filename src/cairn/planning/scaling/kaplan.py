"""The laws of Kaplan et al. (2020): power laws of loss in one thing while the others are plentiful, and the joint one.

    L(N) = (N_c / N)^alpha_N     L(D) = (D_c / D)^alpha_D     L(C) = (C_c / C)^alpha_C
    L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D                                  (their equation 1.5)

They have no irreducible loss, so they bend wrongly far from the runs; Hoffmann et al. added it. Kaplan counted N without
embeddings (`count="non-embedding"`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.planning.scaling.bootstrap import Estimate, estimate, run_choices, run_weights
from cairn.planning.scaling.powerlaw import PowerFit, robust_lines
from cairn.planning.scaling.runs import Run
from cairn.planning.scaling.solve import minimize_huber

NAMES = ("N_c", "D_c", "alpha_N", "alpha_D")
POINTS = 3  # of a frontier at least


@dataclass(frozen=True)
class Joint:
    """L(N, D) with its four numbers."""

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float

    def loss(self, parameters: float, tokens: float) -> float:
        small = (self.N_c / parameters) ** (self.alpha_N / self.alpha_D)
        return (small + self.D_c / tokens) ** self.alpha_D


@dataclass(frozen=True)
class JointFit:
    """The joint law, those of the bootstrap, and ln observed - ln fitted of each run."""

    law: Joint
    samples: tuple[Joint, ...]
    residuals: np.ndarray

    def estimates(self) -> dict[str, Estimate]:
        rows = np.array([[getattr(s, n) for n in NAMES] for s in self.samples])
        count = len(self.residuals)
        return {n: estimate(getattr(self.law, n), rows[:, i], count, len(NAMES)) for i, n in enumerate(NAMES)}


def frontier(x: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Which runs no run with as much of `x` or less beats: those that x alone holds back, as far as the runs can tell.

    >>> frontier(np.array([1, 2, 2, 3, 4]), np.array([5, 4, 3, 3.5, 2])).tolist()
    [True, False, True, False, True]
    """
    order = np.lexsort((loss, x))
    best, kept = np.inf, np.zeros(len(x), dtype=bool)
    for i in order:
        if loss[i] < best:
            best, kept[i] = loss[i], True
    return kept


def fit_single(runs: Sequence[Run], key: str, *, delta: float = 1e-3, draws: int = 1000, seed: int = 1) -> PowerFit:
    """L(N), L(D) or L(C) (`key` parameters, tokens or flops) through the frontier. Its exponent is minus Kaplan's alpha.

    The bootstrap draws runs and finds the frontier anew.
    """
    x = np.array([getattr(run, key) for run in runs])
    loss = np.array([run.loss for run in runs])
    on = frontier(x, loss)
    if on.sum() < POINTS:
        raise UserError(f"only {on.sum()} runs are best for their {key}; a power law needs {POINTS}")
    weights = [on.astype(float)]
    for keep in run_choices(draws, len(runs), seed):
        drawn = np.zeros(len(runs))
        drawn[keep] = frontier(x[keep], loss[keep])
        if drawn.sum() >= POINTS:
            weights.append(drawn)
    laws = robust_lines(x, loss, np.array(weights), delta)
    return PowerFit(laws[0], tuple(laws[1:]), int(on.sum()), 2)


def fit_joint(runs: Sequence[Run], *, delta: float = 1e-3, draws: int = 1000, seed: int = 1) -> JointFit:
    """L(N, D) by Huber's loss on ln L. Raises UserError where the runs cannot determine it."""
    if len(runs) <= len(NAMES):
        raise UserError(f"{len(runs)} runs cannot determine a law of {len(NAMES)} parameters")
    log_n, log_d, log_loss = (np.log([getattr(r, k) for r in runs]) for k in ("parameters", "tokens", "loss"))
    if min(len(np.unique(log_n)), len(np.unique(log_d))) < 2:
        raise UserError("the joint law needs at least two sizes and two token counts")
    n0, d0 = log_n.mean(), log_d.mean()
    x, y = log_n - n0, log_d - d0

    def curve(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln L = alpha_D logsumexp(p - k x, q - y), where k = alpha_N / alpha_D."""
        first, second = theta[:, [0]] - theta[:, [1]] * x, theta[:, [2]] - y
        top = np.maximum(first, second)
        total = np.exp(first - top) + np.exp(second - top)
        inner = top + np.log(total)
        share, alpha = np.exp(first - top) / total, theta[:, [3]]
        return alpha * inner, np.stack([alpha * share, -alpha * share * x, alpha * (1 - share), inner], -1)

    low, high = np.array([-60.0, 0.02, -60.0, 0.003]), np.array([400.0, 50.0, 400.0, 3.0])
    alphas = np.array([0.03, 0.06, 0.1, 0.2, 0.4])
    level = log_loss.mean() / alphas
    starts = np.array(
        [[c - math.log(2), k, c - math.log(2), a] for a, c in zip(alphas, level) for k in (0.5, 0.8, 1.5)]
    )

    def solve(first: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return minimize_huber(curve, first, log_loss, weights, delta=delta, low_K=low, high_K=high)

    theta, cost = solve(starts, np.ones((1, len(runs))))
    best = theta[cost.argmin()]
    weights = run_weights(draws, len(runs), seed)
    sampled, _ = solve(np.repeat(best[None], draws, axis=0), weights)

    def joint(row: np.ndarray) -> Joint:
        p, k, q, alpha = map(float, row)
        # Of a law that has hardly any slope the scale is astronomical, and more than a float holds.
        return Joint(_exp(p / k + n0), _exp(q + d0), alpha * k, alpha)

    residuals = log_loss - curve(best[None])[0][0]
    return JointFit(joint(best), tuple(joint(row) for row in sampled), residuals)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
