"""Pictures of a model's inside, as SVG text. The same figures give the same bytes.

Shapes: L layers, H heads, T tokens, S stages of the logit lens.
"""

import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cairn.interpretability.attention import InductionScores
from cairn.interpretability.changes import Change
from cairn.interpretability.lens import Lens
from cairn.tokenizers import Tokenizer

# Text stays text (`none`): it can be selected and searched, and files are small. The salt makes ids reproducible.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cairn",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TOKENS_SHOWN = 20  # positions of a text that fit a page


def visible(data: bytes) -> str:
    """A token's bytes as a label: a space as ␣, a line break as ⏎, other invisible characters by their number, bytes of
    an incomplete character in hexadecimal.

    >>> visible(b" stone\\n"), visible(b"\\xc3"), visible(b"\\x00")
    ('␣stone⏎', '<C3>', '<U+0000>')
    """
    text = data.decode("utf-8", errors="surrogateescape").replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # what `surrogateescape` makes of a byte that is no UTF-8
        return f"<{ord(character) - 0xDC00:02X}>"
    hidden = unicodedata.category(character)[0] in "CZM"  # control, separators, marks that need a base: unsafe alone
    return f"<U+{ord(character):04X}>" if hidden else character


def token_labels(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What stands at the axes for these tokens."""
    return [visible(tokenizer.token_bytes(i)) for i in ids]


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _shorten(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


# parse_math=False: a dollar sign in a token is a dollar sign.


def _tokens_below(axes: Axes, labels: Sequence[str]) -> None:
    short = [_shorten(label, 12) for label in labels]
    axes.set_xticks(range(len(short)), short, rotation=90, fontsize=7, parse_math=False)


def _tokens_beside(axes: Axes, labels: Sequence[str]) -> None:
    short = [_shorten(label, 12) for label in labels]
    axes.set_yticks(range(len(short)), short, fontsize=7, parse_math=False)


def attention_maps(pattern_LHTT: torch.Tensor, labels: Sequence[str]) -> str:
    """A grid of layers (down) by heads (across): row t of a map says where token t looks."""
    pattern = pattern_LHTT[:, :, :TOKENS_SHOWN, :TOKENS_SHOWN].float().cpu().numpy()
    labels = list(labels)[:TOKENS_SHOWN]
    layers, heads, tokens = pattern.shape[:3]
    side = max(1.5, 0.13 * tokens)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side * heads + 1.6, side * layers + 1.6), layout="constrained")
        grid = figure.subplots(layers, heads, squeeze=False)
        image = None
        for layer in range(layers):
            for head in range(heads):
                axes = grid[layer, head]
                # Square-rooted, so that weak links show.
                image = axes.imshow(
                    np.sqrt(pattern[layer, head]), cmap="Blues", vmin=0, vmax=1, interpolation="none", aspect="equal"
                )
                axes.set_title(f"layer {layer}, head {head}")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_visible(True)
                    spine.set_color("#cccccc")
                axes.tick_params(length=0)
                if layer == layers - 1:
                    _tokens_below(axes, labels)
                if head == 0:
                    _tokens_beside(axes, labels)
        assert image is not None
        bar = figure.colorbar(image, ax=grid, fraction=0.03, pad=0.01, ticks=np.sqrt([0, 0.05, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "5 %", "25 %", "50 %", "100 %"])
        bar.set_label("attention of the row's token to the column's")
        return _svg(figure)


def lens_heatmap(lens: Lens, labels: Sequence[str], tokenizer: Tokenizer) -> str:
    """At each stage (upwards) and position, the likeliest next token, coloured by its probability."""
    probability_ST = lens.top_probabilities_STK[:, :TOKENS_SHOWN, 0].float().numpy()
    ids_ST = lens.top_ids_STK[:, :TOKENS_SHOWN, 0]
    stages, tokens = probability_ST.shape
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 * tokens + 2.2, 0.38 * stages + 1.7), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            probability_ST, cmap="Blues", vmin=0, vmax=1, interpolation="none", aspect="auto", origin="lower"
        )
        for stage in range(stages):
            for position, label in enumerate(token_labels(tokenizer, ids_ST[stage].tolist())):
                dark = probability_ST[stage, position] > 0.55
                axes.text(
                    position,
                    stage,
                    _shorten(label, 8),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "#222222",
                    parse_math=False,
                )
        axes.set_yticks(range(stages), ["embedding", *(f"after block {layer}" for layer in range(stages - 1))])
        _tokens_below(axes, list(labels)[:TOKENS_SHOWN])
        axes.tick_params(length=0)
        axes.set_xlabel("token read")
        axes.set_title("The likeliest next token, if the model stopped there", loc="left")
        figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, label="probability")
        return _svg(figure)


def induction_bars(models: Mapping[str, InductionScores]) -> str:
    """For each model a row of bars: each head's induction score with its 95 % interval, and the level of chance."""
    first = next(iter(models.values()))
    layers, heads = first.score_LH.shape
    names = [f"{layer}.{head}" for layer in range(layers) for head in range(heads)]
    colors = np.repeat(matplotlib.colormaps["viridis"](np.linspace(0.1, 0.85, layers)), heads, axis=0)
    top = max(0.1, 1.15 * max(float(scores.high_LH.max()) for scores in models.values()))
    with matplotlib.rc_context(STYLE):
        width = max(6.0, 0.34 * layers * heads + 1.5)
        figure = Figure(figsize=(width, 1.5 * len(models) + 1.2), layout="constrained")
        rows = figure.subplots(len(models), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, scores) in zip(rows, models.items()):
            value, low, high = (t.flatten().numpy() for t in (scores.score_LH, scores.low_LH, scores.high_LH))
            spread = np.stack([value - low, high - value])
            axes.bar(range(len(names)), value, yerr=spread, color=colors, ecolor="#555555", capsize=2)
            axes.axhline(scores.chance, color="#aa3333", linestyle="--", linewidth=1)
            axes.set_title(name, loc="left", parse_math=False)
            axes.set_ylim(0, top)
        rows[0].set_title(f"dashed: even attention, {first.chance:.3f}", loc="right", color="#aa3333", fontsize=8)
        rows[-1].set_xticks(range(len(names)), names, rotation=90 if len(names) > 24 else 0, fontsize=8)
        rows[-1].set_xlabel("layer.head")
        figure.supylabel("induction score", fontsize=9)
        figure.suptitle(f"{first.sequences} sequences of {first.length} random tokens, each repeated once", fontsize=9)
        return _svg(figure)


def change_heatmap(changes: Sequence[Change]) -> str:
    """A panel for each transition: how far each matrix of each layer moved, and how far the residual stream behind
    it."""
    kinds = changes[0].matrix_kinds()
    layers = len(changes[0].layers)
    tables = [_change_table(change, kinds, layers) for change in changes]
    top = max(float(np.nanmax(t)) for t in tables) or 1.0
    with matplotlib.rc_context(STYLE):
        height = len(changes) * (0.34 * layers + 0.9) + 1.4
        figure = Figure(figsize=(0.72 * (len(kinds) + 1) + 2.2, height), layout="constrained")
        panels = figure.subplots(len(changes), squeeze=False)[:, 0]
        image = None
        for axes, change, table in zip(panels, changes, tables):
            image = axes.imshow(table, cmap="Oranges", vmin=0, vmax=top, interpolation="none", aspect="auto")
            for (row, column), value in np.ndenumerate(table):
                color = "white" if value > 0.6 * top else "#222222"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=7, color=color)
            axes.axvline(len(kinds) - 0.5, color="white", linewidth=4)
            axes.set_yticks(range(layers), [f"layer {layer}" for layer in range(layers)])
            axes.set_xticks([])
            axes.tick_params(length=0)
            axes.set_title(f"{change.before} → {change.after}", loc="left", parse_math=False)
        names = [k.replace("attention.", "").replace("feed_forward.", "") for k in kinds]
        panels[-1].set_xticks(range(len(kinds) + 1), [*names, "stream"])
        panels[-1].set_xlabel("matrices: |after - before| / |before|      stream: 1 - cosine after the block")
        assert image is not None
        figure.colorbar(image, ax=panels, fraction=0.03, pad=0.01)
        return _svg(figure)


def _change_table(change: Change, kinds: Sequence[str], layers: int) -> np.ndarray:
    rows = []
    for layer in range(layers):
        moved = [change.weights[f"blocks.{layer}.{kind}.weight"] for kind in kinds]
        rows.append([*moved, change.layers[layer]["cosine"]])
    return np.array(rows)
