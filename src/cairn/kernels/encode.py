"""Applying the merges of byte pair encoding. Plain twin: `cairn.tokenizers.bpe.encode_chunk`."""

import numpy as np

from cairn.kernels.chunks import chunk_key, find_chunk, slot_of
from cairn.kernels.heap import pop, push
from cairn.kernels.jit import inlined, kernel

NO_RANK = 1 << 62


@inlined
def rank_of(a, b, pair_keys, pair_ranks):
    """rank << 32 | new id of the pair (a, b), NO_RANK when it never merges."""
    key = (a << 32 | b) + 1
    mask = len(pair_keys) - 1
    slot = slot_of(key, mask)
    while pair_keys[slot] != 0:
        if pair_keys[slot] == key:
            return pair_ranks[slot]
        slot = (slot + 1) & mask
    return NO_RANK


@kernel
def fill_ranks(pairs, pair_keys, pair_ranks):
    """Enter pairs (int64 (P, 4): left, right, rank, new id) into the empty table of `rank_of`."""
    mask = len(pair_keys) - 1
    for p in range(len(pairs)):
        key = (pairs[p, 0] << 32 | pairs[p, 1]) + 1
        slot = slot_of(key, mask)
        while pair_keys[slot] != 0 and pair_keys[slot] != key:
            slot = (slot + 1) & mask
        rank = pairs[p, 2] << 32 | pairs[p, 3]
        if pair_keys[slot] == 0 or rank < pair_ranks[slot]:
            pair_keys[slot], pair_ranks[slot] = key, rank


@kernel
def encode_short(data, start, end, id_of_byte, pair_keys, pair_ranks, ids, ranks):
    """Ids of a short chunk into `ids`; returns how many. Looks for the lowest rank anew each time: few bytes, no heap."""
    n = end - start
    for i in range(n):
        ids[i] = id_of_byte[data[start + i]]
    for i in range(n - 1):
        ranks[i] = rank_of(ids[i], ids[i + 1], pair_keys, pair_ranks)
    while n > 1:
        best, at = NO_RANK, 0
        for i in range(n - 1):
            if ranks[i] < best:
                best, at = ranks[i], i
        if best == NO_RANK:
            break
        ids[at] = best & 0xFFFFFFFF
        n -= 1
        for i in range(at + 1, n):
            ids[i] = ids[i + 1]
            ranks[i - 1] = ranks[i]
        if at > 0:
            ranks[at - 1] = rank_of(ids[at - 1], ids[at], pair_keys, pair_ranks)
        if at < n - 1:
            ranks[at] = rank_of(ids[at], ids[at + 1], pair_keys, pair_ranks)
    return n


@kernel
def encode_long(data, start, end, id_of_byte, pair_keys, pair_ranks, out):
    """As `encode_short` for any length, in O(n log n): a linked list of tokens and a heap of (rank, place)."""
    n = end - start
    ids = np.empty(n, np.int64)
    after, back = np.empty(n, np.int64), np.empty(n, np.int64)
    rank_at = np.full(n, NO_RANK, np.int64)  # the whole rank << 32 | id; the heap holds rank << 32 | place
    heap = np.empty(3 * n, np.int64)
    size = 0
    for i in range(n):
        ids[i], after[i], back[i] = id_of_byte[data[start + i]], i + 1, i - 1
    for i in range(n - 1):
        rank_at[i] = rank_of(ids[i], ids[i + 1], pair_keys, pair_ranks)
        if rank_at[i] != NO_RANK:
            push(heap, size, (rank_at[i] >> 32) << 32 | i)
            size += 1
    while size > 0:
        top = heap[0]
        pop(heap, size)
        size -= 1
        i = top & 0xFFFFFFFF
        if rank_at[i] == NO_RANK or rank_at[i] >> 32 != top >> 32:
            continue
        j = after[i]
        ids[i] = rank_at[i] & 0xFFFFFFFF
        rank_at[j] = NO_RANK
        after[i] = after[j]
        if after[j] < n:
            back[after[j]] = i
        for side in range(2):
            x = back[i] if side == 0 else i
            y = i if side == 0 else after[i]
            if x < 0:
                continue
            rank_at[x] = rank_of(ids[x], ids[y], pair_keys, pair_ranks) if y < n else NO_RANK
            if rank_at[x] != NO_RANK:
                # 3n places suffice: n - 1 at first and two for each of at most n - 1 merges.
                push(heap, size, (rank_at[x] >> 32) << 32 | x)
                size += 1
    count, i = 0, 0
    while i < n:
        out[count] = ids[i]
        count += 1
        i = after[i]
    return count


