"""Every law at once: fitted to the same runs, asked for the same predictions, as one JSON-able record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.scaling.bootstrap import Estimate
from cairn.planning.scaling.chinchilla import LEAST, NAMES, SurfaceFit, fit_surface
from cairn.planning.scaling.envelope import EnvelopeFit, fit_envelope
from cairn.planning.scaling.isoflop import IsoFlopFit, fit_isoflop
from cairn.planning.scaling.kaplan import JointFit, fit_joint, fit_single
from cairn.planning.scaling.powerlaw import PowerFit
from cairn.planning.scaling.runs import COUNTS, Run

T = TypeVar("T")
SINGLE = {"N": "parameters", "D": "tokens", "C": "flops"}
BEYOND = (1.0, 10.0, 100.0)  # budgets that are answered unasked, in FLOPs of the largest run


@dataclass(frozen=True)
class FitConfig:
    count: str = option("total", "parameters with the embeddings among them, or without", choices=COUNTS)
    hold_out: int = option(0, "runs of most FLOPs that are not fitted but predicted", minimum=0)
    delta: float = option(1e-3, "residual of log-loss from which Huber's loss is linear", minimum=1e-9)
    draws: int = option(1000, "samples of the bootstrap", minimum=100)
    seed: int = option(1, "seed of the bootstrap", minimum=0)


@dataclass(frozen=True)
class Point:
    """A run to be predicted; observed is its loss where it is known."""

    name: str
    parameters: float
    tokens: float
    observed: float | None = None


@dataclass(frozen=True)
class Laws:
    """What was fitted to `runs`. A law that the runs do not determine is None, and `skipped` says why."""

    runs: tuple[Run, ...]
    held: tuple[Run, ...]
    surface: SurfaceFit
    isoflop: IsoFlopFit | None
    envelope: EnvelopeFit | None
    joint: JointFit | None
    single: dict[str, PowerFit]
    skipped: dict[str, str]


def fit_laws(runs: Sequence[Run], config: FitConfig) -> Laws:
    """Fit everything to all but the held-out runs. Raises UserError where not even L(N, D) can be fitted."""
    ordered = sorted(runs, key=lambda run: run.flops)
    if len(ordered) - config.hold_out < LEAST:
        raise UserError(
            f"{len(ordered)} runs less {config.hold_out} held out leave too few to fit: at least {LEAST} are needed"
        )
    split = len(ordered) - config.hold_out
    fitted, held = tuple(ordered[:split]), tuple(ordered[split:])
    skipped: dict[str, str] = {}

    def attempt(name: str, fit: Callable[[], T]) -> T | None:
        try:
            return fit()
        except UserError as error:
            skipped[name] = str(error)
            return None

    sampling = {"draws": config.draws, "seed": config.seed}
    single = {
        name: attempt(f"L({name})", lambda key=key: fit_single(fitted, key, delta=config.delta, **sampling))
        for name, key in SINGLE.items()
    }
    return Laws(
        fitted,
        held,
        fit_surface(fitted, delta=config.delta, **sampling),
        attempt("isoflop", lambda: fit_isoflop(fitted, **sampling)),
        attempt("envelope", lambda: fit_envelope(fitted, **sampling)),
        attempt("kaplan L(N, D)", lambda: fit_joint(fitted, delta=config.delta, **sampling)),
        {name: fit for name, fit in single.items() if fit is not None},
        skipped,
    )


def points_of(laws: Laws) -> list[Point]:
    """The held-out runs, as what is to be predicted."""
    return [Point(run.name, run.parameters, run.tokens, run.loss) for run in laws.held]


def record(
    laws: Laws, config: FitConfig, points: Sequence[Point] = (), budgets: Sequence[float] = ()
) -> dict[str, Any]:
    """Everything as plain values. E, A, B, alpha and beta stand at the top: what `cairn plan` reads."""
    fit = laws.surface
    estimates = fit.estimates()
    budgets = budgets or [laws.runs[-1].flops * factor for factor in BEYOND]
    return {
        **{name: estimates[name].value for name in NAMES},
        "intervals": {name: [estimates[name].low, estimates[name].high] for name in NAMES},
        "count": config.count,
        "runs": len(laws.runs),
        "seconds": sum(run.seconds for run in laws.runs) if all(run.seconds for run in laws.runs) else None,
        "flops_per_parameter_token": fit.surface.per_pair,
        "fit": {
            "r2": fit.r2,
            "rmse": _rms(fit.residuals),
            "left_out_rmse": _rms(fit.left_out),
            "largest": float(np.abs(fit.residuals).max()),
        },
        "exponents": {name: {k: e.to_dict() for k, e in pair.items()} for name, pair in exponents(laws).items()},
        "kaplan": _kaplan(laws),
        "optimal": [_optimal(laws, flops) for flops in budgets],
        "predictions": [_prediction(laws, point) for point in points],
        "observed": [
            {"name": r.name, "parameters": r.parameters, "tokens": r.tokens, "flops": r.flops, "loss": r.loss}
            | {"fitted": fit.surface.loss(r.parameters, r.tokens)}
            for r in laws.runs
        ],
        "skipped": laws.skipped,
    }


def exponents(laws: Laws) -> dict[str, dict[str, Estimate]]:
    """a of N_opt ~ C^a and b of D_opt ~ C^b by each approach that could be fitted."""
    whole = laws.surface.estimates()
    out = {"parametric": {"a": whole["a"], "b": whole["b"]}}
    for name, fit in (("isoflop", laws.isoflop), ("envelope", laws.envelope)):
        if fit is not None:
            out[name] = {"a": fit.parameters.exponent, "b": fit.tokens.exponent}
    return out


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _kaplan(laws: Laws) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, fit in laws.single.items():
        # L = (X_c / x)^alpha is c x^p with p = -alpha and c = X_c^alpha.
        estimate = fit.exponent
        alpha = Estimate(-estimate.value, -estimate.high, -estimate.low)
        with np.errstate(over="ignore"):
            scale = float(np.float64(fit.law.coefficient) ** (1 / alpha.value))
        out[f"L({name})"] = {
            "alpha": alpha.to_dict(),
            f"{name}_c": scale if np.isfinite(scale) else None,
            "runs": fit.runs,
        }
    if laws.joint is not None:
        law = {name: estimate.to_dict() for name, estimate in laws.joint.estimates().items()}
        out["L(N, D)"] = law | {"rmse": _rms(laws.joint.residuals)}
    return out


def _optimal(laws: Laws, flops: float) -> dict[str, Any]:
    out: dict[str, Any] = {"flops": flops}
    for name, fit in (("parametric", laws.surface), ("isoflop", laws.isoflop), ("envelope", laws.envelope)):
        if fit is not None:
            parameters, tokens = fit.optimal(flops)
            out[name] = {"parameters": parameters.to_dict(), "tokens": tokens.to_dict()}
    best = laws.surface.surface.optimal(flops)
    return out | {"loss": laws.surface.predict(*best).to_dict()}


def _prediction(laws: Laws, point: Point) -> dict[str, Any]:
    loss = laws.surface.predict(point.parameters, point.tokens)
    out: dict[str, Any] = {"name": point.name, "parameters": point.parameters, "tokens": point.tokens}
    out |= {"loss": loss.to_dict(), "kaplan": laws.joint and laws.joint.law.loss(point.parameters, point.tokens)}
    if point.observed is not None:
        out |= {
            "observed": point.observed,
            "error": loss.value / point.observed - 1,
            "inside": loss.holds(point.observed),
        }
    return out
