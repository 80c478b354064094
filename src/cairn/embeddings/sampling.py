"""What is drawn at random: which words are left out, which serve as noise.

V: words of the vocabulary. All thresholds are for numbers of 32 random bits.
"""

from typing import NamedTuple

import numpy as np

ALWAYS = np.uint32(0xFFFFFFFF)


def keep_probability(counts: np.ndarray, sample: float) -> np.ndarray:
    """float64[V]: how often an occurrence of each word is kept. Frequent words say little and are left out often.

    With f the word's share of the text and t = sample: (sqrt(f / t) + 1) t / f, at most 1. That is word2vec.c's rule; the
    paper's is 1 - sqrt(t / f) dropped. sample 0 keeps everything.

    >>> keep_probability(np.array([900, 99, 1]), 0.01).round(3).tolist()
    [0.117, 0.419, 1.0]
    """
    if not sample:
        return np.ones(len(counts))
    ratio = counts / (sample * counts.sum())
    return np.minimum((np.sqrt(ratio) + 1) / ratio, 1.0)


def thresholds(probability: np.ndarray) -> np.ndarray:
    """uint32[V]: 32 random bits are at most this number with the given probability."""
    return (probability * int(ALWAYS)).astype(np.uint32)


def noise_probability(counts: np.ndarray, power: float) -> np.ndarray:
    """float64[V], sum 1: counts to a power. 0.75 lies between the text's own distribution (1) and a flat one (0)."""
    weights = counts.astype(np.float64) ** power
    return weights / weights.sum()


class Alias(NamedTuple):
    """Draw v evenly from V; if other 32 random bits are below threshold[v] it is v, else other[v]."""

    threshold: np.ndarray  # uint32[V]
    other: np.ndarray  # uint32[V]

    def probability(self) -> np.ndarray:
        """float64[V]: how often each is drawn."""
        own = self.threshold / 2**32
        drawn = own.copy()
        np.add.at(drawn, self.other, 1 - own)
        return drawn / len(own)


def alias_table(probability: np.ndarray) -> Alias:
    """Walker's alias method (Vose 1991): V urns of equal size, each filled by one word and topped up by one other.

    One look replaces a binary search: drawing took longer than the arithmetic on what was drawn.

    >>> alias_table(np.array([0.5, 0.25, 0.25])).probability().round(6).tolist()
    [0.5, 0.25, 0.25]
    """
    size = len(probability)
    left = (probability * size).tolist()
    own, other = [1.0] * size, list(range(size))
    small = [v for v in range(size) if left[v] < 1]
    large = [v for v in range(size) if left[v] >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        own[poor], other[poor] = left[poor], rich
        left[rich] -= 1 - left[poor]
        if left[rich] < 1:
            small.append(large.pop())
    # What is left over differs from 1 by rounding alone; an urn that is all its own names itself as the other.
    threshold = np.minimum(np.round(np.array(own) * 2**32), int(ALWAYS)).astype(np.uint32)
    return Alias(threshold, np.array(other, np.uint32))
