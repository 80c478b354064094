"""How the run went besides its loss: data seen again, clipping, speed."""

import numpy as np

from cairn.training.diagnose.finding import NOTE, WARNING, Finding
from cairn.training.diagnose.loss import FEWEST
from cairn.training.diagnose.robust import noise, theil_sen
from cairn.training.diagnose.run import Run

MANY_EPOCHS, TOO_MANY_EPOCHS = (
    4,
    16,
)  # up to 4 nearly as good as new data, beyond 16 nearly worthless (Muennighoff 2023)
ALWAYS = 0.95  # of the rows
SLOWER = 0.7


def repeated(run: Run) -> list[Finding]:
    """Tokens trained on over tokens of the corpus."""
    size, tokens = run.fact("corpus_tokens"), run.column("tokens")[1]
    if not size or not len(tokens) or tokens[-1] / size <= MANY_EPOCHS:
        return []
    epochs = tokens[-1] / size
    evidence = f"{tokens[-1]:,.0f} tokens from a corpus of {size:,.0f}: every one was seen {epochs:.1f} times"
    severity = WARNING if epochs > TOO_MANY_EPOCHS else NOTE
    return [Finding("data repeated", severity, evidence, "more text, or fewer steps", None, {"epochs": epochs})]


def clipping(run: Run) -> list[Finding]:
    """The gradient's norm is above the limit in nearly all rows: the limit, not the gradient, sets the step."""
    limit, (_, norms) = run.setting("clip"), run.column("grad_norm", after=run.warm)
    if not limit or len(norms) < FEWEST or np.mean(norms > limit) < ALWAYS:
        return []
    usual = float(np.median(norms))
    evidence = (
        f"{np.mean(norms > limit):.0%} of the gradients are above the limit of {limit:g}, the median is {usual:.3g}"
    )
    harmless = run.train.get("optimizer") != "sgd" and usual < 10 * limit
    why = "Muon and AdamW divide a constant factor out again; " if run.train.get("optimizer") != "sgd" else ""
    advice = f"{why}set train.clip to about {2 * usual:.2g}, so that it cuts off outliers only"
    return [Finding("clipping always active", NOTE if harmless else WARNING, evidence, advice, None, {"median": usual})]


def slower(run: Run) -> list[Finding]:
    """Tokens a second in the last third against the first."""
    steps, speed = run.column("tokens_per_second")
    if len(speed) < 3 * FEWEST:
        return []
    third = len(speed) // 3
    first, last = float(np.median(speed[:third])), float(np.median(speed[-third:]))
    if last >= SLOWER * first:
        return []
    evidence = f"{first:,.0f} tokens/s in the first third, {last:,.0f} in the last"
    advice = "look for another process on the machine, heat, memory that swaps, or rows that have become longer"
    return [Finding("throughput falls", NOTE, evidence, advice, int(steps[-third]), {"first": first, "last": last})]


def noisy(run: Run) -> list[Finding]:
    """Rows scatter more than the loss changes over the second half."""
    steps, loss = run.loss()
    half = len(loss) // 2
    if half < FEWEST:
        return []
    sigma, slope = noise(loss), theil_sen(steps[half:], loss[half:])
    change = abs(slope.value) * (steps[-1] - steps[half])
    if sigma <= 2 * change or sigma < 0.02 * float(np.median(loss[half:])):
        return []
    evidence = f"a row scatters by {sigma:.3f}, the second half changes by {change:.3f}: single rows say nothing"
    return [
        Finding(
            "noise above trend", NOTE, evidence, "more rows a step, or a larger train.log_every", None, {"noise": sigma}
        )
    ]
