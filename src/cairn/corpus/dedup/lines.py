"""Lines that many documents repeat: navigation, licences, cookie notices. All but the first occurrence are dropped.

    write_lines(texts, lines, config)                         a shard of documents -> hashes of its longer lines
    find_lines(line_files, first_ids, dropped, config, ...)   all shards -> (document, line) that go
    dropped_lines(dropped_files, first, count)                a shard's share of them, for `without_lines`

As with whole documents (buckets.py), these are pure functions from files to files, and partitions bound their memory.
"""

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from cairn.core.config import option
from cairn.corpus.dedup.files import in_partition, read_array, read_shards, repeated, run_starts, write_array


@dataclass(frozen=True)
class LineConfig:
    characters: int = option(30, "shorter lines are left alone", minimum=1)
    documents: int = option(
        10,
        "a line in more documents than this is dropped after its first occurrence; 0: any line seen before",
        minimum=0,
    )


def write_lines(texts: Iterable[str], path: Path | str, config: LineConfig) -> int:
    """Write the lines of one shard, uint64[3, lines]: xxh3_64 of the stripped line, document in the shard, line number.

    Returns the number of documents. Memory: 48 bytes a line that is long enough.
    """
    found = array("Q")
    count = 0
    for count, text in enumerate(texts, 1):
        for number, line in enumerate(text.split("\n")):
            line = line.strip()
            if len(line) >= config.characters:
                found.extend((xxhash.xxh3_64_intdigest(line.encode("utf-8", "surrogatepass")), count - 1, number))
    write_array(path, np.array(found, np.uint64).reshape(-1, 3).T.copy())
    return count


def find_lines(
    line_files: Sequence[Path | str],
    first_ids: Sequence[int],
    out: Path | str,
    config: LineConfig,
    *,
    partition: int = 0,
    partitions: int = 1,
) -> int:
    """Write the lines to drop whose hashes fall into one partition, int64[2, n]: document (corpus-wide), line number.

    Sorted by document and line. Returns how many. Memory: 40 bytes a line of the partition.
    """
    found = [np.empty((3, 0), np.uint64)]
    for first, lines in read_shards(line_files, first_ids, np.uint64, 3):
        wanted = np.array(lines[:, in_partition(lines[0], partition, partitions)])
        wanted[1] += np.uint64(first)
        found.append(wanted)
    lines = np.concatenate(found, axis=1)
    lines = lines[:, repeated(lines[0])]
    hashes, documents, numbers = lines[:, np.lexsort((lines[2], lines[1], lines[0]))]
    starts = run_starts(hashes)
    run = np.cumsum(starts) - 1
    distinct = np.bincount(run, weights=run_starts(hashes, documents))[run] if len(run) else run
    dropped = np.stack([documents, numbers]).astype(np.int64)[:, ~starts & (distinct > config.documents)]
    write_array(out, dropped[:, np.lexsort((dropped[1], dropped[0]))])
    return dropped.shape[1]


def dropped_lines(files: Sequence[Path | str], first: int, count: int) -> dict[int, set[int]]:
    """Place in a shard of `count` documents whose first number is `first` -> numbers of the lines that go."""
    found: dict[int, set[int]] = {}
    for path in files:
        dropped = read_array(path, np.int64, 2)
        share = dropped[:, slice(*np.searchsorted(dropped[0], [first, first + count]))]
        for document, number in share.T.tolist():
            found.setdefault(document - first, set()).add(number)
    return found


def without_lines(text: str, numbers: Collection[int]) -> str:
    """The text without these lines.

    >>> without_lines("one\\ntwo\\nthree", {1})
    'one\\nthree'
    """
    return "\n".join(line for number, line in enumerate(text.split("\n")) if number not in numbers)
