"""What validation says beside the training loss: overfitting, a leak, or that nobody looked."""

import numpy as np

from cairn.training.diagnose.finding import NOTE, SEVERE, WARNING, Finding
from cairn.training.diagnose.robust import level, noise, theil_sen
from cairn.training.diagnose.run import Run

FEWEST = 4  # evaluations
TURN_SHARE, SEVERE_SHARE = 0.02, 0.1  # of the best validation loss, that it rises again
LEAK_SHARE = 0.8  # validation below this share of the training loss is too good


def overfitting(run: Run) -> list[Finding]:
    """Validation turns up and stays up while the training loss goes on falling."""
    name, at, valid = run.valid()
    steps, loss = run.loss()
    if len(valid) < FEWEST:
        return []
    low = int(valid.argmin())
    best, end = float(valid[low]), float(np.median(valid[-min(3, len(valid) - low) :]))
    rise = end - best
    if best <= 0 or rise <= max(4 * noise(valid), TURN_SHARE * best):
        return []
    until, since = steps <= at[low], steps >= at[low]
    if until.any() and level(loss, end=True) > float(np.median(loss[until][-3:])) + 4 * noise(loss):
        return []  # both rise: that is divergence
    slope = theil_sen(steps[since], loss[since])
    severity = SEVERE if rise > SEVERE_SHARE * best else WARNING
    evidence = f"{name} turns at step {at[low]:.0f} ({best:.3f}) and ends at {end:.3f}, {rise / best:+.0%}"
    if slope.falls:
        evidence += f", while the training loss falls to {level(loss, end=True):.3f}"
    advice = "stop there (train.keep_best, train.patience); then more data, weight decay or dropout, or a smaller model"
    return [Finding("overfitting", severity, evidence, advice, int(at[low]), {"best": best, "end": end})]


def leak(run: Run) -> list[Finding]:
    """Validation far below the training loss of the same steps."""
    name, at, valid = run.valid()
    steps, loss = run.loss()
    if name != "valid_loss" or len(loss) < FEWEST or not len(valid):
        return []
    last = at >= at[-1] / 2  # early, the training loss of a row is a mean over steps in which it fell
    beside = np.array([np.median(loss[np.abs(steps - step).argsort()[:3]]) for step in at[last]])
    if beside.min() <= 0:
        return []
    ratio = float(np.median(valid[last] / beside))
    if ratio >= LEAK_SHARE:
        return []
    evidence = f"{name} is {ratio:.0%} of the training loss beside it"
    if run.setting("dropout") > 0:
        return [Finding("validation below training", NOTE, evidence, "dropout does that: it is off in validation")]
    advice = "look for validation text in the training data (cairn corpus build removes it), or for an easier set"
    return [Finding("validation below training", WARNING, evidence, advice, None, {"ratio": ratio})]


def unseen(run: Run) -> list[Finding]:
    """No validation at all: overfitting cannot be told."""
    if len(run.valid()[1]) or run.fault is not None:
        return []
    evidence = "no row has a validation loss: whether it learns or memorises cannot be told"
    return [Finding("no validation", NOTE, evidence, "set train.evaluate_every")]
