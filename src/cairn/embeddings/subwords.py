"""The n-grams of a word and the buckets they fall into, as fastText does it: other programs' matrices can be read.

The Cyrillic "word" below has n-grams of letters, not of bytes, but the hash runs over their UTF-8 bytes.
"""

from collections.abc import Sequence

import numpy as np

from cairn.embeddings.plain import Bags
from cairn.embeddings.vectors import is_text


def ngrams(word: str, min_n: int, max_n: int) -> list[str]:
    """All runs of min_n to max_n characters of the word between < and >; a lone < or > is none.

    >>> ngrams("мир", 3, 4)
    ['<ми', '<мир', 'мир', 'мир>', 'ир>']
    """
    marked = f"<{word}>"
    found = []
    for start in range(len(marked)):
        for size in range(min_n, min(max_n, len(marked) - start) + 1):
            if size > 1 or marked[start] not in "<>" or 0 < start < len(marked) - 1:
                found.append(marked[start : start + size])
    return found


def bucket(ngram: str, buckets: int) -> int:
    """FNV-1a of the UTF-8 bytes in 32 bits, modulo the buckets.

    A byte above 127 is taken as a negative number before it enters, as `char` is on most machines: the first fastText did
    so, and its files keep it.

    >>> bucket("<wh", 2_000_000), bucket("мир", 2_000_000)
    (167652, 743496)
    """
    state = 2166136261
    for byte in ngram.encode("utf-8"):
        state = (state ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619 % 2**32
    return state % buckets


def buckets_of(word: str, min_n: int, max_n: int, buckets: int) -> list[int]:
    """The bucket of each n-gram; one that is there twice counts twice. None for half of a surrogate pair, which is no text.

    >>> len(buckets_of("stone", 3, 6, 1000)), buckets_of(chr(0xDCFF), 3, 6, 1000)
    (14, [])
    """
    if not is_text(word):
        return []
    return [bucket(ngram, buckets) for ngram in ngrams(word, min_n, max_n)]


def subword_bags(words: Sequence[str], min_n: int, max_n: int, buckets: int) -> Bags:
    """For each word its own row v, and V + bucket for each of its n-grams, in one compiled pass."""
    from cairn.kernels.subwords import fill_bags, ngram_counts

    encoded = [f"<{word}>".encode() for word in words]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    starts = np.zeros(len(words) + 1, np.int64)
    ngram_counts(data, ends, min_n, max_n, starts[1:])
    starts[1:] += 1  # the word's own row
    np.cumsum(starts, out=starts)
    bags = Bags(starts, np.empty(starts[-1], np.int32), np.empty(len(words), np.float32))
    fill_bags(data, ends, min_n, max_n, buckets, *bags)
    return bags
