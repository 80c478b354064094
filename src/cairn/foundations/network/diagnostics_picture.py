"""The measurements of a run as one picture: gradients, steps, dead units and outputs, each over time.

>>> from tempfile import TemporaryDirectory
>>> from cairn.foundations.network import SGD, Dense, ReLU, Sequential, Watch, fit, mse
>>> rng = np.random.default_rng(0)
>>> model = Sequential(Dense(2, 8, rng), ReLU(), Dense(8, 1, rng))
>>> watch = Watch(model)
>>> x = rng.normal(size=(32, 2))
>>> history = fit(model, mse, SGD(model.parameters()), x, x[:, :1], epochs=2, batch_size=8, rng=rng, watch=watch)
>>> with TemporaryDirectory() as folder:
...     picture(watch, Path(folder) / "run.svg").name
'run.svg'
"""

from pathlib import Path
from typing import Any

import numpy as np

from cairn.foundations.network.diagnostics import DEAD, LARGE_UPDATE, Watch
from cairn.foundations.picture import new_figure, save

LOWEST = 1e-8  # where 0 is drawn, which has no place on a logarithmic axis


def picture(watch: Watch, path: Path, title: str = "") -> Path:
    """Four panels; earlier layers are darker. Nothing to draw is a ValueError."""
    if not watch.snapshots:
        raise ValueError("nothing was measured: run steps inside watch.step(number)")
    figure, axes = new_figure(columns=4, size=(3.6, 3.2))
    draw_row(watch, axes, title)
    return save(figure, path)


def draw_row(watch: Watch, axes: Any, title: str = "") -> None:
    """Fill four axes."""
    gradients, updates, off, outputs = axes
    last = watch.snapshots[-1]
    weights = [name for name in last.gradients if name.endswith("weight")]
    _lines(gradients, watch, "gradients", weights)
    gradients.set(title="norm of gradients", yscale="log", ylabel=title)
    _lines(updates, watch, "updates", weights)
    updates.axhline(1e-3, color="black", linewidth=0.8, linestyle=":")  # about usual
    updates.axhline(LARGE_UPDATE, color="red", linewidth=0.8, linestyle=":")
    updates.set(title="step / weight", yscale="log")
    for field in ("dead", "saturated"):
        _lines(off, watch, field, list(getattr(last, field)))
    off.axhline(DEAD, color="red", linewidth=0.8, linestyle=":")
    off.set(title="share of units dead or saturated", ylim=(-0.02, 1.02))
    for panel in (gradients, updates, off):
        panel.set_xlabel("step")
    bent = [name for name in last.outputs if name in last.dead or name in last.saturated] or list(last.outputs)
    for color, name in zip(_colors(len(bent)), bent):
        counts, edges = last.outputs[name]
        outputs.stairs(counts / max(counts.sum(), 1), edges, color=color, label=f"layer {name}")
    outputs.set(title="outputs at the last step", xlabel="value", ylabel="share", yscale="log")
    for panel in (gradients, outputs):  # the colours of the two between are the same; beside the panel it hides no line
        panel.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _lines(panel: Any, watch: Watch, field: str, names: list[str]) -> None:
    logarithmic = field in ("gradients", "updates")
    for color, name in zip(_colors(len(names)), names):
        values = [getattr(snapshot, field).get(name, np.nan) for snapshot in watch.snapshots]
        steps = [snapshot.step for snapshot in watch.snapshots]
        shown = np.maximum(values, LOWEST) if logarithmic else values
        marker = "o" if len(steps) == 1 else ""  # a line through one point is not seen
        panel.plot(steps, shown, color=color, label=name, linewidth=1, marker=marker)


def _colors(count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.9, max(count, 1)))
