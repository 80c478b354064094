"""Repeated substrings by sorting suffixes. Plain twin: `cairn.tokenizers.unigram_plain.seeds`.

Text is an array of codes 1..A in runs that are ended by 0 (one after the last run too); no substring crosses a 0. Suffixes are
sorted by their first characters only, as many as a piece may have: several characters fit into one 64-bit key, and ranks of
sorted keys double the depth, so two sorts are enough for a Latin text.
"""

import numpy as np

from cairn.kernels.jit import kernel


def suffix_order(codes: np.ndarray, depth: int) -> np.ndarray:
    """Places of all codes but 0, sorted by what stands there, `depth` characters deep; equal ones in any order."""
    places = np.flatnonzero(codes)
    bits = int(codes.max()).bit_length()
    known = 63 // bits  # characters that the key holds
    key = _pack(codes, bits, known)
    while True:
        order = places[np.argsort(key[places])]
        if known >= depth:
            return order
        ranks = _ranks(key, order)
        key = _double(ranks, codes, known)
        known *= 2


@kernel
def _pack(codes, bits, known):
    key = np.zeros(len(codes), np.int64)
    for i in range(len(codes) - 2, -1, -1):
        if codes[i] != 0:
            key[i] = np.int64(codes[i]) << (bits * (known - 1)) | key[i + 1] >> bits
    return key


@kernel
def _ranks(key, order):
    ranks = np.zeros(len(key), np.int32)
    rank = 0
    for i in range(len(order)):
        if i == 0 or key[order[i]] != key[order[i - 1]]:
            rank += 1
        ranks[order[i]] = rank
    return ranks


@kernel
def _double(ranks, codes, known):
    key = np.zeros(len(ranks), np.int64)
    end = len(codes)  # of the run that i is in
    for i in range(len(codes) - 1, -1, -1):
        if codes[i] == 0:
            end = i
        else:
            key[i] = np.int64(ranks[i]) << 32
            if i + known < end:
                key[i] |= np.int64(ranks[i + known])
    return key


@kernel
def common_prefixes(codes, order, depth):
    """lcp[i]: how many characters the suffixes i - 1 and i share, at most `depth`; 0 at both ends."""
    lcp = np.zeros(len(order) + 1, np.uint8)
    for i in range(1, len(order)):
        a, b = order[i - 1], order[i]
        n = 0
        while n < depth and codes[a + n] != 0 and codes[a + n] == codes[b + n]:
            n += 1
        lcp[i] = n
    return lcp


@kernel
def repeats(codes, order, lcp, counts, longest):
    """All substrings of 2 to `longest` characters that occur at least twice and that no character always follows.

    counts: how often the run of each place occurs. Returns rows (first suffix, last suffix + 1, characters, occurrences).
    """
    total = np.zeros(len(order) + 1, np.int64)
    for i in range(len(order)):
        total[i + 1] = total[i] + counts[order[i]]
    rows = np.empty((1024, 4), np.int64)
    size = 0
    lefts = np.empty(longest + 3, np.int64)
    depths = np.empty(longest + 3, np.int64)
    top = 0
    lefts[0], depths[0] = 0, 0
    for i in range(1, len(order) + 1):
        if size + longest + 4 > len(rows):
            rows = np.concatenate((rows, np.empty_like(rows)))
        # A run's end that is found nowhere else is a substring by itself, when the run occurs twice.
        place = order[i - 1]
        n = 0
        while n <= longest and codes[place + n] != 0:
            n += 1
        if 2 <= n <= longest and n > lcp[i - 1] and n > lcp[i] and counts[place] >= 2:
            rows[size] = i - 1, i, n, counts[place]
            size += 1
        left = i - 1
        while lcp[i] < depths[top]:
            left = lefts[top]
            if 2 <= depths[top] <= longest and total[i] - total[left] >= 2:
                rows[size] = left, i, depths[top], total[i] - total[left]
                size += 1
            top -= 1
        if lcp[i] > depths[top]:
            top += 1
            lefts[top], depths[top] = left, lcp[i]
    return rows[:size].copy()


@kernel
def lay_edges(codes, order, rows):
    """Where each substring occurs: for each place, the pieces that begin there, shorter first.

    Pieces 0..A-1 are the single characters; rows (sorted by their characters, as `repeats` gives them) are A, A + 1, ...
    Returns starts (of each place's edges), pieces, lengths.
    """
    starts = np.zeros(len(codes) + 1, np.int64)
    alphabet = 0
    for i in range(len(codes)):
        starts[i + 1] = 1 if codes[i] != 0 else 0
        alphabet = max(alphabet, codes[i])
    for row in range(len(rows)):
        for i in range(rows[row, 0], rows[row, 1]):
            starts[order[i] + 1] += 1
    for i in range(len(codes)):
        starts[i + 1] += starts[i]
    fill = starts[:-1].copy()
    pieces = np.empty(starts[-1], np.int32)
    lengths = np.empty(starts[-1], np.uint8)
    for i in range(len(codes)):
        if codes[i] != 0:
            pieces[fill[i]] = codes[i] - 1
            lengths[fill[i]] = 1
            fill[i] += 1
    for row in range(len(rows)):
        for i in range(rows[row, 0], rows[row, 1]):
            place = order[i]
            pieces[fill[place]] = alphabet + row
            lengths[fill[place]] = rows[row, 2]
            fill[place] += 1
    return starts, pieces, lengths
