"""The files between the phases: one NumPy array each, whole or absent, read without loading what is not needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_file


def write_array(path: Path | str, array: np.ndarray) -> None:
    with atomic_file(path) as handle:
        np.save(handle, array, allow_pickle=False)


def read_array(path: Path | str, dtype: type, rows: int | None = None) -> np.ndarray:
    """A memory-mapped array [rows, n] of this type; anything else at `path` is a UserError."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run the phase that writes it first") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run its phase again") from None
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 2 or rows not in (None, len(array)):
        raise UserError(f"{path} is of another phase or other settings; delete it and run its phase again")
    return array


def read_shards(
    files: Sequence[Path | str], first_ids: Sequence[int], dtype: type, rows: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first id, array) of every shard, in the order of the ids."""
    if len(files) != len(first_ids):
        raise UserError(f"{len(files)} key files need as many first ids, got {len(first_ids)}")
    for path, first in sorted(zip(files, first_ids), key=lambda pair: pair[1]):
        yield first, read_array(path, dtype, rows)


def in_partition(keys: np.ndarray, partition: int, partitions: int) -> np.ndarray:
    """bool for each key (uint64): the key space is cut into `partitions` equal ranges by its upper 32 bits."""
    if not 0 <= partition < partitions <= 1 << 32:
        raise UserError(f"partition must be 0 to {partitions - 1}, got {partition}")
    return (keys >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32) == partition


def repeated(keys: np.ndarray) -> np.ndarray:
    """The places of keys that occur more than once; all else is set aside before any costly sorting.

    >>> sorted(repeated(np.array([5, 7, 5, 6], np.uint64)).tolist())
    [0, 2]
    """
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    among = np.zeros(len(keys), bool)
    among[1:] |= same
    among[:-1] |= same
    return order[among]


def run_starts(*columns: np.ndarray) -> np.ndarray:
    """bool: entry i of sorted columns differs from the entry before it (the first one does)."""
    starts = np.ones(len(columns[0]), bool)
    starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return starts
