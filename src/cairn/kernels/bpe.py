"""Byte pair encoding at speed: counting distinct chunks, learning merges, applying them.

Plain twins: `cairn.tokenizers.bpe.train_reference` and `encode_chunk`. Integers are int64 throughout: numba turns a mix of
int64 and uint64 into floats.
"""

import numpy as np

from cairn.kernels.jit import inlined, kernel

GOLDEN = (
    -7046029254386353131
)  # 2^64 / golden ratio, odd, as int64: spreads keys over a power of two (Knuth, vol. 3, 6.4)
PRIME = 1099511628211  # FNV-1a
NO_RANK = 1 << 62


# --- distinct chunks


@inlined
def chunk_key(data, start, end):
    """A key of the bytes start..end: up to seven bytes the key is the content itself, beyond that a negative hash."""
    if end - start < 8:
        key = end - start
        for i in range(start, end):
            key = key << 8 | data[i]
        return key
    key = -3750763034362895579  # FNV's offset basis
    for i in range(start, end):
        key = (key ^ data[i]) * PRIME
    return (key ^ key >> 32) | -9223372036854775808


@inlined
def slot_of(key, mask):
    return (key * GOLDEN >> 24) & mask


@inlined
def same_bytes(a, i, b, j, length):
    for k in range(length):
        if a[i + k] != b[j + k]:
            return False
    return True


@inlined
def find_chunk(data, start, end, key, slots, entries, bytes_, starts):
    """Slot of the chunk in the open-addressing table, or of the free place where it belongs."""
    mask = len(slots) - 1
    slot = slot_of(key, mask)
    while slots[slot] != 0:
        if slots[slot] == key:
            at = entries[slot]
            if key > 0:
                return slot
            known = starts[at]
            if starts[at + 1] - known == end - start and same_bytes(data, start, bytes_, known, end - start):
                return slot
        slot = (slot + 1) & mask
    return slot


@kernel
def count_chunks(data, start, ends, weights, slots, entries, bytes_, starts, counts, used):
    """Add chunks to the table. data: uint8; chunk k spans ends[k-1] (or start) to ends[k] and counts weights[k] (or 1).

    slots: int64 keys (a power of two, 0 = free); entries: int32 entry of a slot; entry e is bytes_[starts[e]:starts[e+1]]
    and occurred counts[e] times; used[0] = number of entries. Returns how many chunks were added: fewer than all means
    that the table must grow first.
    """
    for k in range(len(ends)):
        end = ends[k]
        if end > start:
            key = chunk_key(data, start, end)
            slot = find_chunk(data, start, end, key, slots, entries, bytes_, starts)
            if slots[slot] == 0:
                entry = used[0]
                first = starts[entry]
                if entry + 2 > len(starts) or 2 * (entry + 1) > len(slots) or first + end - start > len(bytes_):
                    return k
                bytes_[first : first + end - start] = data[start:end]
                slots[slot], entries[slot] = key, entry
                starts[entry + 1] = first + end - start
                counts[entry] = 0
                used[0] = entry + 1
            counts[entries[slot]] += weights[k] if len(weights) else 1
        start = end
    return len(ends)


@kernel
def refill(slots, entries, bytes_, starts, count):
    """Enter `count` known chunks into an empty, larger table."""
    for entry in range(count):
        key = chunk_key(bytes_, starts[entry], starts[entry + 1])
        slot = slot_of(key, len(slots) - 1)
        while slots[slot] != 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot], entries[slot] = key, entry


# --- learning merges


@kernel
def grown(array, size):
    """`array`, or a copy with room for `size` elements and as many again."""
    if size <= len(array):
        return array
    larger = np.empty(2 * size, array.dtype)
    larger[: len(array)] = array
    return larger


@inlined
def before(count_a, a, count_b, b, left, right):
    """Whether pair a goes before pair b: more frequent, else the smaller (left id, right id)."""
    if count_a != count_b:
        return count_a > count_b
    if left[a] != left[b]:
        return left[a] < left[b]
    return right[a] < right[b]


