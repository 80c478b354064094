"""The n-grams of many words, hashed into buckets in one call. Twin: `cairn.embeddings.subwords`."""

import numpy as np

from cairn.kernels.jit import inlined, kernel


@inlined
def _begins(byte):
    """Whether a character of UTF-8 begins here."""
    return byte & 0xC0 != 0x80


@kernel
def ngram_counts(data, ends, min_n, max_n, counts):
    """counts[v]: n-grams of word v, whose UTF-8, marks included, ends at ends[v] in data (uint8)."""
    start = 0
    for v in range(len(ends)):
        characters = 0
        for i in range(start, ends[v]):
            if _begins(data[i]):
                characters += 1
        total = 0
        for size in range(min_n, min(max_n, characters) + 1):
            total += characters - size + 1
        counts[v] = total - (2 if min_n == 1 else 0)  # the two marks alone
        start = ends[v]


@kernel
def fill_bags(data, ends, min_n, max_n, buckets, starts, rows, gain):
    """Row v and those of the n-grams' buckets, which follow the rows of all words. See `cairn.embeddings.plain.Bags`."""
    start = 0
    for v in range(len(ends)):
        end = ends[v]
        at = starts[v]
        rows[at] = v
        at += 1
        for i in range(start, end):
            if not _begins(data[i]):
                continue
            state = np.uint32(2166136261)
            size, j = 0, i
            while j < end and size < max_n:
                while True:  # one character
                    state = np.uint32((state ^ np.uint32(np.int8(data[j]))) * np.uint32(16777619))
                    j += 1
                    if j == end or _begins(data[j]):
                        break
                size += 1
                if size >= min_n and not (size == 1 and (i == start or j == end)):
                    rows[at] = len(ends) + np.int64(state) % buckets
                    at += 1
        # The sum of squared multiplicities: sorted, for a word may be as long as a text without spaces.
        ordered = np.sort(rows[starts[v] : at])
        equal, first = 0, 0
        for k in range(1, len(ordered) + 1):
            if k == len(ordered) or ordered[k] != ordered[first]:
                equal += (k - first) * (k - first)
                first = k
        gain[v] = equal / len(ordered)
        start = end
