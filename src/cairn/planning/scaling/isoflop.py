"""IsoFLOP profiles, the second approach of Hoffmann et al. (2022): many sizes at the same compute, and the best among them.

At fixed FLOPs the loss over log N is a valley: too small a model on the left, too little text on the right. A parabola finds
its lowest point for each budget, and power laws through those points say how N and D should grow with compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.core.errors import UserError
from cairn.planning.scaling.bootstrap import Estimate, run_weights
from cairn.planning.scaling.powerlaw import PowerFit, PowerLaw, line
from cairn.planning.scaling.runs import Run

SAME_BUDGET = 1.1  # runs whose FLOPs differ by less than this factor have the same budget
MEMBERS = 4  # runs of a profile at least: a parabola has three numbers


@dataclass(frozen=True)
class Profile:
    """The runs of one budget, and their parabola over ln N (curvature, slope, height; highest power first).

    parameters, tokens, loss: the lowest point. inside: whether it is one, and lies among the sizes that were run.
    """

    flops: float
    runs: tuple[Run, ...]
    parabola: tuple[float, float, float]
    parameters: float
    tokens: float
    loss: float
    inside: bool


@dataclass(frozen=True)
class IsoFlopFit:
    profiles: tuple[Profile, ...]
    parameters: PowerFit
    tokens: PowerFit

    def optimal(self, flops: float) -> tuple[Estimate, Estimate]:
        """Parameters and tokens for a budget, with intervals."""
        return self.parameters.at(flops), self.tokens.at(flops)


def profiles(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs by budget, in the order of size; budgets of fewer than MEMBERS sizes are left out."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda r: r.flops):
        if groups and run.flops < groups[-1][0].flops * SAME_BUDGET:
            groups[-1].append(run)
        else:
            groups.append([run])
    found = [tuple(sorted(group, key=lambda r: r.parameters)) for group in groups]
    return [group for group in found if len({run.parameters for run in group}) >= MEMBERS]


def fit_isoflop(runs: Sequence[Run], *, draws: int = 1000, seed: int = 1) -> IsoFlopFit:
    """Parabolas and the power laws through their lowest points. Raises UserError where fewer than two have one."""
    groups = profiles(runs)
    if len(groups) < 2:
        raise UserError(f"only {len(groups)} budgets have {MEMBERS} sizes or more; IsoFLOP profiles need two")
    found = [_profile(group, np.ones(len(group))) for group in groups]
    if sum(p.inside for p in found) < 2:
        raise UserError("fewer than two IsoFLOP profiles have their lowest point among their sizes; add sizes")
    best = _laws(found)
    assert best is not None
    count = sum(map(len, groups))
    weights = np.split(run_weights(draws, count, seed), np.cumsum([len(g) for g in groups])[:-1], axis=1)
    samples = [_laws([_profile(g, w[i]) for g, w in zip(groups, weights)]) for i in range(draws)]
    kept = [sample for sample in samples if sample is not None]
    fitted = 3 * len(groups)
    first, second = (PowerFit(best[i], tuple(sample[i] for sample in kept), count, fitted) for i in range(2))
    return IsoFlopFit(tuple(found), first, second)


def _profile(group: tuple[Run, ...], weights: np.ndarray) -> Profile:
    log_n = np.log([run.parameters for run in group])
    loss = np.array([run.loss for run in group])
    middle = log_n.mean()
    root = np.sqrt(weights)  # polyfit squares them
    curvature, slope, height = np.polyfit(log_n - middle, loss, 2, w=root)
    place = -slope / (2 * curvature) if curvature > 0 else 0.0
    inside = bool(curvature > 0 and log_n[0] <= place + middle <= log_n[-1])
    place = float(np.clip(place, log_n[0] - middle, log_n[-1] - middle))
    # Tokens of that size at this budget: by the line through the runs' own, since FLOPs a token are not quite 6 N.
    tokens = np.polyval(np.polyfit(log_n - middle, np.log([run.tokens for run in group]), 1), place)
    lowest = float(np.polyval((curvature, slope, height), place))
    flops = float(np.exp(np.mean(np.log([run.flops for run in group]))))
    # The parabola over ln N itself.
    shifted = (curvature, slope - 2 * curvature * middle, height - slope * middle + curvature * middle**2)
    parabola = (float(shifted[0]), float(shifted[1]), float(shifted[2]))
    return Profile(flops, group, parabola, float(np.exp(place + middle)), float(np.exp(tokens)), lowest, inside)


def _laws(found: Sequence[Profile]) -> tuple[PowerLaw, PowerLaw] | None:
    """N and D over FLOPs through the valleys that have a lowest point."""
    inside = [p for p in found if p.inside]
    if len(inside) < 2:
        return None
    flops = np.array([p.flops for p in inside])
    first = line(flops, np.array([p.parameters for p in inside]))
    second = line(flops, np.array([p.tokens for p in inside]))
    return None if first is None or second is None else (first, second)
