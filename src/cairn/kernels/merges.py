"""Joining neighbours by score, the kernel behind `SentencePieceBPE` (plain twin: its `_merge`).

Two characters between which no piece has a neighbourhood can never be joined, so the text is cut there first: the heaps stay
small, and the ids are the same as if the whole text were one.
"""

import numpy as np

from cairn.kernels.heap import pop, push
from cairn.kernels.jit import kernel

NONE = -1


def tables(
    alphabet: list[str],
    symbols: list[int],
    pairs: list[tuple[int, int, int, float]],
    neighbours: set[str],
    pieces: int,
) -> tuple[np.ndarray, ...]:
    """The lookups `encode` needs. pairs: (left symbol, right symbol, joined symbol, priority); equal priorities tie."""
    symbol_of = np.full(0x110000, NONE, np.int32)
    symbol_of[[ord(char) for char in alphabet]] = symbols
    order = {priority: rank for rank, priority in enumerate(sorted({pair[3] for pair in pairs}))}
    keys = np.array([left << 32 | right for left, right, _, _ in pairs], np.int64)
    values = np.array([order[priority] << 32 | joined for _, _, joined, priority in pairs], np.int64)
    near = np.array([ord(text[0]) << 32 | ord(text[1]) for text in sorted(neighbours)], np.int64)
    return (symbol_of, *_table(keys, values), *_table(near, np.zeros(len(near), np.int64)), np.array([pieces]))


def _table(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = 16
    while size < 4 * len(keys):
        size *= 2
    return _fill(keys, values, np.full(size, NONE, np.int64), np.full(size, NONE, np.int64))


@kernel
def _slot(key, size):
    """Fibonacci hashing: the high bits of a product with the golden ratio."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))


@kernel
def _fill(keys, values, table, content):
    for i in range(len(keys)):
        slot = _slot(keys[i], len(table))
        while table[slot] != NONE and table[slot] != keys[i]:
            slot = (slot + 1) & (len(table) - 1)
        if table[slot] == NONE:
            table[slot] = keys[i]
            content[slot] = values[i]
    return table, content


@kernel
def _find(key, table, content):
    slot = _slot(key, len(table))
    while table[slot] != NONE:
        if table[slot] == key:
            return content[slot]
        slot = (slot + 1) & (len(table) - 1)
    return NONE


@kernel
def _merge(symbol, after, before, count, heap, pair_keys, pair_values):
    """Joins symbols[:count] until nothing can be; a joined one becomes NONE. Heap items: priority << 32 | place."""
    size = 0
    for i in range(count):
        after[i] = i + 1
        before[i] = i - 1
    for i in range(count - 1):
        if symbol[i] >= 0 and symbol[i + 1] >= 0:
            found = _find(np.int64(symbol[i]) << 32 | symbol[i + 1], pair_keys, pair_values)
            if found != NONE:
                push(heap, size, found >> 32 << 32 | i)
                size += 1
    while size > 0:
        item = heap[0]
        pop(heap, size)
        size -= 1
        left = item & 0xFFFFFFFF
        right = after[left]
        if symbol[left] == NONE or right >= count:
            continue
        found = _find(np.int64(symbol[left]) << 32 | symbol[right], pair_keys, pair_values)
        if found == NONE or found >> 32 != item >> 32:
            continue  # one side was joined to something else meanwhile
        symbol[left] = found & 0xFFFFFFFF
        symbol[right] = NONE
        after[left] = after[right]
        if after[left] < count:
            before[after[left]] = left
            found = _find(np.int64(symbol[left]) << 32 | symbol[after[left]], pair_keys, pair_values)
            if found != NONE:
                push(heap, size, found >> 32 << 32 | left)
                size += 1
        place = before[left]
        if place >= 0:
            found = _find(np.int64(symbol[place]) << 32 | symbol[left], pair_keys, pair_values)
            if found != NONE:
                push(heap, size, found >> 32 << 32 | place)
                size += 1


@kernel
def _spell(point, byte_ids, out, count):
    if point == 0x20:
        point = np.uint32(0x2581)
    if point < 0x80:
        out[count] = byte_ids[point]
        return count + 1
    if point < 0x800:
        out[count] = byte_ids[0xC0 | point >> 6]
        out[count + 1] = byte_ids[0x80 | point & 0x3F]
        return count + 2
    if point < 0x10000:
        out[count] = byte_ids[0xE0 | point >> 12]
        out[count + 1] = byte_ids[0x80 | point >> 6 & 0x3F]
        out[count + 2] = byte_ids[0x80 | point & 0x3F]
        return count + 3
    out[count] = byte_ids[0xF0 | point >> 18]
    out[count + 1] = byte_ids[0x80 | point >> 12 & 0x3F]
    out[count + 2] = byte_ids[0x80 | point >> 6 & 0x3F]
    out[count + 3] = byte_ids[0x80 | point & 0x3F]
    return count + 4


@kernel
def encode(points, lookups, unknown_id, byte_ids):
    """Ids (int32) of code points. A character without a piece becomes its bytes, or one unknown id a stretch."""
    symbol_of, pair_keys, pair_values, near_keys, near_values, pieces = lookups
    size = len(points)
    longest = 1
    begin = 0
    cut = np.zeros(size + 1, np.uint8)
    for i in range(1, size + 1):
        if i == size or _find(np.int64(points[i - 1]) << 32 | np.int64(points[i]), near_keys, near_values) == NONE:
            cut[i] = 1
            longest = max(longest, i - begin)
            begin = i
    symbol = np.empty(longest, np.int64)
    after = np.empty(longest, np.int64)
    before = np.empty(longest, np.int64)
    heap = np.empty(3 * longest + 3, np.int64)
    capacity = 4 * size if len(byte_ids) else size
    out = np.empty(capacity, np.int32)
    count = 0
    begin = 0
    while begin < size:
        end = begin + 1
        while not cut[end]:
            end += 1
        for i in range(begin, end):
            known = symbol_of[points[i]]
            symbol[i - begin] = known if known >= 0 else -2  # -2: a character that no piece has
        if end - begin > 1:
            _merge(symbol, after, before, end - begin, heap, pair_keys, pair_values)
        for i in range(end - begin):
            if symbol[i] >= 0 and symbol[i] < pieces[0]:
                out[count] = symbol[i]
                count += 1
            elif symbol[i] != NONE:
                if len(byte_ids):
                    count = _spell(points[begin + i], byte_ids, out, count)
                elif count == 0 or out[count - 1] != unknown_id:
                    out[count] = unknown_id
                    count += 1
        begin = end
    return out[:count].copy()


@kernel
def encode_many(points, ends, lookups, unknown_id, byte_ids):
    """`encode` for each points[ends[i - 1]:ends[i]]: all ids in a row, and where those of each text end."""
    out = np.empty(len(points) + 16, np.int32)
    out_ends = np.zeros(len(ends), np.int64)
    count = 0
    begin = 0
    for i in range(len(ends)):
        ids = encode(points[begin : ends[i]], lookups, unknown_id, byte_ids)
        while count + len(ids) > len(out):  # a character spelled in bytes is longer than itself
            out = np.concatenate((out, np.empty_like(out)))
        out[count : count + len(ids)] = ids
        count += len(ids)
        out_ends[i] = count
        begin = ends[i]
    return out[:count].copy(), out_ends