SHORT = 48  # bytes: up to here looking through all ranks beats a heap
REMEMBERED = 255  # bytes: longer chunks hardly ever come again


@kernel
def encode_chunks(
    data,
    start,
    ends,
    longest,
    id_of_byte,
    pair_keys,
    pair_ranks,
    slots,
    entries,
    bytes_,
    starts,
    ids,
    id_starts,
    used,
    out,
):
    """Ids of all chunks into `out` (int32, room for one a byte).

    Words repeat, so distinct chunks of up to `longest` bytes are remembered with their ids, in a table as in `count_chunks`:
    the ids of entry e are ids[id_starts[e]:id_starts[e+1]]. Returns (ids written, chunks done); fewer chunks than all means
    that the table is full.
    """
    short_ids, short_ranks = np.empty(SHORT, np.int64), np.empty(SHORT, np.int64)
    written = 0
    for k in range(len(ends)):
        end = ends[k]
        length = end - start
        if length > longest:
            written += encode_long(data, start, end, id_of_byte, pair_keys, pair_ranks, out[written:])
        elif length > 0:
            key = chunk_key(data, start, end)
            slot = find_chunk(data, start, end, key, slots, entries, bytes_, starts)
            if slots[slot] == 0:
                entry = used[0]
                first, first_id = starts[entry], id_starts[entry]
                full = entry + 2 > len(starts) or 2 * (entry + 1) > len(slots)
                if full or first + length > len(bytes_) or first_id + length > len(ids):
                    return written, k
                if length <= SHORT:
                    count = encode_short(data, start, end, id_of_byte, pair_keys, pair_ranks, short_ids, short_ranks)
                    for i in range(count):
                        ids[first_id + i] = short_ids[i]
                else:
                    count = encode_long(data, start, end, id_of_byte, pair_keys, pair_ranks, ids[first_id:])
                bytes_[first : first + length] = data[start:end]
                slots[slot], entries[slot] = key, entry
                starts[entry + 1], id_starts[entry + 1] = first + length, first_id + count
                used[0] = entry + 1
            entry = entries[slot]
            for i in range(id_starts[entry], id_starts[entry + 1]):
                out[written] = ids[i]
                written += 1
        start = end
    return written, len(ends)


@kernel
def derived(data, ends, tokens, id_of_byte, pair_keys, pair_ranks):
    """For each chunk of `data`, whether the merges alone make it the one id tokens[k]."""
    answer = np.zeros(len(ends), np.bool_)
    start = 0
    for k in range(len(ends)):
        out = np.empty(ends[k] - start, np.int64)
        count = encode_long(data, start, ends[k], id_of_byte, pair_keys, pair_ranks, out)
        answer[k] = count == 1 and out[0] == tokens[k]
        start = ends[k]
    return answer


@kernel
def all_pairs(slots, entries, bytes_, starts, ids, count):
    """Rows (left id, right id, id, id) for every token and every cut of it into two tokens. A table as in `count_chunks`."""
    rows, out = 0, np.empty((1 << 16, 4), np.int64)
    for token in range(count):
        start, end = starts[token], starts[token + 1]
        for cut in range(start + 1, end):
            left = find_chunk(bytes_, start, cut, chunk_key(bytes_, start, cut), slots, entries, bytes_, starts)
            if slots[left] == 0:
                continue
            right = find_chunk(bytes_, cut, end, chunk_key(bytes_, cut, end), slots, entries, bytes_, starts)
            if slots[right] == 0:
                continue
            if rows == len(out):
                larger = np.empty((2 * rows, 4), np.int64)
                larger[:rows] = out
                out = larger
            out[rows, 0], out[rows, 1] = ids[entries[left]], ids[entries[right]]
            out[rows, 2] = out[rows, 3] = ids[token]
            rows += 1
    return out[:rows]
