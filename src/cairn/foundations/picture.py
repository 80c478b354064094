"""Figures that come out the same, byte for byte, each time: SVG for lines, PNG for images, GIF for what moves.

Drawing is left to matplotlib, which is imported only when something is drawn.

>>> figure, axes = new_figure(columns=2)
>>> line = axes[0].plot([1, 2, 4])
>>> len(axes)
2
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Any = {  # which names there are is matplotlib's own type, by version
    "svg.hashsalt": "cairn",  # names inside an SVG are random otherwise
    "svg.fonttype": "none",  # text stays text
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def new_figure(columns: int = 1, rows: int = 1, size: tuple[float, float] = (4.0, 3.2)) -> tuple["Figure", np.ndarray]:
    """A figure and its axes in reading order (rows * columns,); `size` is that of one of them, in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes.ravel()


def save(figure: "Figure", path: Path) -> Path:
    """Write an .svg or .png, and give its path back. ValueError: another suffix."""
    import matplotlib

    if path.suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"{path.name} is no name of a picture here: end it in .svg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(path, dpi=120, metadata=metadata)
    return path


def save_animation(figure: "Figure", update: Callable[[int], Any], frames: int, path: Path, fps: int = 12) -> Path:
    """Write a .gif of `frames` pictures; `update(i)` changes the figure into the i-th. ValueError: another suffix, no frame."""
    import matplotlib
    from matplotlib.animation import FuncAnimation, PillowWriter

    if path.suffix.lower() != ".gif" or frames < 1:
        raise ValueError(f"{frames} pictures in {path.name}: give at least 1, and a name that ends in .gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        FuncAnimation(figure, update, frames=frames, blit=False).save(path, writer=PillowWriter(fps=fps), dpi=80)  # type: ignore[arg-type]
    return path
