"""What word2vec and fastText share: reading the text into a spool, and the epochs over it.

Workers are threads on one pair of matrices without locks. What a chunk draws at random follows from the seed and the
chunk's place, not from the worker: with one worker the result is the same bit for bit, and with several it differs only
by the order in which their steps meet in a row.
"""

import time
from dataclasses import dataclass

import numpy as np

from cairn.core.batching import in_threads
from cairn.core.progress import Display
from cairn.corpus import Quarantine
from cairn.embeddings.config import FastTextConfig, Word2VecConfig
from cairn.embeddings.huffman import huffman_paths
from cairn.embeddings.plain import Bags, Targets
from cairn.embeddings.reading import read_words
from cairn.embeddings.sampling import alias_table, keep_probability, noise_probability, thresholds
from cairn.embeddings.spool import Spool
from cairn.embeddings.stream import Source
from cairn.embeddings.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prepared:
    """What the epochs need beside the matrices. rows: int32, the word's row for each number in the spool, or -1."""

    vocabulary: Vocabulary
    rows: np.ndarray
    keep: np.ndarray  # see `sampling.thresholds`
    targets: Targets


def prepare(source: Source, config: Word2VecConfig, spool: Spool, quarantine: Quarantine | None) -> Prepared:
    """The only pass over the source, and what follows from its words alone. Errors are those of `read_words`."""
    read = read_words(source, config.text, config.min_count, config.max_distinct, spool, quarantine)
    keep = thresholds(keep_probability(read.vocabulary.counts, config.sample))
    return Prepared(read.vocabulary, read.rows, keep, targets_of(read.vocabulary, config))


def targets_of(vocabulary: Vocabulary, config: Word2VecConfig) -> Targets:
    if config.loss == "hierarchical-softmax":
        return Targets.turned(huffman_paths(vocabulary.counts))
    noise = alias_table(noise_probability(vocabulary.counts, config.noise_power))
    return Targets.drawn(noise, config.negative)


def initial(rows: int, dim: int, reach: float, seed: int) -> np.ndarray:
    """float32[rows, dim], even between -reach and reach."""
    matrix_RD = np.random.default_rng(seed).random((rows, dim), np.float32)
    matrix_RD -= np.float32(0.5)
    matrix_RD *= np.float32(2 * reach)
    return matrix_RD


def train(spool: Spool, prepared: Prepared, bags: Bags, inputs_RD: np.ndarray, config: Word2VecConfig) -> np.ndarray:
    """All epochs. inputs_RD changes in place; returns the output matrix [O, D], a row a word or a node of the tree."""
    from cairn.kernels.word2vec import train_chunk

    outputs_OD = np.zeros((len(prepared.vocabulary), config.dim), np.float32)
    saturate = isinstance(config, FastTextConfig)  # see `plain.LIMIT`
    total = config.epochs * spool.words

    def work(job: tuple[int, int]) -> tuple[int, float]:
        epoch, number = job
        chunk = spool.chunks[number]
        done = epoch * spool.words + chunk.before
        rate = config.rate + (config.final_rate - config.rate) * done / total
        seed = np.random.SeedSequence([config.seed, epoch, number]).generate_state(1, np.uint64)[0]
        train_chunk(
            *(spool.read(chunk), prepared.rows, prepared.keep, bags, prepared.targets, inputs_RD, outputs_OD),
            *(config.model == "skipgram", saturate, config.window, np.float32(rate), seed),
        )
        return done, rate

    jobs = ((epoch, number) for epoch in range(config.epochs) for number in range(len(spool.chunks)))
    start = time.monotonic()
    with Display(config.model, total, "words") as display:
        for done, rate in in_threads(work, jobs, config.workers):
            speed = done / max(time.monotonic() - start, 1e-3)
            display.update(done, f"rate {rate:.4f}  {speed:,.0f} words/s")
        display.update(total)
    return outputs_OD
