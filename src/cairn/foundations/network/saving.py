"""Weights in a file: NumPy's .npz, a zip of one array a weight.

Pickled objects, which .npz can hold as well, are neither written nor read: opening one runs code. Since the model says which
arrays it needs, each header is compared with it before its numbers are read, and a wrong file is refused before anything of
the model has changed.

>>> import tempfile
>>> from cairn.foundations.network.dense import Dense
>>> rng = np.random.default_rng(0)
>>> model, other = Dense(3, 2, rng), Dense(3, 2, rng)
>>> with tempfile.TemporaryDirectory() as folder:
...     path = save(model, Path(folder) / "dense.npz")
...     load(other, path)
>>> bool((model.weight.data == other.weight.data).all())
True
"""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from cairn.foundations.network.layer import Layer


def save(model: Layer, path: Path | str) -> Path:
    """Write all weights, and the running statistics of normalizations; the same weights give the same bytes."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **model.arrays())  # type: ignore[arg-type]
    os.replace(part, path)
    return path


def load(model: Layer, path: Path | str) -> None:
    """Fill a model of the same layers. ValueError: no such file, damaged, or of another model; the message says how."""
    path = Path(path)
    arrays = model.arrays()
    try:
        with zipfile.ZipFile(path) as archive:
            found, wanted = set(archive.namelist()), {f"{name}.npy" for name in arrays}
            if found != wanted:
                missing, extra = sorted(wanted - found), sorted(found - wanted)
                raise ValueError(f"of another model: lacks {missing[:3]}, has {extra[:3]} too much")
            read = {name: _read(archive, name, like) for name, like in arrays.items()}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as problem:
        raise ValueError(f"{path} cannot be read as weights of this model: {problem}") from None
    for name, values in read.items():
        arrays[name][...] = values


def _read(archive: zipfile.ZipFile, name: str, like: np.ndarray) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)  # type: ignore[arg-type]
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[arg-type]
    if shape != like.shape or dtype.kind != "f":
        raise ValueError(f"{name} is {shape} of {dtype}, where the model has {like.shape} of {like.dtype}")
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[arg-type]
