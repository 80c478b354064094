"""A run to look at: loss with findings marked, the gradient's norm, and the layers over time. SVG by matplotlib."""

import io
from typing import Any

import numpy as np

from cairn.training.diagnose.finding import NOTE, SEVERE, Finding
from cairn.training.diagnose.robust import running_median
from cairn.training.diagnose.run import Run

COLOURS = {
    "line": "#2a6f97",
    "faint": "#b9cfdc",
    "second": "#c9a227",
    "mark": "#b5502b",
    "grid": "#dddddd",
    "text": "#444444",
}
TITLES = {
    "grad_norm": "norm of each layer's gradient",
    "update_ratio": "size of a step over the size of the weights",
    "dead": "share of dead feed-forward units",
}
SHADES = "viridis"  # the first block is dark, the last is light


def drawing(panels: int) -> tuple[Any, list[Any]]:
    """A figure with `panels` axes one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 2.9 * panels + 0.3), layout="constrained")
    rows = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, list(rows)


def logarithmic(axes: Any, which: str) -> None:
    """The x or y axis in powers of ten, its labels in plain figures."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Any, name: str) -> bytes:
    """The figure's file: text stays text, and the same figures give the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def picture(run: Run, findings: list[Finding]) -> bytes:
    """Loss curves with what was found, the whole gradient's norm, and, where layers were watched, their gradients, update
    ratios and dead units."""
    watched = run.layers()
    measures = [m for m in TITLES if any(found.get(m, 0) > 0 for _, layers in watched for found in layers.values())]
    figure, panels = drawing(2 + len(measures))
    _loss(panels[0], run, findings)
    steps, norms = run.column("grad_norm")
    panels[1].plot(steps, norms, color=COLOURS["line"], linewidth=1)
    if np.any(norms > 0):
        logarithmic(panels[1], "y")
    limit = run.setting("clip")
    if limit:
        panels[1].axhline(limit, color=COLOURS["mark"], linewidth=1, linestyle=(0, (4, 3)))
        panels[1].annotate("clipped above", (0, limit), xycoords=("axes fraction", "data"), xytext=(3, 3),
                           textcoords="offset points", size=9, color=COLOURS["mark"])  # fmt: skip
    panels[1].set_title("norm of the gradient", loc="left", size=11)
    for axes, measure in zip(panels[2:], measures):
        _layers(axes, watched, measure)
        axes.set_title(TITLES[measure], loc="left", size=11)
    panels[-1].set_xlabel("step")
    return svg(figure, "run")


def _loss(axes: Any, run: Run, findings: list[Finding]) -> None:
    steps, loss = run.column("loss")
    axes.plot(steps, loss, color=COLOURS["faint"], linewidth=0.8)
    axes.plot(steps, running_median(loss), color=COLOURS["line"], linewidth=1.8, label="training")
    name, at, valid = run.valid()
    if len(valid):
        axes.plot(at, valid, color=COLOURS["second"], linewidth=1.6, marker="o", markersize=3, label=name)
    if run.entropy is not None and len(loss):
        axes.axhline(run.entropy, color=COLOURS["text"], linewidth=0.8, linestyle=(0, (1, 3)), label="uniform guess")
    marked = [f for f in findings if f.step is not None and f.severity != NOTE and not f.follows]
    for place, finding in enumerate(marked):
        axes.axvline(finding.step, color=COLOURS["mark"], linewidth=1.4 if finding.severity == SEVERE else 0.8)
        axes.annotate(finding.name, (finding.step, 0.98 - 0.1 * place), xycoords=("data", "axes fraction"), xytext=(4, 0),
                      textcoords="offset points", va="top", size=9, color=COLOURS["mark"])  # fmt: skip
    axes.set_title("loss", loc="left", size=11)
    axes.legend(frameon=False, fontsize=9)


def _layers(axes: Any, watched: list[tuple[int, dict[str, dict[str, float]]]], measure: str) -> None:
    from matplotlib import colormaps

    names = [name for name in watched[0][1] if any(measure in layers.get(name, {}) for _, layers in watched)]
    shades = colormaps[SHADES](np.linspace(0.0, 0.85, max(len(names), 2)))
    for name, shade in zip(names, shades):
        points = [(step, layers[name][measure]) for step, layers in watched if measure in layers.get(name, {})]
        few = len(names) <= 8 or name in (names[0], names[-1])
        axes.plot(*zip(*points), color=shade, linewidth=1.2, marker=".", label=name if few else None)
    if measure == "dead":
        axes.set_ylim(0, 1)
    else:
        logarithmic(axes, "y")
    axes.legend(frameon=False, fontsize=8, ncols=2)
