"""A Huffman tree over the words: frequent words have short paths from the root, and are learned in few steps.

Each word is a leaf; the way to it is a number of turns, left (0) or right (1), at inner nodes. The hierarchical softmax
learns a vector for every inner node, by which the turn is told. Huffman 1952; Morin and Bengio 2005.
"""

from typing import NamedTuple

import numpy as np


class Paths(NamedTuple):
    """The way from the root to word v: nodes[starts[v]:starts[v + 1]], and the turn taken at each of them."""

    starts: np.ndarray  # int64[V + 1]
    nodes: np.ndarray  # int32, 0 to V - 2
    turns: np.ndarray  # uint8


def huffman_paths(counts: np.ndarray) -> Paths:
    """counts: int64[V], falling, V >= 2. The two rarest trees are joined until one is left.

    As counts fall, the trees to join always stand at the ends of two queues: the words from the last, and the joined
    trees in the order in which they were made. No heap is needed, and V words take V - 1 steps.

    >>> paths = huffman_paths(np.array([5, 2, 1, 1]))
    >>> [paths.turns[a:b].tolist() for a, b in zip(paths.starts, paths.starts[1:])]
    [[1], [0, 0], [0, 1, 1], [0, 1, 0]]
    """
    words = len(counts)
    weight = [*counts.tolist(), *[0] * (words - 1)]
    parent, turn = np.zeros(2 * words - 1, np.int64), np.zeros(2 * words - 1, np.uint8)
    word, joined = words - 1, words  # the ends of the two queues
    for new in range(words, 2 * words - 1):
        pair = []
        for _ in range(2):
            if word >= 0 and (joined == new or weight[word] <= weight[joined]):
                pair.append(word)
                word -= 1
            else:
                pair.append(joined)
                joined += 1
        weight[new] = weight[pair[0]] + weight[pair[1]]
        parent[pair], turn[pair[1]] = new, 1
    return _paths(parent, turn, words)


def _paths(parent: np.ndarray, turn: np.ndarray, words: int) -> Paths:
    """From each leaf upwards, all words at once: as many steps as the tree is deep."""
    root = 2 * words - 2
    at = np.arange(words)
    levels: list[tuple[np.ndarray, np.ndarray]] = []  # (words that are not at the root yet, their place)
    while len(below := np.flatnonzero(at != root)):
        levels.append((below, at[below]))
        at[below] = parent[at[below]]
    lengths = np.zeros(words, np.int64)
    for below, _ in levels:
        lengths[below] += 1
    starts = np.zeros(words + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    nodes, turns = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint8)
    for up, (below, place) in enumerate(levels):
        where = starts[below + 1] - 1 - up
        # The node of the path is the parent, where the turn to `place` was taken; the first inner node is number 0.
        nodes[where], turns[where] = parent[place] - words, turn[place]
    return Paths(starts, nodes, turns)
