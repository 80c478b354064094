"""What the training loss says: not finite, a bad start, divergence, spikes, nothing learned, not done yet."""

import numpy as np

from cairn.training.diagnose.finding import NOTE, SEVERE, WARNING, Finding
from cairn.training.diagnose.robust import level, noise, running_median, theil_sen
from cairn.training.diagnose.run import Run

FEWEST = 8  # rows below which a curve has no trend to speak of
START_MARGIN, START_SHARE = 0.3, 0.1  # nats and share of ln V that a fresh model may begin above a uniform guess
SPIKE_NOISE, SPIKE_SHARE, SPIKE_WINDOW = 10.0, 0.1, 9
NORMAL_95 = 1.645  # standard deviations below which 95 % of a normal distribution lies
FRESH = 0.8  # a loss that begins above this share of ln V is that of a model that knows nothing yet
NOTHING_LEARNED, LITTLE_LEARNED = 0.02, 0.1  # fall as a share of where it began
WORTH_GOING_ON = 0.02  # of the loss, that as many steps again would bring at the slope of the end


def not_finite(run: Run) -> list[Finding]:
    """The fault that the trainer left, or the first row with a loss or a gradient that is not finite."""
    advice = (
        "lower the rate or lengthen the warm-up; in fp16 try bf16; go back to a checkpoint whose weights are finite"
    )
    if run.fault is not None:
        evidence = f"step {run.fault_step}: {run.fault.text}"
        return [Finding("not finite", SEVERE, evidence, advice, run.fault_step, {"where": run.fault.where})]
    told = {"loss": "the loss", "grad_norm": "the gradient's norm", "valid_loss": "the validation loss"}
    if run.train.get("precision") == "fp16":
        del told["grad_norm"]  # a step at too large a scale, which is left out and does no harm
    for row in run.rows:
        for key, name in told.items():
            value = row.get(key)
            if isinstance(value, float) and not np.isfinite(value):
                evidence = f"{name} is not finite at step {row['step']}"
                return [Finding("not finite", SEVERE, evidence, advice, int(row["step"]))]
    return []


def bad_start(run: Run) -> list[Finding]:
    """A model that knows nothing gives every token the same probability: its loss is ln V, and more is a confident error."""
    steps, loss = run.column("loss")
    if run.entropy is None or not len(loss):
        return []
    excess = loss[0] - run.entropy
    # The first row may stand for several steps: rising within them is not the start's fault.
    rising = steps[0] > 1 and len(loss) > 1 and loss[1] > loss[0]
    if excess <= max(START_MARGIN, START_SHARE * run.entropy) or rising:
        return []
    evidence = f"loss {loss[0]:.2f} at step {steps[0]:.0f}, ln(vocabulary) is {run.entropy:.2f}: wrong with confidence"
    advice = "smaller initial weights (a deviation of 0.02), the unembedding most of all; do ids and tokenizer belong together?"
    return [
        Finding(
            "bad initialisation", SEVERE, evidence, advice, int(steps[0]), {"loss": loss[0], "uniform": run.entropy}
        )
    ]


def divergence(run: Run) -> list[Finding]:
    """The end of the curve lies above its lowest stretch by more than noise, and by a share of what had been gained."""
    steps, loss = run.loss()
    if len(loss) < FEWEST:
        return []
    smooth = running_median(loss)
    low = int(smooth.argmin())
    best, end, first = float(smooth[low]), level(loss, end=True), level(loss, end=False)
    rise = end - best
    if rise <= max(4 * noise(loss), 0.15 * (first - best), 0.03 * best):
        return []
    worse = ", worse than at the beginning" if end > first else ""
    evidence = f"training loss rises from {best:.3f} (step {steps[low]:.0f}) to {end:.3f} at the end{worse}"
    advice = (
        "lower the peak rate (by 3), lengthen the warm-up, clip gradients; go on from the checkpoint before the rise"
    )
    return [Finding("divergence", SEVERE, evidence, advice, int(steps[low]), {"best": best, "end": end})]


