"""Before a long run: can the model learn one small batch by heart? A few dozen steps tell a broken chain from a slow one.

What cannot bring the loss of a handful of rows near zero will not learn from a billion: the targets are wrong, nothing counts,
no gradient arrives, or the rate does not fit.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cairn.models.model import Model
from cairn.training.causal import CausalLM, TokenBatch
from cairn.training.objective import Data, Objective
from cairn.training.targets import irreducible, sees_ahead, wrong_targets
from cairn.training.trainer import TrainConfig
from cairn.training.trial import Trial

ROWS = 2  # of the batch that are kept: more only take longer to learn
REACHED = 0.1  # of the way from the first loss to the floor that may be left
STILL = 0.02  # a loss that falls by less than this share does not move
WARMUP = 5  # steps
SAFE_RATE = 3e-3  # of AdamW, with which a small model learns a batch whatever the run's settings are


@dataclass(frozen=True)
class OverfitResult:
    """losses: before each step, and after the last. floor: what no model gets below. problem: what is wrong, in one line;
    empty when the batch was learned."""

    losses: list[float]
    floor: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem

    @property
    def text(self) -> str:
        """One line."""
        if not self.losses:
            return self.problem
        course = f"loss {self.losses[0]:.3f} -> {self.losses[-1]:.3f} in {len(self.losses) - 1} steps"
        course += f" (no model gets below {self.floor:.3f})" if self.floor > 0.001 else ""
        return f"one batch is learned by heart: {course}" if self.passed else f"{self.problem}; {course}"


def overfit_one_batch(
    model: Model, objective: Objective, data: Data, config: TrainConfig, *, steps: int = 100
) -> OverfitResult:
    """Train a copy of `model` on the first rows of step 0 at the run's peak rates, until they are learned or for `steps`.

    If they are not, a second copy is trained with AdamW at a rate known to be safe, which tells wrong rates from the rest.
    """
    config = dataclasses.replace(config, weight_decay=0.0)
    batch = _few_rows(data.batch(0)[0])
    trial, problem, floor = Trial(model, objective, data, config), "", 0.0
    if isinstance(objective, CausalLM) and isinstance(batch, TokenBatch):
        problem = wrong_targets(batch, model.config.vocab_size) or sees_ahead(trial.model, batch)
        floor = irreducible(batch)
    elif not data.weight(batch):
        problem = "nothing counts: the loss mask leaves nothing to learn from"
    if problem:
        return OverfitResult([], floor, problem)
    losses = _learn(trial, batch, steps, floor)
    if not math.isfinite(losses[-1]):
        return OverfitResult(losses[:-1], floor, f"step {len(losses)} is not finite: {trial.fault([batch]).text}")
    if _learned(losses, floor):
        return OverfitResult(losses, floor)
    silent = trial.without_gradient([batch])
    if silent:
        more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        return OverfitResult(losses, floor, f"no gradient reaches {', '.join(silent[:3])}{more}")
    safe = dataclasses.replace(config, optimizer="adamw", lr=SAFE_RATE, clip=1.0)
    other = _learn(Trial(model, objective, data, safe), batch, steps, floor)
    if _learned(other, floor):
        rates = f"lr {config.lr:g}" + (f" and matrix_lr {config.matrix_lr:g}" if config.optimizer == "muon" else "")
        problem = f"{rates} with {config.optimizer} do not fit, AdamW at {SAFE_RATE:g} learns the batch in {len(other) - 1} steps"
    elif other[-1] > (1 - STILL) * other[0]:
        problem = (
            "the loss does not move, whatever the rate: look at the targets, the loss mask and the initial weights"
        )
    else:
        problem = "the batch is not learned by heart: give it more steps, or look for noise in inputs and targets"
    return OverfitResult(losses, floor, problem)


def _few_rows(batch: Any) -> Any:
    """The first ROWS rows, of a batch of a kind whose rows can be told."""
    if not isinstance(batch, TokenBatch):
        return batch
    targets_BT = batch.targets_BT[:ROWS]
    documents_BT = None if batch.documents_BT is None else batch.documents_BT[:ROWS]
    return TokenBatch(batch.inputs_BT[:ROWS], targets_BT, int((targets_BT >= 0).sum()), documents_BT)


def _learn(trial: Trial, batch: Any, steps: int, floor: float) -> list[float]:
    """The losses, up to the first that is not finite or that says the batch is learned."""
    losses: list[float] = []
    for step in range(steps + 1):
        losses.append(trial.step([batch], min(1.0, (step + 1) / WARMUP)))
        if not math.isfinite(losses[-1]) or _learned(losses, floor):
            break
    return losses


def _learned(losses: list[float], floor: float) -> bool:
    return losses[-1] - floor <= REACHED * (losses[0] - floor)
