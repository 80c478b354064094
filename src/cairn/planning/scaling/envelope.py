"""The lower envelope of the training curves, the first approach of Hoffmann et al. (2022).

For each amount of compute, which of all runs had the lowest loss when it had spent that much, and what were its size and the
tokens it had seen? Power laws through these points give the compute-optimal N and D. Where the learning rate decays over the
length of a run, a curve is only at its best at its end: give several lengths of each size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.planning.scaling.bootstrap import Estimate, run_choices
from cairn.planning.scaling.powerlaw import PowerFit, PowerLaw, line
from cairn.planning.scaling.runs import Run

BUDGETS = 300  # places on the axis of compute
POINTS = 8  # of a curve at least
SMOOTHING = 0.15  # width of the Gaussian over ln tokens that evens out the loss of single batches


@dataclass(frozen=True)
class EnvelopeFit:
    """flops (M,), and the smoothed loss of the best run at each (M,); the laws of N and D."""

    flops: np.ndarray
    best_loss: np.ndarray
    parameters: PowerFit
    tokens: PowerFit

    def optimal(self, flops: float) -> tuple[Estimate, Estimate]:
        """Parameters and tokens for a budget, with intervals."""
        return self.parameters.at(flops), self.tokens.at(flops)


def smooth(tokens: np.ndarray, loss: np.ndarray, width: float = SMOOTHING) -> np.ndarray:
    """The loss of each row from a straight line through its neighbours, near in ln tokens.

    A line, not a mean: at the end of a curve, which decides the envelope, all neighbours lie before and a mean would lag.
    """
    x, out = np.log(tokens), np.empty_like(loss)
    first, last = np.searchsorted(x, x - 3 * width), np.searchsorted(x, x + 3 * width, side="right")
    for i, (start, stop) in enumerate(zip(first, last)):
        u, v = x[start:stop] - x[i], loss[start:stop]
        kernel = np.exp(-0.5 * (u / width) ** 2)
        s0, s1, s2 = kernel.sum(), kernel @ u, kernel @ (u * u)
        spread = s0 * s2 - s1 * s1
        lined = spread > 1e-9 * s0 * s0 * width**2  # else all the weight is on one row
        out[i] = (s2 * (kernel @ v) - s1 * (kernel @ (u * v))) / spread if lined else (kernel @ v) / s0
    return out


def fit_envelope(runs: Sequence[Run], *, draws: int = 1000, seed: int = 1) -> EnvelopeFit:
    """The envelope and its power laws. Raises UserError where too few curves are there, or one size is always best."""
    curved = [run for run in runs if len(run.curve_tokens) >= POINTS]
    if len({run.parameters for run in curved}) < 3:
        raise UserError(f"training curves of at least 3 sizes are needed, with {POINTS} rows of metrics each or more")
    each = [run.flops / run.tokens for run in curved]
    starts = [run.curve_tokens[0] * f for run, f in zip(curved, each)]
    ends = [run.curve_tokens[-1] * f for run, f in zip(curved, each)]
    flops = np.geomspace(min(starts), max(ends), BUDGETS)
    loss = np.full((len(curved), BUDGETS), np.inf)
    for i, (run, per_token) in enumerate(zip(curved, each)):
        inside = (flops >= starts[i]) & (flops <= ends[i] * (1 + 1e-9))
        values = np.log(smooth(run.curve_tokens, run.curve_loss))
        loss[i, inside] = np.interp(np.log(flops[inside] / per_token), np.log(run.curve_tokens), values)
    sizes = np.array([run.parameters for run in curved])
    per_token = np.array(each)
    whole = _laws(flops, loss, sizes, per_token)
    if whole is None:
        raise UserError("the envelope of the training curves has fewer than two sizes between smallest and largest")
    chosen = run_choices(draws, len(curved), seed)
    samples = [_laws(flops, np.where(keep[:, None], loss, np.inf), sizes, per_token) for keep in chosen]
    kept = [sample[:2] for sample in samples if sample is not None]
    laws, winner, used = whole[:2], whole[2], whole[3]
    first, second = (PowerFit(laws[i], tuple(sample[i] for sample in kept), len(curved), 2) for i in range(2))
    best = winner[used]
    return EnvelopeFit(flops[used], np.exp(loss[best, np.flatnonzero(used)]), first, second)


def _laws(
    flops: np.ndarray, loss: np.ndarray, sizes: np.ndarray, per_token: np.ndarray
) -> tuple[PowerLaw, PowerLaw, np.ndarray, np.ndarray] | None:
    """The laws of N and D, the best run at each budget, and which budgets were used.

    Budgets at which the smallest or the largest size is best are not: a still smaller or larger one might have been better.
    """
    winner = loss.argmin(0)
    present = np.isfinite(loss).any(1)
    if not present.any():
        return None
    size = sizes[winner]
    used = np.isfinite(loss.min(0)) & (size > sizes[present].min()) & (size < sizes[present].max())
    if len(np.unique(size[used])) < 2:
        return None
    first = line(flops[used], size[used])
    second = line(flops[used], flops[used] / per_token[winner[used]])
    return None if first is None or second is None else (first, second, winner, used)