def spikes(run: Run) -> list[Finding]:
    """Rows far above the median of those before them."""
    steps, loss = run.loss()
    if len(loss) < FEWEST:
        return []
    before = [float(np.median(loss[max(0, i - SPIKE_WINDOW) : i])) for i in range(3, len(loss))]
    above = loss[3:] - before
    # Noise often has a longer tail upwards: the larger of its two measures.
    sigma = max(noise(loss), float(np.quantile(above, 0.95)) / NORMAL_95)
    high = (above > SPIKE_NOISE * sigma) & (above > SPIKE_SHARE * np.array(before))
    found = [(int(step), float(height)) for step, height in zip(steps[3:][high], above[high])]
    if not found:
        return []
    at, height = max(found, key=lambda spike: spike[1])
    rows = "row" if len(found) == 1 else "rows"
    evidence = f"{len(found)} {rows} far above the curve, the highest by {height:.2f} at step {at} (noise {sigma:.3f})"
    advice = "clip gradients at 1, lower beta2 or the rate, lengthen the warm-up; look at the data of those steps"
    return [Finding("loss spikes", WARNING, evidence, advice, at, {"spikes": len(found), "height": height})]


def little_learned(run: Run) -> list[Finding]:
    """A fresh model whose loss hardly leaves ln V, or ends no better than the frequencies of the tokens."""
    steps, loss = run.loss()
    if len(loss) < FEWEST or (run.entropy is not None and run.column("loss")[1][0] < FRESH * run.entropy):
        return []
    first, end = float(loss[0]), level(loss, end=True)
    if first <= 0:  # no cross-entropy of anything that is to be learned
        return []
    fall = (first - end) / first
    figures = {"first": first, "end": end, "fall": fall}
    if fall < NOTHING_LEARNED:
        evidence = (
            f"the loss does not move: {first:.3f} at the beginning, {end:.3f} at the end (noise {noise(loss):.3f})"
        )
        advice = (
            "overfit one batch (cairn pretrain --check): it tells a broken model or batch from a rate that is too low; "
            "then find the rate (--rate-test)"
        )
        severity = SEVERE if run.entropy is not None else WARNING  # may be a trained model that goes on
        return [Finding("not learning", severity, evidence, advice, None, figures)]
    if run.entropy is None:
        return []
    frequencies = run.fact("unigram_entropy")
    if fall < LITTLE_LEARNED:
        evidence = f"the loss ends at {end:.3f}, {fall:.0%} below a uniform guess"
    elif frequencies is not None and end > 0.98 * frequencies:
        evidence = f"the loss ends at {end:.3f}; knowing only how often each token comes gives {frequencies:.3f}"
    else:
        return []
    more = theil_sen(*_last_third(steps, loss)).falls
    advice = "it still falls: give it more steps" if more else "raise the rate (--rate-test), or take a larger model"
    return [Finding("underfitting", WARNING, evidence, advice, None, figures)]


def still_falling(run: Run) -> list[Finding]:
    """Whether the last third of the curve has a slope that noise does not explain, and what it promises."""
    steps, loss = run.loss()
    if len(loss) < 3 * FEWEST:
        return []
    x, y = _last_third(steps, loss)
    slope = theil_sen(x, y)
    gain = -slope.value * (steps[-1] - steps[0])
    if not slope.falls or gain < WORTH_GOING_ON * level(loss, end=True):
        return []
    per, least, most = (-1000 * value for value in (slope.value, slope.high, slope.low))
    evidence = f"over the last third it falls by {per:.3g} per 1,000 steps (95 %: {least:.3g} to {most:.3g})"
    return [
        Finding("still falling", NOTE, evidence, "more steps would lower it further", int(x[0]), {"slope": slope.value})
    ]


def _last_third(steps: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start = 2 * len(loss) // 3
    return steps[start:], loss[start:]
