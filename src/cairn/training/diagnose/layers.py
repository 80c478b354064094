"""What the statistics of the layers say (train.watch_every): gradients over depth, dead units, and the size of steps."""

import numpy as np

from cairn.training.diagnose.finding import SEVERE, WARNING, Finding
from cairn.training.diagnose.loss import FEWEST
from cairn.training.diagnose.robust import level
from cairn.training.diagnose.run import Run

DEPTH_RATIO = 1e3  # between the gradients of the first and the last blocks; a healthy stack stays within about 10
GROWTH = 30.0  # of the gradient's norm over time
TINY_GRADIENT = 1e-4  # norm of the whole gradient of a cross-entropy; at its start a fresh model has about 1
MANY_DEAD, MOST_DEAD = 0.5, 0.9
# A step over the size of what it changes. About 1e-3 is the rule for Adam (Karpathy 2019); small fresh models begin at
# 1e-1 and end at 1e-4 in good health, so that only what lies far outside says anything, and only beside a bad loss.
LOW_UPDATE, HIGH_UPDATE = 1e-4, 0.3
HIGH_GAIN_UPDATE = 0.05  # of norm gains, which are about 1: a healthy step changes them by the rate, 1e-4 to 1e-2
HIGH_STREAM = 1e3  # root mean square of the residual stream after the last block


def gradients_over_depth(run: Run) -> list[Finding]:
    """Gradients of the first third of the blocks against the last third's."""
    first_step, early, late = _depth(run)
    if early <= 0 or late <= 0:
        return []
    ratio = early / late
    if 1 / DEPTH_RATIO < ratio < DEPTH_RATIO:
        return []
    evidence = f"gradient norms from the last blocks to the first: {late:.2g} to {early:.2g}, a factor of {ratio:.2g}"
    figures = {"first": early, "last": late}
    if ratio < 1:
        advice = "residual connections with a norm before each layer, larger initial weights, no saturating activation"
        return [Finding("vanishing gradients", SEVERE, evidence, advice, first_step, figures)]
    advice = (
        "scale what writes to the residual stream by 1/sqrt(2 layers), smaller initial weights, norms before layers"
    )
    return [Finding("exploding gradients", SEVERE, evidence, advice, first_step, figures)]


def gradients_over_time(run: Run) -> list[Finding]:
    """The whole gradient's norm: gone while the loss is high, or growing many times."""
    steps, norms = run.column("grad_norm", after=run.begin)
    _, loss = run.loss()
    if len(norms) < FEWEST:
        return []
    first, end = level(norms, end=False), level(norms, end=True)
    evidence = f"the gradient's norm goes from {first:.2g} to {end:.2g}"
    figures = {"first": first, "end": end}
    if end < TINY_GRADIENT and len(loss) and level(loss, end=True) > 0.5 * loss[0]:
        advice = "saturated or dead layers: look at the blocks' gradients (train.watch_every), the rate and the initial weights"
        return [
            Finding("vanishing gradients", SEVERE, f"{evidence} at a loss that is still high", advice, None, figures)
        ]
    if first > 0 and end > max(GROWTH * first, 10):
        advice = "lower the rate, clip at 1, or let weight decay hold the weights back"
        return [Finding("exploding gradients", WARNING, evidence, advice, int(steps[-1]), figures)]
    return []


def dead_units(run: Run) -> list[Finding]:
    """Feed-forward units that no token switches on, in the later half of the watched steps."""
    watched = run.layers()
    if not watched:
        return []
    shares: dict[str, list[float]] = {}
    for _, layers in watched[len(watched) // 2 :]:
        for name, figures in layers.items():
            if "dead" in figures:
                shares.setdefault(name, []).append(figures["dead"])
    dead = {name: float(np.median(values)) for name, values in shares.items()}
    bad = {name: share for name, share in dead.items() if share > MANY_DEAD}
    if not bad:
        return []
    most = max(bad, key=lambda name: bad[name])
    evidence = f"{bad[most]:.0%} of the feed-forward units of {most} are off for every token"
    evidence += f", over {MANY_DEAD:.0%} in {len(bad)} of {len(dead)} layers" if len(dead) > 1 else ""
    advice = "a lower rate, biases that begin at 0, an activation with a slope on both sides (gelu, silu)"
    severity = SEVERE if bad[most] > MOST_DEAD else WARNING
    return [Finding("dead units", severity, evidence, advice, watched[-1][0], {"dead": dead})]


def step_size(run: Run, symptoms: set[str]) -> list[Finding]:
    """Whether the size of the steps explains what the loss suffers from. symptoms: names of what was found."""
    blocks, others = _update_ratios(run)
    if not len(blocks):
        return []
    update, gain = float(np.median(blocks)), float(np.median(others)) if len(others) else 0.0
    stream = _stream(run)
    figures = {"update_ratio": update, "gain_update": gain, "stream": stream}
    if symptoms & {"divergence", "loss spikes", "not learning", "underfitting"}:
        signs = []
        if update > HIGH_UPDATE:
            signs.append(f"a step changes the blocks' matrices by {update:.0%}")
        if gain > HIGH_GAIN_UPDATE:
            signs.append(f"a step changes the gains of norms by {gain:.0%}")
        if stream > HIGH_STREAM:
            signs.append(f"the residual stream has grown to {stream:.2g}")
        if signs:
            advice = "lower the rates by 10 and find the right one with a range test (cairn pretrain --rate-test)"
            return [Finding("learning rate too high", SEVERE, "; ".join(signs), advice, None, figures)]
    if symptoms & {"not learning", "underfitting"} and update < LOW_UPDATE:
        evidence = f"at the peak rate a step changes the blocks' matrices by {update:.1g} of their size; 1e-3 is usual"
        advice = f"raise the rates (by {min(1e-3 / max(update, 1e-9), 1e4):.0f} to begin with), or run a range test"
        return [Finding("learning rate too low", SEVERE, evidence, advice, None, figures)]
    return []


def _depth(run: Run) -> tuple[int, float, float]:
    """(first watched step, median gradient norm of the first third of the blocks, of the last third)."""
    blocks = run.blocks()
    watched = run.layers(after=run.begin)
    if len(blocks) < 3 or not watched:
        return 0, 0.0, 0.0
    third = len(blocks) // 3
    norms = np.array([[layers.get(name, {}).get("grad_norm", 0.0) for name in blocks] for _, layers in watched])
    return watched[0][0], float(np.median(norms[:, :third])), float(np.median(norms[:, -third:]))


def _update_ratios(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Update ratios of the blocks, and of layers that are norms alone, in watched steps at half the peak rate or more."""
    names = set(run.blocks())
    blocks, gains = [], []
    rates = {row["step"]: row.get("rate", 1.0) for row in run.rows}
    for step, layers in run.layers(after=run.warm):
        if rates[step] >= 0.5:
            for name, figures in layers.items():
                if "update_ratio" in figures and (name in names or "norm" in name):
                    (blocks if name in names else gains).append(figures["update_ratio"])
    return np.array(blocks), np.array(gains)


def _stream(run: Run) -> float:
    """Root mean square of the last block's output, the median over the later half of the watched steps."""
    blocks, watched = run.blocks(), run.layers()
    values = [layers[blocks[-1]].get("rms", 0.0) for _, layers in watched[len(watched) // 2 :] if blocks[-1] in layers]
    return float(np.median(values)) if values else 0.0
