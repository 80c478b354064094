"""Landscapes as contour maps, walks as lines on them, still or moving.

The contours stand at heights that grow by the same factor, because valleys are flat and walls are steep: at equal distances
all lines would stand on the walls.

>>> from cairn.foundations.descent import LANDSCAPES
>>> levels = heights(LANDSCAPES["bowl"])
>>> len(levels), bool((np.diff(levels) > 0).all())
(18, True)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cairn.foundations.descent.landscapes import Landscape
from cairn.foundations.picture import new_figure, save_animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 100  # points along each side of a map
COLORS = {  # Okabe and Ito's, told apart by every eye
    "plain": "#000000",
    "momentum": "#0072B2",
    "Nesterov": "#56B4E9",
    "RMSProp": "#E69F00",
    "Adam": "#D55E00",
    "Newton": "#009E73",
}


def _grid(land: Landscape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, right, bottom, top = land.view
    x, y = np.meshgrid(np.linspace(left, right, GRID), np.linspace(bottom, top, GRID))
    return x, y, np.asarray(land.value(np.stack([x, y])))


def heights(land: Landscape, count: int = 18) -> np.ndarray:
    """Heights of the contours, each above the one before by the same factor."""
    value = _grid(land)[2]
    low, high = np.quantile(value, (0.005, 0.995))
    return np.geomspace(max(low, high * 1e-4), high, count)


def paint(axis: "Axes", land: Landscape) -> None:
    """The map, with a star on each minimum."""
    axis.contour(*_grid(land), levels=heights(land), colors="#b8bcc4", linewidths=0.6)
    axis.plot(*np.transpose(land.minima), "*", color="#CC79A7", markersize=9, zorder=3)
    left, right, bottom, top = land.view
    axis.set(xlim=(left, right), ylim=(bottom, top), title=land.name)


def trace(axis: "Axes", paths: Mapping[str, np.ndarray]) -> None:
    """Each path as a line with a dot per step, in the colour of its method."""
    for method, path in paths.items():
        axis.plot(*path.T, "-o", color=COLORS[method], markersize=2, linewidth=1.1, label=method)


def legend(figure: "Figure", axis: "Axes") -> None:
    """Which colour is which method, below all maps."""
    across = len(COLORS) if figure.get_figwidth() > 8 else 3
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=across, frameon=False)


def animate(
    lands: Sequence[Landscape], paths: Sequence[Mapping[str, np.ndarray]], frames: int, path: Path, every: int = 1
) -> Path:
    """A .gif with a map beside the next and the methods walking on each, `every` steps from picture to picture.

    ValueError: a walk that is shorter than the film.
    """
    last = (frames - 1) * every
    shortest = min(len(points) - 1 for walks in paths for points in walks.values())
    if shortest < last:
        raise ValueError(
            f"a walk ends at step {shortest}, the film at step {last}: walk further, or ask for fewer frames"
        )
    figure, axes = new_figure(columns=len(lands), size=(3.4, 3.6))
    drawn = []
    for axis, land, walks in zip(axes, lands, paths):
        paint(axis, land)
        axis.set(xticks=[], yticks=[])  # half the time of a picture
        for method, points in walks.items():
            (line,) = axis.plot([], [], "-", color=COLORS[method], linewidth=1.2, label=method)
            (head,) = axis.plot([], [], "o", color=COLORS[method], markersize=5)
            drawn.append((points, line, head))
    legend(figure, axes[0])
    title = figure.suptitle("step 0")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # found once, and kept: it takes longer than the drawing

    def update(frame: int) -> None:
        step = frame * every
        title.set_text(f"step {step}")
        for points, line, head in drawn:
            line.set_data(*points[: step + 1].T)
            head.set_data(*points[step : step + 1].T)

    return save_animation(figure, update, frames, path)
