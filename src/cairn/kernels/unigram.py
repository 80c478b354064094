"""Viterbi segmentation of UTF-8 text with a trie in one array. Plain twin: `Unigram.segment`.

A unit of the trie is one int64: byte + 1 that leads to it (bits 0-8, 0: unused), where its children start (bits 9-35), and
the value of the key that ends there, plus one (bits 36-62). The child for byte c stands at `children + c`; no two nodes have
the same `children`, so the byte alone tells whether it is one's own. One load a step, and 32,000 pieces fit into the cache.
"""

import numpy as np

from cairn.kernels.jit import kernel


def pack(keys: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """All keys in one array of bytes, and where each starts (with the end of the last)."""
    starts = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(key) for key in keys], out=starts[1:])
    return np.frombuffer(b"".join(keys), np.uint8), starts


@kernel
def build_trie(data, starts, values):
    """The trie of keys data[starts[i]:starts[i + 1]], sorted and distinct, with values[i] >= 0."""
    units = np.zeros(1 << 12, np.int64)
    used = np.zeros(1 << 12, np.uint8)  # whether a node's children start here
    used[0] = 1  # where those of a node without children seem to start
    queue = np.zeros((len(data) + 2, 4), np.int64)  # node, first key, last key + 1, depth
    queue[0, 1:] = 0, len(starts) - 1, 0
    head, tail = 0, 1
    labels = np.zeros(257, np.int64)
    first_free = 1
    while head < tail:
        node, low, high, depth = queue[head]
        head += 1
        if low < high and starts[low] + depth == starts[low + 1]:  # a key that ends here sorts first
            units[node] |= (values[low] + 1) << 36
            low += 1
        if low >= high:
            continue
        count = 0
        for i in range(low, high):
            byte = data[starts[i] + depth]
            if count == 0 or labels[count - 1] != byte:
                labels[count] = byte
                count += 1
        while first_free < len(units) and units[first_free] != 0:
            first_free += 1
        slot = first_free
        while True:
            if slot + 512 >= len(units):
                units = np.concatenate((units, np.zeros(len(units), np.int64)))
                used = np.concatenate((used, np.zeros(len(used), np.uint8)))
            children = slot - labels[0]
            if children >= 0 and units[slot] == 0 and used[children] == 0:
                fits = True
                for k in range(1, count):
                    if units[children + labels[k]] != 0:
                        fits = False
                        break
                if fits:
                    break
            slot += 1
        used[children] = 1
        units[node] |= children << 9
        start = low
        for k in range(count):
            child = children + labels[k]
            units[child] = labels[k] + 1
            end = start
            while end < high and data[starts[end] + depth] == labels[k]:
                end += 1
            queue[tail] = child, start, end, depth + 1
            tail += 1
            start = end
    return units


RESET = 100_000.0


@kernel
def _best_path(text, begin, end, trie, scores, best, back, token):
    """Fills, for each place of text[begin:end], the best score of a way there, its last piece and where that began.

    best's type is the arithmetic. In float32, sums beyond RESET are made relative again, as sentencepiece does.
    """
    unknown = len(scores) - 1
    number = best.dtype.type
    frontier = 0
    for i in range(1, end - begin + 1):
        back[i] = -1
    best[0] = 0
    at = begin
    while at < end:
        lead = text[at]
        width = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        before = best[at - begin]
        if best.itemsize == 4 and abs(before) > RESET:
            for i in range(at - begin, frontier + 1):
                if i == at - begin or back[i] >= 0:
                    best[i] -= before
            before = number(0)
        alone = False
        unit = trie[0]
        for stop in range(at, end):
            byte = np.int64(text[stop])
            unit = trie[((unit >> 9) & 0x7FFFFFF) + byte]
            if unit & 0x1FF != byte + 1:
                break
            value = (unit >> 36) - 1
            if value >= 0:
                to = stop + 1 - begin
                total = before + number(scores[value])
                frontier = max(frontier, to)
                if back[to] < 0 or total > best[to]:
                    best[to] = total
                    back[to] = at - begin
                    token[to] = value
                if stop + 1 - at == width:
                    alone = True
        if not alone:
            to = at + width - begin
            total = before + number(scores[unknown])
            frontier = max(frontier, to)
            if back[to] < 0 or total > best[to]:
                best[to] = total
                back[to] = at - begin
                token[to] = unknown
        at += width


@kernel
def _write(text, begin, end, back, token, path, unknown, unknown_id, byte_ids, out, count):
    """Appends the ids of the path to `out`; returns the new count. Unknown stretches become one id, or their bytes."""
    first = count
    steps = 0
    at = end - begin
    while at > 0:
        path[steps] = at
        steps += 1
        at = back[at]
    at = 0
    for step in range(steps - 1, -1, -1):
        to = path[step]
        if token[to] != unknown:
            out[count] = token[to]
            count += 1
        elif len(byte_ids):
            for i in range(begin + at, begin + to):
                if text[i] == 0x20:  # a space is U+2581 in pieces
                    out[count] = byte_ids[0xE2]
                    out[count + 1] = byte_ids[0x96]
                    out[count + 2] = byte_ids[0x81]
                    count += 3
                else:
                    out[count] = byte_ids[text[i]]
                    count += 1
        elif count == first or out[count - 1] != unknown_id:
            out[count] = unknown_id
            count += 1
        at = to
    return count


@kernel
def encode(text, trie, scores, unknown_id, byte_ids, number, words):
    """Ids (int32) of `text`, UTF-8 bytes with spaces as 0x20. scores: by id, float64, the unknown character's last.

    number: an array of the type to compute in. words: cut before each space first.
    """
    size = len(text)
    spaces = 0
    longest = 0
    begin = 0
    for i in range(size):
        if text[i] == 0x20:
            spaces += 1
            if words and i > begin:
                longest = max(longest, i - begin)
                begin = i
    longest = max(longest, size - begin)
    out = np.empty(size + 2 * spaces, np.int32)
    best = np.empty(longest + 1, number.dtype)
    back = np.empty(longest + 1, np.int32)
    token = np.empty(longest + 1, np.int32)
    path = np.empty(longest + 1, np.int32)
    unknown = len(scores) - 1
    count = 0
    begin = 0
    while begin < size:
        end = size
        if words:
            end = begin + 1
            while end < size and text[end] != 0x20:
                end += 1
        _best_path(text, begin, end, trie, scores, best, back, token)
        count = _write(text, begin, end, back, token, path, unknown, unknown_id, byte_ids, out, count)
        begin = end
    return out[:count].copy()


@kernel
def encode_many(text, ends, trie, scores, unknown_id, byte_ids, number, words):
    """`encode` for each text[ends[i - 1]:ends[i]]: all ids in a row, and where those of each text end."""
    out = np.empty(len(text) + 16, np.int32)
    out_ends = np.zeros(len(ends), np.int64)
    count = 0
    begin = 0
    for i in range(len(ends)):
        ids = encode(text[begin : ends[i]], trie, scores, unknown_id, byte_ids, number, words)
        while count + len(ids) > len(out):  # a space spelled in bytes is longer than itself
            out = np.concatenate((out, np.empty_like(out)))
        out[count : count + len(ids)] = ids
        count += len(ids)
        out_ends[i] = count
        begin = ends[i]
    return out[:count].copy(), out_ends
