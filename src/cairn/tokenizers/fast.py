"""Byte pair encoding at the speed of `cairn.kernels`: the arrays its loops work on, and the threads they run in.

Importing this file imports numba; `bpe.py` and `tokenizer.py` do so when there is enough text to be worth it.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cairn.core.batching import batches, in_threads
from cairn.core.errors import UserError
from cairn.kernels import chunks, encode, learn
from cairn.tokenizers.pretokenize import chunk_ends, to_bytes

NO_WEIGHTS = np.empty(0, np.int64)
MAX_DISTINCT = (1 << 31) - 1  # bytes of distinct chunks: places are int32


class ChunkCounter:
    """How often each distinct chunk occurs; counts are int64, so no corpus overflows them."""

    def __init__(self, room: int = 1 << 14):
        room = 1 << (room - 1).bit_length()  # the table's size must be a power of two
        self.slots, self.entries = np.zeros(2 * room, np.int64), np.empty(2 * room, np.int32)
        self.bytes, self.starts = np.empty(16 * room, np.uint8), np.zeros(room + 1, np.int64)
        self.counts = np.empty(room, np.int64)
        self.used = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.used[0])

    def add(self, data: np.ndarray, start: int, ends: np.ndarray, weights: np.ndarray = NO_WEIGHTS) -> None:
        """data: uint8; chunk k spans ends[k - 1] (or start) to ends[k], and counts weights[k] (or once)."""
        while len(ends):
            done = chunks.count_chunks(
                data, start, ends, weights, self.slots, self.entries, self.bytes, self.starts, self.counts, self.used
            )
            if done:
                start, ends, weights = int(ends[done - 1]), ends[done:], weights[done:]
            if len(ends):
                self._grow(int(ends[0]) - start)

    def add_text(self, text: str, pattern: str) -> None:
        for data, start, ends in chunk_ends(to_bytes(text), pattern):
            self.add(data, start, ends)

    def add_counter(self, other: "ChunkCounter") -> None:
        count = len(other)
        self.add(other.bytes, 0, other.starts[1 : count + 1], other.counts[:count])

    def items(self) -> Iterator[tuple[bytes, int]]:
        for i in range(len(self)):
            yield self.bytes[self.starts[i] : self.starts[i + 1]].tobytes(), int(self.counts[i])

    def save(self, file: BinaryIO) -> None:
        count = len(self)
        starts = self.starts[: count + 1]
        np.savez(file, bytes=self.bytes[: starts[-1]], starts=starts, counts=self.counts[:count])

    def add_saved(self, path: Path | str) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.add(arrays["bytes"], 0, arrays["starts"][1:], arrays["counts"])

    def _grow(self, room: int) -> None:
        """Make room for one more chunk of `room` bytes at least; each array doubles when it is (nearly) full."""
        count = len(self)
        used = int(self.starts[count])
        if used + room > len(self.bytes):
            self.bytes = _enlarged(self.bytes, used, 2 * len(self.bytes) + room)
        if count + 2 > len(self.starts):
            self.starts = _enlarged(self.starts, count + 1, 2 * len(self.starts))
            self.counts = _enlarged(self.counts, count, len(self.starts))
        if 2 * (count + 1) > len(self.slots):
            self.slots, self.entries = np.zeros(2 * len(self.slots), np.int64), np.empty(2 * len(self.slots), np.int32)
            chunks.refill(self.slots, self.entries, self.bytes, self.starts, count)


def _enlarged(array: np.ndarray, used: int, size: int) -> np.ndarray:
    larger = np.empty(size, array.dtype)
    larger[:used] = array[:used]
    return larger


def count_texts(texts: Iterable[str], pattern: str, threads: int = 1) -> ChunkCounter:
    """Chunks of all texts, counted in `threads` tables that are added up. The texts are streamed, the distinct chunks kept."""
    local = threading.local()
    counters: list[ChunkCounter] = []

    def work(batch: list[str]) -> None:
        if not hasattr(local, "counter"):
            local.counter = ChunkCounter()
            counters.append(local.counter)
        for text in batch:
            local.counter.add_text(text, pattern)

    for _ in in_threads(work, batches(texts), threads):
        pass
    if not counters:
        return ChunkCounter()
    for other in counters[1:]:
        counters[0].add_counter(other)
    return counters[0]


def learn_merges(counter: ChunkCounter, first_byte_id: int, merges: int, order: Sequence[int]) -> np.ndarray:
    """int32 (learned, 3): left id, right id, new id. `order` lists the byte values by ascending id."""
    count = len(counter)
    size = int(counter.starts[count])
    if size > MAX_DISTINCT:
        raise UserError(f"the corpus has {size:,} bytes of distinct words, at most {MAX_DISTINCT:,} can be trained on")
    id_of_byte = np.empty(256, np.int32)
    id_of_byte[list(order)] = np.arange(first_byte_id, first_byte_id + 256)
    return learn.learn_merges(
        counter.bytes[:size], counter.starts[: count + 1], counter.counts[:count], id_of_byte, first_byte_id, merges
    )


class MergeTable:
    """What encoding needs to know of a vocabulary; shared by all threads.

    byte_id: byte -> id. pairs: int64 (P, 4) rows of left id, right id, rank, new id. whole: chunks that are a token as they
    stand, whatever the merges make of them.
    """

    def __init__(self, byte_id: Mapping[int, int], pairs: np.ndarray, whole: Mapping[bytes, int]):
        self.id_of_byte = np.array([byte_id[b] for b in range(256)], np.int64)
        size = 1 << max(4, (2 * len(pairs)).bit_length())
        self.keys, self.ranks = np.zeros(size, np.int64), np.empty(size, np.int64)
        encode.fill_ranks(pairs, self.keys, self.ranks)
        self._caches: queue.SimpleQueue[_Cache] = queue.SimpleQueue()
        data, ends = _joined(whole)
        derived = encode.derived(
            data, ends, np.array(list(whole.values()), np.int64), self.id_of_byte, self.keys, self.ranks
        )
        self.whole = {chunk: token for (chunk, token), known in zip(whole.items(), derived) if not known}

    def encode(self, data: bytes, pattern: str) -> np.ndarray:
        """Ids of UTF-8 `data`: int32 (tokens,)."""
        try:
            cache = self._caches.get_nowait()
        except queue.Empty:
            cache = _Cache(self)
        parts: list[np.ndarray] = []
        for array, start, ends in chunk_ends(data, pattern):
            parts += cache.encode(array, start, ends)
        self._caches.put(cache)
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])


class _Cache:
    """Distinct chunks and their ids, for one thread. A full table starts anew: results never depend on what is in it."""

    ENTRIES = 1 << 17

    def __init__(self, table: MergeTable):
        self.table = table
        data, ends = _joined(table.whole)
        n = self.ENTRIES + len(ends)
        self.longest = max(encode.REMEMBERED, *map(len, table.whole), 0)
        self.slots, self.entries = np.zeros(1 << (2 * n).bit_length(), np.int64), np.empty(4 * n, np.int32)
        self.bytes, self.starts = np.empty(16 * n + len(data), np.uint8), np.zeros(n + 1, np.int64)
        self.ids, self.id_starts = np.empty(8 * n, np.int32), np.zeros(n + 1, np.int64)
        # Chunks that are a token whatever the merges say stand first, and stay when the table starts anew.
        self.kept = len(ends)
        self.bytes[: len(data)] = data
        self.starts[1 : self.kept + 1] = ends
        self.ids[: self.kept] = list(table.whole.values())
        self.id_starts[: self.kept + 1] = np.arange(self.kept + 1)
        self.used = np.zeros(1, np.int64)
        self._reset()

    def _reset(self) -> None:
        self.slots[:] = 0
        self.used[0] = self.kept
        chunks.refill(self.slots, self.entries, self.bytes, self.starts, self.kept)

    def encode(self, data: np.ndarray, start: int, ends: np.ndarray) -> list[np.ndarray]:
        merges = (self.table.id_of_byte, self.table.keys, self.table.ranks)
        memory = (self.slots, self.entries, self.bytes, self.starts, self.ids, self.id_starts, self.used)
        parts = []
        while len(ends):
            out = np.empty(int(ends[-1]) - start, np.int32)
            written, done = encode.encode_chunks(data, start, ends, self.longest, *merges, *memory, out)
            parts.append(out[:written].copy())
            if done:
                start, ends = int(ends[done - 1]), ends[done:]
            if len(ends):
                self._reset()
        return parts


def all_pairs(tokens: Mapping[bytes, int]) -> np.ndarray:
    """Every way to make a token of two others: int64 (P, 4) of left id, right id, rank, new id, where the rank is the new id.

    These are the merges of a vocabulary that has none of its own, as tiktoken understands it.
    """
    counter = ChunkCounter(len(tokens) + 1)
    data, ends = _joined(tokens)
    ids = np.array(list(tokens.values()), np.int64)
    counter.add(data, 0, ends, ids)  # the weight of a token's one occurrence is its id
    return encode.all_pairs(counter.slots, counter.entries, counter.bytes, counter.starts, counter.counts, len(counter))


def _joined(chunks: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all chunks one after the other, and where each ends."""
    chunks = list(chunks)
    return np.frombuffer(b"".join(chunks), np.uint8), np.cumsum([len(c) for c in chunks], dtype=np.int64)
