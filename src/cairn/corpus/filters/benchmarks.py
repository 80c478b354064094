"""The n-grams of benchmark files as a sorted table of 64-bit hashes, made once and kept on disk.

Words are compared as GPT-3 compared them (Brown et al. 2020, appendix C): in lower case and without punctuation.
"""

import bz2
import csv
import dataclasses
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import xxhash

from cairn.core.errors import UserError
from cairn.core.files import atomic_file, fingerprint, hash_file
from cairn.corpus.filters.words import Memo, words

SUFFIXES = (".jsonl", ".json", ".csv", ".txt")
FORMAT = 1  # counted up when the table or the way words are compared changes, so that old tables are made anew
_BASE = np.uint64(0x9E3779B97F4A7C15)  # any large odd number will do


def _word_hash(word: str) -> int:
    """Of the word in lower case without punctuation; 0 for a word of nothing else."""
    plain = "".join(filter(str.isalnum, word.lower()))
    return xxhash.xxh3_64_intdigest(plain.encode("utf-8")) | 1 if plain else 0


_HASHES = Memo(_word_hash)


def word_hashes(tokens: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, places) of the tokens that are more than punctuation: uint64 (W,), int64 (W,)."""
    hashes = np.fromiter(map(_HASHES.__getitem__, tokens), np.uint64, len(tokens))
    places = np.flatnonzero(hashes)
    return hashes[places], places


def ngram_hashes(hashes_W: np.ndarray, n: int) -> np.ndarray:
    """uint64 (max(W - n + 1, 0),): a polynomial in the hashes of n neighbouring words, modulo 2^64."""
    count = max(len(hashes_W) - n + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    for k in range(n):
        total = total * _BASE + hashes_W[k : k + count]
    return total


@dataclass(frozen=True)
class BenchmarkIndex:
    """hashes: sorted uint64 (H,); owners: (H,), the benchmark of each; items and short (too few words): per benchmark."""

    names: tuple[str, ...]
    hashes: np.ndarray
    owners: np.ndarray
    items: np.ndarray
    short: np.ndarray

    @cached_property
    def _present(self) -> np.ndarray:
        """bool (2^24,): whether any hash begins with these bits. One look-up spares most searches in the long table."""
        present = np.zeros(1 << 24, dtype=bool)
        present[self.hashes >> np.uint64(40)] = True
        return present

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `hashes` that are in the index, and the benchmark each belongs to."""
        places = np.flatnonzero(self._present[hashes >> np.uint64(40)])
        spots = np.searchsorted(self.hashes, hashes[places])
        equal = spots < len(self.hashes)
        equal[equal] = self.hashes[spots[equal]] == hashes[places[equal]]
        return places[equal], self.owners[spots[equal]]


@lru_cache(8)
def benchmark_index(paths: tuple[str, ...], n: int, fields: tuple[str, ...] = (), cache: str = "") -> BenchmarkIndex:
    """The index of the files, from the folder `cache` if it is there: its name depends on the content of the files alone."""
    if not cache:
        return _build(paths, n, fields)
    key = fingerprint([FORMAT, n, fields, [[Path(p).name, hash_file(p)] for p in paths]])
    file = Path(cache) / f"benchmarks-{key}.npz"
    if file.exists():
        try:
            with np.load(file) as stored:
                names, *arrays = (stored[field.name] for field in dataclasses.fields(BenchmarkIndex))
                return BenchmarkIndex(tuple(map(str, names)), *arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # damaged: made anew below
    index = _build(paths, n, fields)
    mine = file.with_name(f"{file.name}.{os.getpid()}")  # several workers may build it at once; they write the same
    with atomic_file(mine) as handle:
        arrays = {field.name: np.asarray(getattr(index, field.name)) for field in dataclasses.fields(index)}
        np.savez(handle, allow_pickle=False, **arrays)
    os.replace(mine, file)
    return index


def _build(paths: tuple[str, ...], n: int, fields: tuple[str, ...]) -> BenchmarkIndex:
    tables, owners = [], []
    items, short = np.zeros(len(paths), np.int64), np.zeros(len(paths), np.int64)
    for owner, path in enumerate(paths):
        parts = []
        for text in benchmark_texts(Path(path), fields):
            tokens = words(text)
            hashes = ngram_hashes(word_hashes(tokens)[0], n)
            items[owner] += 1
            short[owner] += not len(hashes)
            parts.append(hashes)
        if not items[owner]:
            wanted = f" in the fields {', '.join(fields)}" if fields else ""
            raise UserError(f"benchmark {path} holds no text{wanted}")
        tables.append(np.unique(np.concatenate(parts)))
        owners.append(np.full(len(tables[-1]), owner, np.int64))
    # Of an n-gram in several benchmarks np.unique keeps the first place: the benchmark that was named first.
    hashes, first = np.unique(np.concatenate(tables), return_index=True)
    return BenchmarkIndex(tuple(Path(p).name for p in paths), hashes, np.concatenate(owners)[first], items, short)


def kind_of(path: Path) -> str:
    """The suffix that says how to read a benchmark file, that of a compression left out. Raises UserError for another."""
    suffix = (path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz", ".zst") else path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"benchmark {path}: {', '.join(SUFFIXES)} are read, also with .gz, .bz2, .xz or .zst behind")
    return suffix


def _open(path: Path) -> IO[bytes]:
    match path.suffix:
        case ".gz":
            return gzip.open(path)  # type: ignore[return-value]
        case ".bz2":
            return bz2.open(path)
        case ".xz":
            return lzma.open(path)
        case ".zst":
            import zstandard

            return zstandard.open(path)  # type: ignore[return-value]
        case _:
            return open(path, "rb")


def benchmark_texts(path: Path, fields: tuple[str, ...] = ()) -> Iterator[str]:
    """One text for each item: a line of .txt, a record of .jsonl or .csv, an element of .json's outermost list.

    The strings of a record are read on in the order of the file, so that n-grams span question and answer. With `fields`,
    only strings under one of these keys count. Raises UserError with file and line for what cannot be read.
    """
    kind = kind_of(path)
    number = 0
    try:
        with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="" if kind == ".csv" else None) as handle:
            if kind == ".json":
                content = json.load(handle)
                for record in content if isinstance(content, list) else [content]:
                    yield "\n".join(_strings(record, fields))
            elif kind == ".csv":
                for record in csv.DictReader(handle):
                    yield "\n".join(_strings(record, fields))
            else:
                for line in handle:
                    number += 1
                    if line.strip():
                        yield line if kind == ".txt" else "\n".join(_strings(json.loads(line), fields))
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        where = f"{path}:{number}" if number else str(path)
        raise UserError(f"benchmark {where} cannot be read: {str(error) or type(error).__name__}") from None


def _strings(value: Any, fields: tuple[str, ...], wanted: bool | None = None) -> Iterator[str]:
    wanted = not fields if wanted is None else wanted
    if isinstance(value, str):
        if wanted:
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, fields, wanted or key in fields)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, fields, wanted)
