"""The demonstrations of this chapter: `cairn foundations demo NAME --out DIR` draws one.

>>> sorted(DEMOS)
['digits-cnn', 'digits-mlp']
"""

from pathlib import Path

from cairn.foundations.data import load_digits
from cairn.foundations.demo import Demo
from cairn.foundations.vision.pictures import draw_all
from cairn.foundations.vision.train import train


def _draw(model: str, out: Path) -> list[str]:
    result = train(load_digits(), model, watch_every=20)
    findings = result.watch.findings() if result.watch is not None else []
    drawn = draw_all(result, out, f"digits-{model}")
    return [f"{model}: {result}", *(f"finding: {line}" for line in findings), *map(str, drawn)]


def draw_mlp(out: Path) -> list[str]:
    """Curves, confusion, mistakes and measurements of the MLP."""
    return _draw("mlp", out)


def draw_cnn(out: Path) -> list[str]:
    """The same of the CNN, and its filters."""
    return _draw("cnn", out)


DEMOS: dict[str, Demo] = {
    "digits-mlp": Demo("a NumPy MLP reads handwritten digits: curves, confusion, mistakes", draw_mlp),
    "digits-cnn": Demo("a NumPy CNN reads handwritten digits: also its filters", draw_cnn),
}
