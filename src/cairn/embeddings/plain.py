"""How word2vec and fastText learn, written to be read: the twin of the fast kernel, which is tested equal to it.

A word v is a bag of rows of the input matrix: its own row, and in fastText those of its n-grams. The mean of the bag is the
hidden vector h. A target t has a row o_t of the output matrix and should be told 1 or 0; it is told s(h . o_t), with the
logistic function s. The loss of a step is -sum log s(h . o_t) over the targets of label 1 and -sum log s(-h . o_t) over the
others, and its gradients are

    d/do_t = (s(h . o_t) - label) h        d/dh = sum over t of (s(h . o_t) - label) o_t

Each o_t moves against its own, one target after another. Every row of the bag moves by all of d/dh: the gradient of a row
is d/dh divided by the size of the bag, and the step that word2vec.c and fastText take is as many times larger.

Names carry shapes: D dimensions, R rows of inputs, O rows of outputs, V words.
"""

import math
from typing import NamedTuple

import numpy as np

from cairn.embeddings.huffman import Paths
from cairn.embeddings.sampling import ALWAYS, Alias

LIMIT = 6.0  # where |h . o_t| is as large, gensim's word2vec leaves a target alone; fastText takes s for 0 or 1


class Bags(NamedTuple):
    """The rows of word v: rows[starts[v]:starts[v + 1]]; one may be there twice.

    gain[v]: what the mean gains when each row in turn gains 1: the sum of squared multiplicities over the bag's size, so
    1 for a bag of different rows.
    """

    starts: np.ndarray  # int64[V + 1]
    rows: np.ndarray  # int32
    gain: np.ndarray  # float32[V]

    @classmethod
    def of_words(cls, words: int) -> "Bags":
        """word2vec: a row a word."""
        return cls(np.arange(words + 1), np.arange(words, dtype=np.int32), np.ones(words, np.float32))


class Targets(NamedTuple):
    """What a word is told apart by: itself (1) and `negative` drawn words (0), or with negative 0 the turns on its path
    in a Huffman tree (1 where it goes left). `most`: targets of a word at most. The arrays are those of Alias and Paths."""

    negative: int
    most: int
    threshold: np.ndarray
    other: np.ndarray
    starts: np.ndarray
    nodes: np.ndarray
    turns: np.ndarray

    @classmethod
    def drawn(cls, noise: Alias, negative: int) -> "Targets":
        return cls(negative, negative + 1, *noise, np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))

    @classmethod
    def turned(cls, paths: Paths) -> "Targets":
        empty = np.zeros(0, np.uint32)
        return cls(0, int(np.diff(paths.starts).max()), empty, empty, *paths)


class Random:
    """SplitMix64 (Steele et al. 2014): 64 bits a call, the same in any language."""

    def __init__(self, seed: int):
        self.state = seed

    def bits(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = (self.state ^ self.state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31


def below(bits: int, n: int) -> int:
    """A number from 0 to n - 1: the upper 32 bits, scaled.

    >>> below(2**63, 10), below(2**64 - 1, 10)
    (5, 9)
    """
    return (bits >> 32) * n >> 32


def choose(word: int, targets: Targets, random: Random) -> list[tuple[int, int]]:
    """(row of the output matrix, label) of each target of a word. A drawn word that is the word itself is left out."""
    if not targets.negative:
        path = slice(targets.starts[word], targets.starts[word + 1])
        return [(int(node), 1 - int(turn)) for node, turn in zip(targets.nodes[path], targets.turns[path])]
    chosen = [(word, 1)]
    for _ in range(targets.negative):
        bits = random.bits()
        urn = below(bits, len(targets.threshold))
        drawn = urn if bits % 2**32 < targets.threshold[urn] else int(targets.other[urn])
        if drawn != word:
            chosen.append((drawn, 0))
    return chosen


def told(score: float, saturate: bool) -> float | None:
    """s(score), or None for a target that is left alone."""
    if -LIMIT < score < LIMIT:
        return 1 / (1 + math.exp(-score))
    return float(score > 0) if saturate else None


def step(
    bag: list[int],
    chosen: list[tuple[int, int]],
    inputs_RD: np.ndarray,
    outputs_OD: np.ndarray,
    rate: float,
    saturate: bool = False,
) -> None:
    """One step: the mean of the rows in `bag` is brought nearer to what each target should be told. In place."""
    hidden_D = inputs_RD[bag].mean(0)
    change_D = np.zeros_like(hidden_D)
    for row, label in chosen:
        probability = told(float(hidden_D @ outputs_OD[row]), saturate)
        if probability is not None:
            move = rate * (label - probability)
            change_D += move * outputs_OD[row]
            outputs_OD[row] += move * hidden_D
    for row in bag:  # a row that is there twice moves twice
        inputs_RD[row] += change_D


def train_chunk(
    numbers: np.ndarray,
    rows: np.ndarray,
    keep: np.ndarray,
    bags: Bags,
    targets: Targets,
    inputs_RD: np.ndarray,
    outputs_OD: np.ndarray,
    skipgram: bool,
    saturate: bool,
    window: int,
    rate: float,
    seed: int,
) -> int:
    """Train on sentences: numbers of words, -1 after each sentence; rows[number] is the word, or -1 where it is ignored.

    Words are left out by `keep` (see `sampling.thresholds`) before neighbours are looked for, so the window reaches
    further over frequent words. The matrices change in place; returns the words trained on.
    """
    random = Random(seed)
    sentence: list[int] = []
    trained = 0

    def bag(word: int) -> list[int]:
        return bags.rows[bags.starts[word] : bags.starts[word + 1]].tolist()

    for number in [*numbers.tolist(), -1]:
        if number >= 0:
            word = int(rows[number])
            if word >= 0 and (keep[word] == ALWAYS or random.bits() >> 32 <= keep[word]):
                sentence.append(word)
            continue
        for i, word in enumerate(sentence):
            reach = window - below(random.bits(), window)
            neighbours = sentence[max(i - reach, 0) : i] + sentence[i + 1 : i + reach + 1]
            if skipgram:
                for chosen in [choose(neighbour, targets, random) for neighbour in neighbours]:
                    step(bag(word), chosen, inputs_RD, outputs_OD, rate, saturate)
            elif neighbours:
                together = [row for neighbour in neighbours for row in bag(neighbour)]
                step(together, choose(word, targets, random), inputs_RD, outputs_OD, rate, saturate)
        trained += len(sentence)
        sentence = []
    return trained
