"""A picture of how far back learning reaches: the gradient at each distance, one line a model."""

import io
from collections.abc import Mapping, Sequence

COLOURS = ("#b5502b", "#c9a227", "#2a6f97", "#444444")


def gradient_picture(curves: Mapping[str, Sequence[float]], before: Mapping[str, Sequence[float]], kind: str) -> bytes:
    """curves: model -> norm of the gradient at distance 0, 1, ... (`gradient_by_distance`); `before` the same before training,
    drawn thin. Each is shown as a share of its norm at distance 0. kind: svg or png."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and the same figures give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gradient", "axes.spines.top": False}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), COLOURS * len(curves)):
            for shares, width, style in ((values, 1.8, "-"), (before.get(name, ()), 0.9, (0, (4, 2)))):
                if len(shares) and shares[0] > 0:
                    y = [value / shares[0] for value in shares]
                    label = name if shares is values else None
                    axes.plot(range(len(y)), y, color=colour, linewidth=width, linestyle=style, label=label)
        axes.set_yscale("log")
        axes.set_ylim(bottom=1e-9)
        axes.set_xlabel("tokens between an input and the prediction")
        axes.set_ylabel("gradient, as a share of the nearest")
        axes.set_title("how far back learning reaches (dashed: before training)", loc="left", size=11)
        axes.spines["right"].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()
