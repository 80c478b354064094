"""Learning-rate schedules: the factor on the learning rate, as a function of the step.

Far from the goal large steps are right, near it small ones; and at the very start, while an optimizer's averages are still
of few gradients, small ones again (warm-up). A schedule here is a function from a step, counted from 0, to a factor; `fit`
sets the optimizer's rate to base rate * factor before each step. Functions that make a schedule are equal to the scheduler
of torch.optim.lr_scheduler that their docstring names.

>>> schedule = warm_up(4, then=cosine(10))
>>> [round(schedule(step), 2) for step in range(15)]
[0.25, 0.5, 0.75, 1.0, 1.0, 0.98, 0.9, 0.79, 0.65, 0.5, 0.35, 0.21, 0.1, 0.02, 0.0]
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda step: 1.0


def step_decay(every: int, factor: float = 0.1) -> Schedule:
    """Times `factor` after each `every` steps: StepLR."""
    _positive(every=every)
    return lambda step: factor ** (step // every)


def exponential(factor: float) -> Schedule:
    """Times `factor` after each step: ExponentialLR."""
    return lambda step: factor**step


def linear(steps: int, start: float = 1.0, end: float = 0.0) -> Schedule:
    """A line from `start` to `end` over `steps` steps, and `end` from there on: LinearLR."""
    _positive(steps=steps)
    return lambda step: start + (end - start) * min(step / steps, 1.0)


def cosine(steps: int, end: float = 0.0) -> Schedule:
    """Half a wave from 1 to `end`, flat at both ends, and `end` from there on: CosineAnnealingLR (Loshchilov and Hutter
    2017) until its rate would rise again."""
    _positive(steps=steps)
    return lambda step: end + (1 - end) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2


def warm_up(steps: int, then: Schedule) -> Schedule:
    """A line up to 1, which step `steps` - 1 has; then another schedule, which begins at its own step 0.

    LinearLR(1 / steps, total_iters=steps - 1) followed by another in SequentialLR.
    """
    _positive(steps=steps)
    return lambda step: (step + 1) / steps if step < steps else then(step - steps)


def one_cycle(steps: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4) -> Schedule:
    """Up from `start` to 1 over the share `rise` of the steps, then down to `end`, both along half a cosine (Smith 2018).

    OneCycleLR with max_lr as the base rate, div_factor 1 / start and final_div_factor start / end. Holds `end` afterwards.
    """
    _positive(steps=steps)
    top = rise * steps - 1
    if not 0 < top < steps - 1:
        raise ValueError(f"a rise over {rise} of {steps} steps leaves no way up or down; use more steps")

    def factor(step: int) -> float:
        step = min(step, steps - 1)
        if step <= top:
            return start + (1 - start) * (1 - math.cos(math.pi * step / top)) / 2
        return end + (1 - end) * (1 + math.cos(math.pi * (step - top) / (steps - 1 - top))) / 2

    return factor


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
