"""A picture of which classes are taken for which."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cairn.foundations.picture import new_figure, save


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], accuracy: float, path: Path) -> Path:
    """confusion (L, L): pictures of the class of a row that were called that of a column; each cell shows its share of
    the row in per cent."""
    counts_LL = np.asarray(confusion)
    share_LL = counts_LL / counts_LL.sum(axis=1, keepdims=True).clip(min=1)
    side = 1.4 + 0.42 * len(classes)
    figure, (axes,) = new_figure(size=(side, side))
    axes.imshow(share_LL, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(share_LL > 0.005):  # less would be a 0
        share = share_LL[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=45, ha="right")
    axes.set_yticks(places, classes)
    axes.set(xlabel="what was said", ylabel="what it is")
    axes.set_title(f"% of each row; accuracy {accuracy:.1%} of {int(counts_LL.sum()):,}", loc="left")
    return save(figure, path)
