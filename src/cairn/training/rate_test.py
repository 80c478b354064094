"""Learning-rate range test (Smith 2017): let the rate rise exponentially over a hundred steps and see where the loss falls
fastest and where it breaks.

Every step takes a new batch, on a copy of the model. One factor scales the rates of all groups, so that `lr` and `matrix_lr`
rise together and keep their ratio.
"""

import math
from dataclasses import dataclass

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.models.model import Model
from cairn.training.objective import Data, Objective
from cairn.training.trainer import TrainConfig
from cairn.training.trial import Trial

HALF = (
    4  # steps to either side that the smoothed loss is a mean of: a mean of past ones alone would lag, to higher rates
)
LATEST = 5  # steps whose median says whether the loss has broken
BREAKS = 1.2  # times its first value, or
RISES = 0.5  # of what had been gained lost again
FEWEST = 10  # steps of which something can be told
AS_GOOD = 0.05  # of the whole descent above the lowest point
SAFETY = 10.0  # the rate with the lowest loss is on the edge already


@dataclass(frozen=True)
class RateTestConfig:
    low: float = option(1e-6, "rate of AdamW to begin with; the others in proportion", minimum=0)
    high: float = option(1.0, "rate to end with", minimum=0)
    steps: int = option(100, "steps from one to the other", minimum=10)

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise UserError(
                f"the range test rises from low to high: low ({self.low:g}) must be above 0 and below high ({self.high:g})"
            )


@dataclass(frozen=True)
class RateTest:
    """rates, losses, smooth (N,): the rate `lr` of each step, its loss, and the mean over its neighbours.

    steepest: the rate at which the loss fell fastest; below_minimum: a tenth of the
    rate with the lowest loss, a more careful choice. broke: the rate
    at which it broke, None when it did not. matrix_ratio: matrix_lr is this many times lr.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    steepest: float
    below_minimum: float
    broke: float | None
    matrix_ratio: float

    @property
    def text(self) -> str:
        """One line."""
        end = "it did not break" if self.broke is None else f"it broke at {self.broke:.2g}"
        matrices = f" --train.matrix-lr {self.steepest * self.matrix_ratio:.2g}" if self.matrix_ratio else ""
        return (
            f"the loss fell fastest at {self.steepest:.2g} and was lowest at {self.below_minimum * SAFETY:.2g}, {end}; "
            f"try --train.lr {self.steepest:.2g}{matrices}, or {self.below_minimum:.2g} to be careful"
        )


def rate_test(
    model: Model, objective: Objective, data: Data, config: TrainConfig, settings: RateTestConfig = RateTestConfig()
) -> RateTest:
    """Steps 0, 1, 2 ... of `data` at rates from settings.low to settings.high, until the loss breaks.

    Raises UserError when `config.lr` is 0, or when the loss breaks before there is anything to see.
    """
    if not config.lr:
        raise UserError("the range test scales the rates of the run: set train.lr above 0")
    trial = Trial(model, objective, data, config)
    planned = np.geomspace(settings.low, settings.high, settings.steps)
    losses: list[float] = []
    medians: list[float] = []
    broke = None
    for step, rate in enumerate(planned):
        loss = trial.step(data.batch(step), float(rate) / config.lr)
        now = float(np.median([*losses[-LATEST + 1 :], loss]))
        if not math.isfinite(loss) or (medians and _broken(now, medians)):
            broke = float(rate)
            break
        losses.append(loss)
        medians.append(now)
    if len(losses) < FEWEST:
        raise UserError(
            f"the loss broke after {len(losses)} steps, at a rate of {broke:.2g}: begin lower, or overfit one batch first"
        )
    rates, ratio = planned[: len(losses)], config.matrix_lr / config.lr if config.optimizer == "muon" else 0.0
    smooth = _smoothed(np.array(losses))
    steepest, lowest = suggest(rates, smooth)
    return RateTest(rates.tolist(), losses, smooth.tolist(), steepest, lowest / SAFETY, broke, ratio)


def suggest(rates: np.ndarray, smooth: np.ndarray) -> tuple[float, float]:
    """(rate of the steepest descent over the logarithm of the rate, rate of the lowest loss)."""
    # Beyond the descent the curve is flat and noise says where it is lowest: take the lowest rate that is as good.
    lowest = int(np.argmax(smooth <= smooth.min() + AS_GOOD * (smooth[0] - smooth.min())))
    if lowest < 2:
        return float(rates[lowest]), float(rates[lowest])
    slope = np.gradient(smooth[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[int(slope.argmin())]), float(rates[lowest])


def _smoothed(losses: np.ndarray) -> np.ndarray:
    return np.array([losses[max(0, i - HALF) : i + HALF + 1].mean() for i in range(len(losses))])


def _broken(now: float, before: list[float]) -> bool:
    best = min(before)
    return now > BREAKS * before[0] or now > best + max(RISES * (before[0] - best), 0.1 * before[0])


def picture(test: RateTest) -> bytes:
    """The curve as an SVG: loss over rate, what is suggested marked."""
    from cairn.training.diagnose.picture import COLOURS, drawing, logarithmic, svg

    figure, (axes,) = drawing(1)
    axes.plot(test.rates, test.losses, color=COLOURS["faint"], linewidth=0.8)
    axes.plot(test.rates, test.smooth, color=COLOURS["line"], linewidth=1.8)
    marks = sorted([(test.steepest, "steepest"), (test.below_minimum, "lowest / 10")])
    for (rate, label), side in zip(marks, (-1, 1)):
        axes.axvline(rate, color=COLOURS["mark"], linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(f"{label}\n{rate:.2g}", (rate, 0.02), xycoords=("data", "axes fraction"), xytext=(3 * side, 0),
                      textcoords="offset points", ha="right" if side < 0 else "left", size=9, color=COLOURS["mark"])  # fmt: skip
    logarithmic(axes, "x")
    axes.set_xlabel("rate (lr)")
    axes.set_ylabel("loss")
    axes.set_title(f"range test: try {test.steepest:.2g}", loc="left", size=11)
    return svg(figure, "rate-test")
