"""The book's chapters in the order of reading, and the demonstrations of each.

>>> next(iter(CHAPTERS))
'scalar'
>>> [name for name in demonstrations("scalar") if "graph" in name]
['scalar-graph']
"""

import importlib
from difflib import get_close_matches

from cairn.foundations.demo import Demo

CHAPTERS = {
    "scalar": "reverse-mode differentiation on single numbers, and a network made of them",
    "descent": "gradient descent and its relatives walking over landscapes",
    "tensor": "the same differentiation on NumPy arrays",
    "network": "layers, losses, optimizers, schedules; what to look at while a network trains",
    "vision": "networks that read digits",
    "attention": "attention by hand: forward, backward, heatmaps",
    "recurrent": "RNN, LSTM, GRU, and gradients that vanish",
    "gpt": "a whole small GPT",
    "mathematics": "linear algebra, probability, information, bias and variance",
    "classical": "what was there before: regressions, trees, neighbours, clusters, and where they fail",
}


def demonstrations(chapter: str) -> dict[str, Demo]:
    """Name -> demonstration, of one chapter."""
    if chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r}; the chapters are {', '.join(CHAPTERS)}")
    return importlib.import_module(f"cairn.foundations.{chapter}.demos").DEMOS


def find(name: str) -> Demo:
    """The demonstration of this name, in whichever chapter it stands."""
    every = {known: demo for chapter in CHAPTERS for known, demo in demonstrations(chapter).items()}
    if name not in every:
        close = get_close_matches(name, every, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"there is no demonstration {name!r}: {hint}`cairn foundations` lists all {len(every)}")
    return every[name]
