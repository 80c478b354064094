"""A model as a file: an .npz of its weights by name, its sizes and its alphabet as text. No pickle, so no code can hide in it.

>>> import tempfile
>>> model = GPT(GPTConfig(symbols=3, context=4, width=8, blocks=1, heads=2))
>>> with tempfile.TemporaryDirectory() as folder:
...     path = save(Path(folder) / "model.npz", model, Alphabet("abc"))
...     again, alphabet = load(path)
>>> ids_BT = np.array([[0, 2, 1]])
>>> bool((again(ids_BT).data == model(ids_BT).data).all()), alphabet.symbols
(True, 'abc')
"""

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.text import Alphabet


def save(path: Path, model: GPT, alphabet: Alphabet) -> Path:
    """Write the file, whole or not at all, and give its path back."""
    about = json.dumps({"config": asdict(model.config), "alphabet": alphabet.symbols})
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        arrays: dict[str, Any] = {name: weight.data for name, weight in model.weights.items()}
        np.savez(file, about=np.array(about), **arrays)
    os.replace(partial, path)
    return path


def load(path: Path) -> tuple[GPT, Alphabet]:
    """The model and its alphabet, as `save` wrote them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        model, alphabet = GPT(GPTConfig(**about["config"])), Alphabet(about["alphabet"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as problem:
        raise ValueError(f"{path} is not a model that this chapter has saved: {problem}") from None
    wanted = {name: weight.data for name, weight in model.weights.items()}
    for name in wanted.keys() | arrays.keys():
        ours, theirs = wanted.get(name), arrays.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ValueError(f"{path}: weight {name} does not fit the sizes that the file states; save the model anew")
        model.weights[name].data = theirs
    return model, alphabet
