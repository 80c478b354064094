"""The report's pictures: SVG text that takes its colours from the page it stands in, light or dark, and nothing else.

The same figures give the same bytes: no date, and ids that depend on the content.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# matplotlib knows no CSS variables: each is drawn in a colour of its own, which is exchanged in the finished SVG.
INK, FAINT, LINE, ACCENT, SECOND, MUTED = (f"#fe01{n:02x}" for n in range(6))
_VARIABLES = {INK: "ink", FAINT: "faint", LINE: "line", ACCENT: "accent", SECOND: "second", MUTED: "muted"}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a dollar sign in a title is a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}
LN2 = 0.6931471805599453


def loss_curves(curves: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    """A panel for each (stage's name, rows of its metrics.jsonl): loss over million tokens, raw and smoothed."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(2.6 * len(curves) + 0.6, 2.7), layout="constrained")
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (name, rows) in zip(panels, curves):
            tokens = np.array([row["tokens"] for row in rows]) / 1e6
            # DPO's loss holds the cross-entropy of the chosen answers too; ln 2 belongs to the preference alone.
            loss = np.array([row.get("preference_loss", row["loss"]) for row in rows])
            axes.plot(tokens, loss, color=MUTED, linewidth=0.8)
            axes.plot(tokens, _smooth(loss), color=ACCENT, linewidth=1.8)
            if name == "dpo":
                axes.axhline(LN2, color=SECOND, linewidth=1, linestyle=(0, (4, 3)))
                axes.annotate("no preference", (1, LN2), xycoords=("axes fraction", "data"), xytext=(0, 3),
                              textcoords="offset points", ha="right", color=SECOND, size=9)  # fmt: skip
            axes.set_title(name, loc="left", size=11, weight="bold")
            axes.set_xlabel("million tokens")
            axes.grid(axis="y", color=LINE, linewidth=0.6)
            axes.margins(x=0.02)
        panels[0].set_ylabel("loss (nats)")
        return _svg(figure, "loss")


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a tenth of the curve, shrinking at both ends."""
    half = len(values) // 20
    sums = np.append(0.0, np.cumsum(values))
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def bits_per_byte_bars(panels: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    """A panel for each (title, bars); a bar is {"name", "value", "kind"} and, if measured so, "low" and "high".

    kind: `model` for what was trained here, else a yardstick (chance, another compressor).
    """
    bars = max(len(rows) for _, rows in panels)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 0.36 * bars + 0.75), layout="constrained")
        for axes, (title, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
            for place, row in enumerate(rows):
                model = row["kind"] == "model"
                axes.barh(place, row["value"], height=0.62, color=ACCENT if model else MUTED)
                if "low" in row:
                    axes.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=1.4)
                right = max(row["value"], row.get("high", 0))
                axes.annotate(f"{row['value']:.2f}", (right, place), xytext=(4, 0), textcoords="offset points",
                              va="center", color=INK, size=10)  # fmt: skip
            axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.invert_yaxis()
            axes.set_xlim(0, max(max(row["value"], row.get("high", 0)) for row in rows) * 1.14)
            axes.set_title(title, loc="left", size=11, weight="bold")
            axes.set_xlabel("bits per byte")
            axes.grid(axis="x", color=LINE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines["left"].set_visible(False)
        return _svg(figure, "bits")


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element to stand inside HTML beside others: ids begin with `name`."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)  # among it the date
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would apply to the whole page
    # As wide as there is room, up to the drawn size; the proportions are in the viewBox.
    return re.sub(r'width="([\d.]+pt)" height="[\d.]+pt"', r'style="width: 100%; max-width: \1"', text, count=1)
