"""Heatmaps: where each token looks, as a picture. A row is a token that looks, a column one that is looked at.

>>> figure = draw_heads(np.eye(3)[None], list("abc"), titles=["itself"])
>>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
['a', 'b', 'c']
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cairn.foundations.picture import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = {"\n": "↵", " ": "␣", "\t": "⇥"}  # characters that would leave no mark


def draw_heads(
    weights_HTS: np.ndarray,
    tokens: Sequence[str],
    titles: Sequence[str] | None = None,
    columns: int = 4,
    size: float = 2.6,
) -> "Figure":
    """One heatmap for each of H weights of attention over the same tokens; `size` of one in inches."""
    heads = len(weights_HTS)
    if weights_HTS.shape[1:] != (len(tokens), len(tokens)):
        raise ValueError(f"weights {weights_HTS.shape} over {len(tokens)} tokens: give (heads, tokens, tokens)")
    columns = min(columns, heads)
    figure, axes = new_figure(columns, -(-heads // columns), (size, size + 0.4))  # room for the titles
    for place, ax in enumerate(axes):
        if place < heads:
            draw_heatmap(ax, weights_HTS[place], tokens, titles[place] if titles else f"head {place + 1}")
        else:
            ax.axis("off")
    figure.supxlabel("token looked at", fontsize=9)
    figure.supylabel("token that looks", fontsize=9)
    return figure


def draw_heatmap(ax: Any, weights_TS: np.ndarray, tokens: Sequence[str], title: str) -> Any:
    """Draw into one pair of axes; white is 0, dark is 1."""
    image = ax.imshow(weights_TS, cmap="Blues", vmin=0, vmax=1)
    labels = [SHOWN.get(token, token) for token in tokens]
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(length=0, labelsize=8)
    ax.set_title(title, fontsize=9)
    return image
