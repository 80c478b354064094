"""Duplicates of a corpus in three phases, each a pure function from files to files.

    write_keys(texts, keys, config)                           a shard of documents -> its keys
    find_pairs(key_files, first_ids, band, edges, ...)        one band of all shards -> pairs of equal keys
    cluster(edge_files, documents, removed)                   all pairs -> which documents go (union_find.py)

Documents are numbered through the corpus (int64): `first_ids[s]` is the number of shard s's first one. Output files do
not depend on the order of work, on the number of partitions, or on which machine did what; as long as a folder belongs
to one configuration, a phase whose output exists need not run again. Of every cluster the document with the smallest
number stays.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.dedup.exact import exact_hash_of_pieces, exact_hashes
from cairn.corpus.dedup.files import in_partition, read_shards, repeated, run_starts, write_array
from cairn.corpus.dedup.minhash import MinHashConfig, band_keys, hash_shingles, signatures_of_hashes
from cairn.corpus.dedup.union_find import cluster
from cairn.corpus.dedup.words import Words

EXACT = -1  # the "band" of the exact hash
NO_WORDS = 0  # the band key of a document without words, which is in no bucket
BATCH = 1 << 20  # characters that are worked on at a time
PIECE = 4 << 20  # a longer text is worked on in pieces
WHITESPACE = re.compile(r"\s")


@dataclass(frozen=True)
class DedupConfig:
    exact: str = option("raw", "text whose hash finds exact duplicates", choices=("raw", "normalised"))
    near: bool = option(True, "find near-duplicates too, by MinHash")
    minhash: MinHashConfig = option(MinHashConfig(), "near-duplicates")

    def key_bands(self) -> list[int]:
        """The bands for which `find_pairs` has work."""
        return [EXACT, *range(self.minhash.bands)] if self.near else [EXACT]


def write_keys(texts: Iterable[str], path: Path | str, config: DedupConfig) -> int:
    """Write the keys of one shard, uint64[bands + 2, documents]: the band keys, then both halves of the exact hash.

    Returns the number of documents. Memory: 8 (bands + 2) bytes a document, and under 100 MB of temporaries however
    long a text is, unless it is all one word.
    """
    rows = len(config.key_bands()) + 1
    parts = [np.empty((rows, 0), np.uint64)]
    for batch in _batches(texts):
        parts.append(_long_text_keys(batch[0], config) if len(batch[0]) > PIECE else _keys(batch, config))
    keys = np.concatenate(parts, axis=1)
    write_array(path, keys)
    return keys.shape[1]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts together up to BATCH characters; one of more than PIECE characters by itself."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _keys(texts: list[str], config: DedupConfig) -> np.ndarray:
    words = Words.of(texts) if config.near or config.exact == "normalised" else None
    exact = exact_hashes(texts, words if config.exact == "normalised" else None)
    if not config.near or words is None:
        return exact
    signature = signatures_of_hashes(*hash_shingles(words, config.minhash), config.minhash)
    return np.concatenate([band_keys(signature, np.diff(words.firsts) == 0, config.minhash), exact])


def _long_text_keys(text: str, config: DedupConfig) -> np.ndarray:
    """The same in bounded memory. A signature is the minimum over the pieces; the few shingles across a cut are lost."""
    raw = exact_hash_of_pieces(piece.encode("utf-8", "surrogatepass") for piece in _pieces(text))
    if config.exact == "raw" and not config.near:
        return raw
    signature, some = None, False
    for piece in _pieces(text):
        words = Words.of([piece])
        some = some or words.firsts[1] > 0
        if config.near:
            part = signatures_of_hashes(*hash_shingles(words, config.minhash), config.minhash)
            signature = part if signature is None else np.minimum(signature, part)
    exact = raw
    if some and config.exact == "normalised":
        normalised = (normal for normal in (Words.of([piece]).text(0) for piece in _pieces(text)) if normal)
        first = next(normalised)
        exact = exact_hash_of_pieces(chain([first], (b" " + normal for normal in normalised)))
    if signature is None:
        return exact
    return np.concatenate([band_keys(signature, np.array([not some]), config.minhash), exact])


def _pieces(text: str) -> Iterator[str]:
    """Cuts before whitespace where there is some in reach."""
    at = 0
    while at < len(text):
        space = WHITESPACE.search(text, at + PIECE, at + 2 * PIECE)
        end = space.start() if space else at + 2 * PIECE
        yield text[at:end]
        at = end


def find_pairs(
    key_files: Sequence[Path | str],
    first_ids: Sequence[int],
    band: int,
    out: Path | str,
    *,
    partition: int = 0,
    partitions: int = 1,
) -> int:
    """Write the pairs of documents with equal keys in one band (or EXACT), int64[n, 2]: (smallest of its bucket, other).

    With more partitions only the keys of one range of the key space are held at a time, 32 bytes each; the pairs of
    all partitions together are the same. Returns the number of pairs.
    """
    found: list[list[np.ndarray]] = []
    end = rows = None
    for first, keys in read_shards(key_files, first_ids, np.uint64):
        if rows not in (None, len(keys)) or not EXACT <= band < len(keys) - 2:
            raise UserError(f"band {band} of the key files: they were written with other settings; write them again")
        if end is not None and first < end:
            raise UserError(f"the shard whose first id is {first} overlaps the one before it, which ends at {end - 1}")
        rows, end = len(keys), first + keys.shape[1]
        columns = keys[-2:] if band == EXACT else keys[band : band + 1]
        wanted = in_partition(columns[0], partition, partitions)
        if band != EXACT:
            wanted &= columns[0] != NO_WORDS
        places = np.flatnonzero(wanted)
        found.append([*(column[places] for column in columns), places + first])
    edges = _edges(*map(np.concatenate, zip(*found))) if found else np.empty((0, 2), np.int64)
    write_array(out, edges)
    return len(edges)


def _edges(*columns: np.ndarray) -> np.ndarray:
    """Columns of keys, then ids -> pairs, sorted."""
    places = repeated(columns[0])
    *keys, ids = (column[places] for column in columns)
    order = np.lexsort((ids, *keys))
    keys, ids = [key[order] for key in keys], ids[order]
    starts = run_starts(*keys)
    smallest = ids[np.flatnonzero(starts)][np.cumsum(starts) - 1]  # of each one's bucket
    edges = np.stack([smallest, ids], axis=1)[~starts]
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))]


def deduplicate(
    shards: Sequence[Iterable[str]], folder: Path | str, config: DedupConfig, *, partitions: int = 1
) -> tuple[Path, int]:
    """All phases one after the other in one process: (file of removed documents, number of documents)."""
    folder = Path(folder)
    key_files, first_ids, documents = [], [], 0
    for number, texts in enumerate(shards):
        key_files.append(folder / f"keys-{number:05d}.npy")
        first_ids.append(documents)
        documents += write_keys(texts, key_files[-1], config)
    edge_files = []
    for band in config.key_bands():
        name = "exact" if band == EXACT else f"band-{band:03d}"
        for part in range(partitions):
            edge_files.append(folder / f"edges-{name}-{part:05d}.npy")
            find_pairs(key_files, first_ids, band, edge_files[-1], partition=part, partitions=partitions)
    cluster(edge_files, documents, folder / "removed.npy")
    return folder / "removed.npy", documents
