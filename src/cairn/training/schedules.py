"""Learning-rate schedules: the share of the peak rate at each step."""

import math

SCHEDULES = ("constant", "linear", "cosine", "wsd")


def rate(kind: str, step: int, steps: int, warmup: int, final: float = 0.0) -> float:
    """The factor at `step` (0-based): a linear rise over `warmup` steps, then the schedule, down to `final` at the end.

    wsd is warm-up, stable, decay: constant, then linear over the last fifth (Hu et al. 2024).

    >>> [round(rate("linear", s, 10, 2), 2) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.12]
    """
    if step < warmup:
        return (step + 1) / warmup
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    if kind == "linear":
        shape = 1 - progress
    elif kind == "cosine":
        shape = 0.5 * (1 + math.cos(math.pi * progress))
    elif kind == "wsd":
        shape = min(1.0, (1 - progress) / 0.2)
    else:
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(SCHEDULES)}")
    return final + (1 - final) * shape