@kernel
def heap_push(counts, pairs, size, count, pair, left, right):
    """Push (count, pair) on the heap of `size` entries held in `counts` and `pairs`, which have room for it."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if not before(count, pair, counts[parent], pairs[parent], left, right):
            break
        counts[i], pairs[i] = counts[parent], pairs[parent]
        i = parent
    counts[i], pairs[i] = count, pair


@kernel
def heap_pop(counts, pairs, size, left, right):
    """Remove the first entry (read it at index 0 before); the heap has size - 1 entries then."""
    size -= 1
    count, pair = counts[size], pairs[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and before(counts[child + 1], pairs[child + 1], counts[child], pairs[child], left, right):
            child += 1
        if not before(counts[child], pairs[child], count, pair, left, right):
            break
        counts[i], pairs[i] = counts[child], pairs[child]
        i = child
    counts[i], pairs[i] = count, pair


@kernel
def learn_merges(text, starts, counts, id_of_byte, first_id, merges):
    """The most frequent pair again and again.

    text: uint8, the distinct chunks one after the other; starts: int64 (chunks + 1,); counts: int64 (chunks,), how often
    each occurs; id_of_byte: int32 (256,); first_id: the smallest id of a byte (new ids follow the 256). Returns int32
    (learned, 3): left id, right id, id of the joined string.

    Every token keeps the place of its first byte. For each place: `symbol`, the token's id; `pair_at`, the number of the
    pair it forms with the token behind it; and, at a token's last byte, `first_byte`, where the token began. A merge then
    touches only the places of its pair and their two neighbours. Pairs that hold the new id are found by their other
    half in two tables, so no pair is ever hashed.
    """
    size, vocabulary = len(text), first_id + 256 + merges
    symbol = np.empty(size, np.int32)
    pair_at = np.empty(size, np.int32)
    first_byte = np.empty(size, np.int32)
    chunk_at = np.empty(size, np.int32)
    length_of = np.ones(vocabulary, np.int32)

    # A pair: left and right id, its count, and the region of `places` that lists where it occurs.
    left, right = np.empty(1 << 16, np.int32), np.empty(1 << 16, np.int32)
    total = np.zeros(1 << 16, np.int64)
    region, listed = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    fresh = np.zeros(1 << 16, np.int64)  # occurrences that the current merge adds
    places = np.empty(size, np.int32)
    pairs, used = 0, 0

    # --- the pairs of single bytes
    of_bytes = np.full((256, 256), -1, np.int32)
    for chunk in range(len(starts) - 1):
        for i in range(starts[chunk], starts[chunk + 1]):
            symbol[i] = id_of_byte[text[i]]
            first_byte[i] = i
            chunk_at[i] = chunk
            pair_at[i] = -1
            if i + 1 < starts[chunk + 1]:
                pair = of_bytes[text[i], text[i + 1]]
                if pair < 0:
                    pair = pairs
                    of_bytes[text[i], text[i + 1]] = pair
                    left[pair], right[pair] = id_of_byte[text[i]], id_of_byte[text[i + 1]]
                    pairs += 1
                pair_at[i] = pair
                total[pair] += counts[chunk]
                listed[pair] += 1
    for pair in range(pairs):
        region[pair] = used
        used += listed[pair]
        listed[pair] = 0
    for i in range(size):
        pair = pair_at[i]
        if pair >= 0:
            places[region[pair] + listed[pair]] = i
            listed[pair] += 1

    heap_counts, heap_pairs = np.empty(1 << 16, np.int64), np.empty(1 << 16, np.int32)
    heap = 0
    for pair in range(pairs):
        heap_push(heap_counts, heap_pairs, heap, total[pair], pair, left, right)
        heap += 1

    # The strings that have an id already, by hash: (where a place holds that string, its id).
    known = np.zeros(1 << 4, np.int64)
    while len(known) < 4 * merges:
        known = np.zeros(2 * len(known), np.int64)
    known_place, known_id = np.empty(len(known), np.int32), np.empty(len(known), np.int32)

    with_left = np.full(vocabulary, -1, np.int32)  # id -> pair (id, new)
    with_right = np.full(vocabulary, -1, np.int32)  # id -> pair (new, id)
    touched = np.empty(1 << 10, np.int32)
    step_pair, step_place = np.empty(1 << 10, np.int32), np.empty(1 << 10, np.int32)
    out = np.empty((merges, 3), np.int32)
    learned, next_id = 0, first_id + 256

    while learned < merges and heap > 0:
        count, best = heap_counts[0], heap_pairs[0]
        heap_pop(heap_counts, heap_pairs, heap, left, right)
        heap -= 1
        if total[best] != count:  # changed since it was pushed
            if total[best] > 0:
                heap_push(heap_counts, heap_pairs, heap, total[best], best, left, right)
                heap += 1
            continue
        if count <= 0:
            continue
        a, b = left[best], right[best]
        length_a, length_b = length_of[a], length_of[b]
        length = length_a + length_b

        # A place that still has the pair shows the joined string.
        where = region[best]
        while pair_at[places[where]] != best:
            where += 1
        shown = places[where]
        key = chunk_key(text, shown, shown + length)
        slot = slot_of(key, len(known) - 1)
        while known[slot] != 0:
            other = known_id[slot]
            if known[slot] == key and length_of[other] == length:
                if same_bytes(text, shown, text, known_place[slot], length):
                    break
            slot = (slot + 1) & (len(known) - 1)
        reused = known[slot] != 0
        if reused:
            new = known_id[slot]
        else:
            new = next_id
            next_id += 1
            known[slot], known_place[slot], known_id[slot] = key, shown, new
            length_of[new] = length
        out[learned, 0], out[learned, 1], out[learned, 2] = a, b, new
        learned += 1

        touches = 0
        if reused:  # rare; its pairs exist already
            for pair in range(pairs):
                if right[pair] == new:
                    with_left[left[pair]] = pair
                elif left[pair] == new:
                    with_right[right[pair]] = pair
        steps = 0
        step_pair, step_place = grown(step_pair, 2 * listed[best]), grown(step_place, 2 * listed[best])
        if a == b and reused_order(places, region[best], listed[best]):
            places[region[best] : region[best] + listed[best]].sort()
        for k in range(region[best], region[best] + listed[best]):
            place = places[k]
            if pair_at[place] != best:
                continue  # one of the two was merged away meanwhile
            chunk = chunk_at[place]
            weight = counts[chunk]
            second = place + length_a
            end = second + length_b
            behind = pair_at[second]
            symbol[place] = new
            first_byte[end - 1] = place
            pair_at[second] = -1
            for side in range(2):
                if side == 0:  # the token before
                    if place == starts[chunk]:
                        continue
                    at = first_byte[place - 1]
                    neighbour = symbol[at]
                    total[pair_at[at]] -= weight
                    pair = with_left[neighbour]
                else:
                    if behind < 0:
                        pair_at[place] = -1
                        continue
                    at = place
                    neighbour = symbol[end]
                    total[behind] -= weight
                    pair = with_left[new] if neighbour == new else with_right[neighbour]
                if pair < 0:
                    pair = pairs
                    pairs += 1
                    if pairs > len(left):
                        left, right, total = grown(left, pairs), grown(right, pairs), grown(total, pairs)
                        region, listed = grown(region, pairs), grown(listed, pairs)
                        larger = np.zeros(len(left), np.int64)
                        larger[: len(fresh)] = fresh
                        fresh = larger
                    total[pair], listed[pair], fresh[pair] = 0, 0, 0
                    if side == 0 or neighbour == new:
                        left[pair], right[pair] = neighbour, new
                        with_left[neighbour] = pair
                    else:
                        left[pair], right[pair] = new, neighbour
                        with_right[neighbour] = pair
                if fresh[pair] == 0:
                    touched = grown(touched, touches + 1)
                    touched[touches] = pair
                    touches += 1
                fresh[pair] += 1
                total[pair] += weight
                pair_at[at] = pair
                step_pair[steps], step_place[steps] = pair, at
                steps += 1
        total[best] = 0

        # List the new occurrences, pair by pair.
        for t in range(touches):
            pair = touched[t]
            places = grown(places, used + listed[pair] + fresh[pair])
            places[used : used + listed[pair]] = places[region[pair] : region[pair] + listed[pair]]
            region[pair] = used
            used += listed[pair] + fresh[pair]
        for s in range(steps):
            pair = step_pair[s]
            places[region[pair] + listed[pair]] = step_place[s]
            listed[pair] += 1
        heap_counts, heap_pairs = grown(heap_counts, heap + touches), grown(heap_pairs, heap + touches)
        for t in range(touches):
            pair = touched[t]
            fresh[pair] = 0
            with_left[left[pair]] = -1
            with_right[right[pair]] = -1
            if total[pair] > 0:
                heap_push(heap_counts, heap_pairs, heap, total[pair], pair, left, right)
                heap += 1
        if reused:
            with_left[:] = -1
            with_right[:] = -1
    return out[:learned]


@kernel
def reused_order(places, start, count):
    """Whether a list of places is out of order, as it can be when a reused id added to it. "aaa" merges left to right."""
    for k in range(start + 1, start + count):
        if places[k] < places[k - 1]:
            return True
    return False


# --- applying merges


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


@inlined
def sift_down(heap, i, size):
    key = heap[i]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key


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
            heap[size] = (rank_at[i] >> 32) << 32 | i
            size += 1
    for i in range(size // 2 - 1, -1, -1):
        sift_down(heap, i, size)
    while size > 0:
        top = heap[0]
        size -= 1
        heap[0] = heap[size]
        sift_down(heap, 0, size)
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
                # Push: 3n places suffice, n - 1 at first and two for each of at most n - 1 merges.
                k = size
                size += 1
                key = (rank_at[x] >> 32) << 32 | x
                while k > 0 and heap[(k - 1) >> 1] > key:
                    heap[k] = heap[(k - 1) >> 1]
                    k = (k - 1) >> 1
                heap[k] = key
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
                if 2 * (entry + 1) > len(slots) or first + length > len(bytes_) or first_id + length > len(ids):
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
