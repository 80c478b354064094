"""The demonstrations of this chapter: `cairn foundations demo NAME --out DIR` draws one.

>>> sorted(DEMOS)
['digits-cnn', 'digits-mlp']
"""

from pathlib import Path

from cairn.foundations.data import load_digits
from cairn.foundations.demo import Demo
from cairn.foundations.network.diagnostics_picture import picture
from cairn.foundations.vision import pictures
from cairn.foundations.vision.train import Result, train


def _draw(model: str, out: Path) -> tuple[Result, list[str]]:
    result = train(load_digits(), model, watch_every=20)
    assert result.watch is not None
    lines = [f"{model}: {result}", *(f"finding: {line}" for line in result.watch.findings())]
    drawn = [
        pictures.curves(result, out / f"digits-{model}-curves.svg"),
        pictures.confusion(result, out / f"digits-{model}-confusion.svg"),
        pictures.mistakes(result, out / f"digits-{model}-mistakes.png"),
        picture(result.watch, out / f"digits-{model}-diagnostics.svg"),
    ]
    return result, [*lines, *map(str, drawn)]


def draw_mlp(out: Path) -> list[str]:
    """Curves, confusion, mistakes and measurements of the MLP."""
    return _draw("mlp", out)[1]


def draw_cnn(out: Path) -> list[str]:
    """The same of the CNN, and its filters."""
    result, lines = _draw("cnn", out)
    return [*lines, str(pictures.filters(result, out / "digits-cnn-filters.png"))]


DEMOS: dict[str, Demo] = {
    "digits-mlp": Demo("a NumPy MLP reads handwritten digits: curves, confusion, mistakes", draw_mlp),
    "digits-cnn": Demo("a NumPy CNN reads handwritten digits: also its filters", draw_cnn),
}
