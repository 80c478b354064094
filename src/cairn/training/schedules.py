"""Learning-rate schedules: the share of the peak rate at each step."""

import math

SCHEDULES = ("constant", "linear", "cosine", "wsd", "inverse-sqrt")
DECAY = 0.2  # wsd: the part of the steps after warm-up in which the rate falls


def rate(kind: str, step: int, steps: int, warmup: int, final: float = 0.0) -> float:
    """The factor at `step` (0-based): a linear rise over `warmup` steps, then the schedule, down to `final` at the end.

    linear and cosine fall over all the steps left. wsd is warm-up, stable, decay: constant, then linear over the last fifth
    (Hu et al. 2024). inverse-sqrt falls as 1 / sqrt(step) from the end of warm-up on, whatever the number of steps (Vaswani
    et al. 2017, Raffel et al. 2020). Going on with a trained model warms up again by the same function.

    Equal to `transformers`' schedules from the end of warm-up on; during it one step ahead, since a first step at a rate of
    0 does nothing.

    >>> [round(rate("linear", s, 10, 2), 2) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.12]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        shape = 1 - progress
    elif kind == "cosine":
        shape = 0.5 * (1 + math.cos(math.pi * progress))
    elif kind == "wsd":
        shape = min(1.0, (1 - progress) / DECAY)
    elif kind == "inverse-sqrt":
        shape = math.sqrt(max(1, warmup) / max(1, step))
    else:
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(SCHEDULES)}")
    return final + (1 - final) * shape
