"""The pictures of a fit, four panels in one file: curves, IsoFLOP valleys, observed against fitted, residuals."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from cairn.planning.scaling.envelope import smooth
from cairn.planning.scaling.fit import Laws

FITTED, OTHER, QUIET = "#b5502b", "#2a6f97", "#999999"
LABELLED = 8  # budgets whose FLOPs are written beside their profile


def plot(laws: Laws, kind: str = "svg") -> bytes:
    """SVG or PNG of all laws; the same fit gives the same bytes."""
    style: Any = {"svg.hashsalt": "cairn", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with matplotlib.rc_context(style | {"axes.spines.right": False, "text.parse_math": False}):
        figure = Figure(figsize=(11, 8), layout="constrained")
        panels = figure.subplots(2, 2)
        _curves(panels[0, 0], laws)
        _valleys(panels[0, 1], laws)
        _agreement(panels[1, 0], laws)
        _residuals(panels[1, 1], laws)
        for axes in panels.flat:
            if axes.get_xscale() == "log":
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e+", "e")))
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(color="#e5e5e5", linewidth=0.5)
            axes.set_axisbelow(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()


def colors(laws: Laws) -> dict[float, Any]:
    """Small models dark, large ones light."""
    sizes = sorted({run.parameters for run in (*laws.runs, *laws.held)})
    return dict(zip(sizes, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(sizes)))))


def _curves(axes: Axes, laws: Laws) -> None:
    palette = colors(laws)
    for run in laws.runs:
        if len(run.curve_tokens):
            flops = run.curve_tokens * (run.flops / run.tokens)
            values = smooth(run.curve_tokens, run.curve_loss)
            axes.plot(flops, values, color=palette[run.parameters], linewidth=0.8)
        axes.plot(run.flops, run.loss, "o", color=palette[run.parameters], markersize=3.5)
    for run in laws.held:
        axes.plot(run.flops, run.loss, "*", color=FITTED, markersize=11, label=f"held out: {run.name}")
    everything = [run.flops for run in (*laws.runs, *laws.held)]
    flops = np.geomspace(min(everything), max(everything), 60)
    best = [laws.surface.surface.loss(*laws.surface.surface.optimal(c)) for c in flops]
    axes.plot(flops, best, color=FITTED, linestyle="--", label="best by the fitted law")
    if laws.envelope is not None:
        axes.plot(laws.envelope.flops, laws.envelope.best_loss, ".", color="#222222", markersize=1.5, label="envelope")
    losses = [run.loss for run in (*laws.runs, *laws.held)]
    axes.set_ylim(0.97 * min(*losses, *best), 1.3 * max(losses))  # the first steps would flatten all the rest
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title("curves of training, and the loss at the end of each", loc="left")
    axes.legend(frameon=False)


def _valleys(axes: Axes, laws: Laws) -> None:
    axes.set_title("IsoFLOP profiles: one budget, many sizes", loc="left")
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("loss (nats a token)")
    if laws.isoflop is None:
        axes.text(0.5, 0.5, laws.skipped["isoflop"], transform=axes.transAxes, ha="center", wrap=True, color=QUIET)
        return
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(laws.isoflop.profiles)))
    every = -(-len(shades) // LABELLED)
    for number, (profile, shade) in enumerate(zip(laws.isoflop.profiles, shades)):
        sizes = np.array([run.parameters for run in profile.runs])
        between = np.geomspace(sizes[0], sizes[-1], 80)
        axes.plot(sizes, [run.loss for run in profile.runs], "o", color=shade, markersize=4)
        axes.plot(between, np.polyval(profile.parabola, np.log(between)), color=shade, linewidth=1)
        if number % every == 0:
            end = sizes[-1], profile.runs[-1].loss
            axes.annotate(f"{profile.flops:.2g}", end, xytext=(4, 0), textcoords="offset points", size=8, color=shade)
        if profile.inside:
            axes.plot(profile.parameters, profile.loss, "x", color=FITTED, markersize=7)


def _agreement(axes: Axes, laws: Laws) -> None:
    palette, surface = colors(laws), laws.surface.surface
    for marker, size, runs in (("o", 4, laws.runs), ("*", 11, laws.held)):
        for run in runs:
            fitted = surface.loss(run.parameters, run.tokens)
            shade = palette[run.parameters] if marker == "o" else FITTED
            axes.plot(fitted, run.loss, marker, color=shade, markersize=size)
    ends = axes.get_xlim()
    axes.plot(ends, ends, color=QUIET, linewidth=0.8)
    axes.set_xlabel("fitted loss")
    axes.set_ylabel("observed loss")
    axes.set_title("L(N, D) = E + A / N^alpha + B / D^beta", loc="left")


def _residuals(axes: Axes, laws: Laws) -> None:
    flops = [run.flops for run in laws.runs]
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.plot(flops, 100 * laws.surface.residuals, "o", color=FITTED, markersize=4, label="Chinchilla")
    if laws.joint is not None:
        axes.plot(flops, 100 * laws.joint.residuals, "s", color=OTHER, markersize=3, label="Kaplan")
    for run in laws.held:
        miss = 100 * np.log(run.loss / laws.surface.surface.loss(run.parameters, run.tokens))
        axes.plot(run.flops, miss, "*", color=FITTED, markersize=11)
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("observed above fitted, %")
    axes.set_title("residuals (stars: held out)", loc="left")
    axes.legend(frameon=False)
