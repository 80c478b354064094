"""Byte pair encoding over bytes (Sennrich et al. 2016; GPT-2's byte alphabet).

Training starts from single bytes and joins, again and again, the most frequent neighbouring pair of the corpus; encoding
replays those merges in the order they were learned. A text is first split into chunks (words, roughly: `pretokenize.py`)
and no merge crosses a chunk, so it is enough to count each distinct chunk once.

Ties are broken as Hugging Face breaks them: of equally frequent pairs the smallest (id, id) wins. Byte ids follow the
sorted code points of the GPT-2 alphabet, again as there, so that both libraries learn the same merges with the same ids.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

Pair = tuple[int, int]


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: printable Latin-1 stands for itself, the rest is moved to U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + n) for n, b in enumerate(others)}


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of `pair`, left to right.

    >>> merge([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def train_reference(chunks: Mapping[bytes, int], first_byte_id: int, merges: int) -> list[tuple[Pair, int]]:
    """The definition: count all pairs, take the best, merge, repeat. `chunks` maps each distinct chunk to its count.

    Returns the merges in order with the id each creates. A pair whose joined bytes already have an id reuses it. What is
    used to train is `cairn.kernels.learn.learn_merges`, which recounts only what a merge changes; both learn the same.
    """
    order = sorted(range(256), key=lambda b: BYTE_TO_CHAR[b])
    byte_id = {b: first_byte_id + i for i, b in enumerate(order)}
    content = {i: bytes([b]) for b, i in byte_id.items()}
    known = {b: i for i, b in content.items()}
    words = [([byte_id[b] for b in chunk], count) for chunk, count in chunks.items()]
    learned: list[tuple[Pair, int]] = []
    while len(learned) < merges:
        total: Counter[Pair] = Counter()
        for word, count in words:
            for pair in itertools.pairwise(word):
                total[pair] += count
        if not total:
            break
        best = min(total, key=lambda p: (-total[p], p))
        joined = content[best[0]] + content[best[1]]
        new = known.setdefault(joined, first_byte_id + len(known))
        content[new] = joined
        learned.append((best, new))
        words = [(merge(word, best, new), count) for word, count in words]
    return learned


class Ranks(Protocol):
    """Pair -> (rank, new id); a dictionary, or anything else that can be asked."""

    def get(self, pair: Pair, /) -> tuple[int, int] | None: ...


def encode_chunk(chunk: bytes, byte_id: Mapping[int, int], ranks: Ranks) -> list[int]:
    """Apply the earliest learned merge that is present, leftmost first, until none is.

    A linked list and a heap make it O(n log n), also on hostile input.
    """
    ids = [byte_id[b] for b in chunk]
    count = len(ids)
    if count < 2:
        return ids
    after, before = list(range(1, count + 1)), list(range(-1, count - 1))
    heap = []
    for i in range(count - 1):
        found = ranks.get((ids[i], ids[i + 1]))
        if found is not None:
            heap.append((found[0], i, ids[i], ids[i + 1], found[1]))
    heapq.heapify(heap)
    while heap:
        _, i, left, right, new = heapq.heappop(heap)
        j = after[i]
        if ids[i] != left or j >= count or ids[j] != right:
            continue  # one side was merged away meanwhile
        ids[i], ids[j] = new, -1
        after[i] = after[j]
        if after[j] < count:
            before[after[j]] = i
        for a, b in ((before[i], i), (i, after[i])):
            if a >= 0 and b < count:
                found = ranks.get((ids[a], ids[b]))
                if found is not None:
                    heapq.heappush(heap, (found[0], a, ids[a], ids[b], found[1]))
    return [i for i in ids if i >= 0]
