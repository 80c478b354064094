"""Learning the merges of byte pair encoding. Plain twin: `cairn.tokenizers.bpe.train_reference`."""

from typing import Any

import numpy as np

from cairn.kernels.chunks import chunk_key, same_bytes, slot_of
from cairn.kernels.jit import inlined, kernel


@kernel
def grown(array, size) -> Any:
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
