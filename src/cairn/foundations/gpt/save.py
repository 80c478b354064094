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
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.text import Alphabet

BROKEN = zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError  # what a damaged or odd zip file raises


def check_writable(path: Path) -> Path:
    """Make the file's folder and see that a file can be written there; gives the path of the unfinished file back.

    Asked before training: hours of it should not be lost to a folder that is not there.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file")
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        partial.unlink()
    except OSError as problem:
        raise ValueError(f"{path} cannot be written: {problem.strerror}") from None
    return partial


def save(path: Path, model: GPT, alphabet: Alphabet) -> Path:
    """Write the file, whole or not at all, and give its path back."""
    about = json.dumps({"config": asdict(model.config), "alphabet": alphabet.symbols})
    partial = check_writable(path)
    try:
        with partial.open("wb") as file:
            arrays: dict[str, Any] = {name: weight.data for name, weight in model.weights.items()}
            np.savez(file, about=np.array(about), **arrays)
        os.replace(partial, path)
    except OSError as problem:
        raise ValueError(f"{path} cannot be written: {problem.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: Path) -> tuple[GPT, Alphabet]:
    """The model and its alphabet, as `save` wrote them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        config, alphabet = GPTConfig(**about["config"]), Alphabet(about["alphabet"])
        # Only a file that holds as many weights as its sizes ask for may have memory for them.
        held, D = sum(array.size for array in arrays.values()), config.width
        asked = (config.symbols + config.context + 2) * D + config.blocks * (12 * D + 13) * D
        if held != asked or config.symbols != len(alphabet):
            raise ValueError(f"{held} weights and {len(alphabet)} characters where {config} has {asked}")
        model = GPT(config)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, MemoryError, *BROKEN) as problem:
        raise ValueError(f"{path} is not a model that this chapter has saved: {problem}") from None
    wanted = {name: weight.data for name, weight in model.weights.items()}
    for name in wanted.keys() | arrays.keys():
        ours, theirs = wanted.get(name), arrays.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ValueError(f"{path}: weight {name} does not fit the sizes that the file states; save the model anew")
        model.weights[name].data = theirs
    return model, alphabet
