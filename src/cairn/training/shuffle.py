"""A random order of n things that is never written down: each place is computed when it is asked for.

An array of a permutation of 10^9 rows would take 8 GB in every process. A Feistel network is a bijection of 4^h numbers that
looks random and needs no memory (Luby and Rackoff 1988); numbers outside the n are sent through it again until they fall
inside (cycle walking, Black and Rogaway 2002), fewer than four times on average.
"""

import numpy as np

ROUNDS = 8  # four are enough for large n; in the smallest domains more are needed to reach all permutations evenly


def mix(*parts: int | np.ndarray) -> np.ndarray:
    """Whole numbers (broadcast together) to 64 bits that look random: SplitMix64 (Steele et al. 2014), part by part."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in parts:
            state = state ^ np.asarray(part).astype(np.uint64)
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state)


def shuffled(places: np.ndarray, size: int, key: int | np.ndarray) -> np.ndarray:
    """What stands at `places` (N,) of the permutation of range(size) that `key` (a number, or one a place) names: (N,).

    >>> sorted(shuffled(np.arange(10), 10, 7).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    assert size >= 1
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    keys_RN = mix(np.asarray(key), np.arange(ROUNDS)[:, None])  # of each round, and each place unless all have one
    keys_RN = np.broadcast_to(keys_RN, (ROUNDS, len(places)))
    out = _network(places.astype(np.uint64), keys_RN, half)
    outside = np.flatnonzero(out >= size)
    while len(outside):
        out[outside] = _network(out[outside], keys_RN[:, outside], half)
        outside = outside[out[outside] >= size]
    return out.astype(np.int64)


def _network(x_N: np.ndarray, keys_RN: np.ndarray, half: np.uint64) -> np.ndarray:
    """(left, right) -> (right, left ^ hash(right)), again and again; each side has `half` bits, the highest of a product."""
    low, spare = (np.uint64(1) << half) - np.uint64(1), np.uint64(64) - half
    left, right = x_N >> half, x_N & low
    for keys_N in keys_RN:
        hashed = (right + keys_N) * np.uint64(0xBF58476D1CE4E5B9)
        hashed = (hashed ^ (hashed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB) >> spare
        left, right = right, left ^ hashed
    return left << half | right
