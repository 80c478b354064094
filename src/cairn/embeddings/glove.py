"""GloVe: vectors whose products tell how often words stand near each other.

    vectors = train_glove("wiki.txt", GloveConfig(dim=100, workers=2))

Pennington, Socher & Manning 2014, "GloVe: Global vectors for word representation". For every pair of words that was seen
together X times (weighted by 1 / distance), w . c + b_w + b_c should be log X, where w is the vector of the one as a word
and c that of the other as company; rare pairs, which are mostly luck, weigh less. A word's vector is w + c in the end.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cairn.core.batching import in_threads
from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.core.progress import Display, say
from cairn.corpus import Quarantine
from cairn.embeddings.config import VectorConfig
from cairn.embeddings.cooccurrence import PairCounter, Pairs
from cairn.embeddings.reading import Reading, read_words
from cairn.embeddings.shuffled import Shuffled
from cairn.embeddings.spool import Spool
from cairn.embeddings.stream import Source
from cairn.embeddings.training import initial
from cairn.embeddings.vectors import WordVectors

PIECE = 1 << 17  # pairs that a worker takes at a time
# Of the pairs of a word, together and on average, and of one pair: below both, the text is too small for x_max. Measured
# on 214,000 words (WikiText-2 valid): at x_max 100 they weigh 3 to 5 and 0.02, and nothing was learned; at 10, which did
# better, 17 to 27 and 0.1.
LITTLE, LITTLE_EACH = 10.0, 0.1
BUCKET_BYTES = 64  # of a pair in memory: read, put in order, with target and weight


@dataclass(frozen=True)
class GloveConfig(VectorConfig):
    """The defaults are those of the authors' program, but for dim (50 there)."""

    window: int = option(15, "words on each side that count as near", minimum=1)
    x_max: float = option(100.0, "counts from which on pairs weigh the same", minimum=1e-6)
    alpha: float = option(0.75, "rarer pairs weigh (count / x_max) to this power", minimum=0.0)
    epochs: int = option(25, "passes over all pairs", minimum=1)
    rate: float = option(0.05, "learning rate of AdaGrad", minimum=0.0)
    memory: int = option(
        1024, "MiB for counting and shuffling pairs; what does not fit goes through the disk", minimum=1
    )


class Parameters(NamedTuple):
    """w_VD, c_VD: vectors of words as words and as company; their biases; all float32, or float64 in tests."""

    w_VD: np.ndarray
    c_VD: np.ndarray
    w_bias_V: np.ndarray
    c_bias_V: np.ndarray

    @classmethod
    def initial(cls, size: int, dim: int, seed: int) -> "Parameters":
        """All even between -0.5 / dim and 0.5 / dim, biases too."""
        rows_RD = initial(2 * size, dim + 1, 0.5 / dim, seed)
        w_VD, c_VD = rows_RD[:size], rows_RD[size:]
        return cls(*(np.ascontiguousarray(part) for part in (w_VD[:, :-1], c_VD[:, :-1], w_VD[:, -1], c_VD[:, -1])))


def weights(x_N: np.ndarray, x_max: float, alpha: float) -> np.ndarray:
    """f(x) = min(1, (x / x_max)^alpha).

    >>> weights(np.array([100.0, 400.0, 1.0]), 100.0, 0.5).tolist()
    [1.0, 1.0, 0.1]
    """
    return np.minimum(1.0, (x_N / x_max) ** alpha)


def loss_and_gradients(
    i_N: np.ndarray, j_N: np.ndarray, target_N: np.ndarray, weight_N: np.ndarray, parameters: Parameters
) -> tuple[float, Parameters]:
    """J = sum of weight / 2 (w_i . c_j + b_i + b_j - target)^2, where target is log x; and its gradient.

    dJ / dw_i = weight (..) c_j, dJ / dc_j = weight (..) w_i, dJ / db = weight (..), added up over the pairs of a word.
    """
    w_VD, c_VD, w_bias_V, c_bias_V = parameters
    error_N = np.einsum("nd,nd->n", w_VD[i_N], c_VD[j_N]) + w_bias_V[i_N] + c_bias_V[j_N] - target_N
    slope_N = weight_N * error_N
    gradients = Parameters(*map(np.zeros_like, parameters))
    np.add.at(gradients.w_VD, i_N, slope_N[:, None] * c_VD[j_N])
    np.add.at(gradients.c_VD, j_N, slope_N[:, None] * w_VD[i_N])
    np.add.at(gradients.w_bias_V, i_N, slope_N)
    np.add.at(gradients.c_bias_V, j_N, slope_N)
    return float(0.5 * (slope_N * error_N).sum()), gradients


def plain_epoch(
    i_N: np.ndarray,
    j_N: np.ndarray,
    target_N: np.ndarray,
    weight_N: np.ndarray,
    rate: float,
    parameters: Parameters,
    sums: Parameters,
) -> float:
    """What the kernel `train_pairs` does, said plainly: AdaGrad pair by pair. Returns the summed loss.

    The sums begin at 1 and take up gradients times `rate`, as in the authors' program: that is AdaGrad at a rate of 1 from
    sums of 1 / rate^2 (the same as `torch.optim.Adagrad(lr=1, initial_accumulator_value=1 / rate**2)`), which begins with
    steps of `rate` times the gradient and slows down only once gradients have added up to that.
    """
    total = 0.0
    for n in range(len(i_N)):
        one = slice(n, n + 1)
        loss, gradients = loss_and_gradients(i_N[one], j_N[one], target_N[one], weight_N[one], parameters)
        total += loss
        for value, gradient, squares, row in zip(parameters, gradients, sums, (i_N[n], j_N[n], i_N[n], j_N[n])):
            step = rate * gradient[row]
            squares[row] += step * step
            value[row] -= step / np.sqrt(squares[row])
    return total


def train_glove(source: Source, config: GloveConfig | None = None, quarantine: Quarantine | None = None) -> WordVectors:
    """Train on a file, a folder, a corpus directory, or an iterable of texts (strings) and sentences (lists of words).

    The source is read once and may be larger than memory: what grows is the vocabulary, 4 x dim x 4 bytes a word, and
    temporary files of 4 bytes a word of text and 12 to 28 a pair. Raises UserError for a source without enough words.

    >>> stones = [["cairn", "marks", "trail"], ["stone", "marks", "trail"]] * 20
    >>> vectors = train_glove(stones, GloveConfig(dim=8, min_count=1, memory=1))
    >>> vectors.words, vectors.vector("cairn").shape
    (['marks', 'trail', 'cairn', 'stone'], (8,))
    """
    config = config or GloveConfig()
    rng = np.random.default_rng(config.seed)
    with Shuffled(config.memory * 2**20 // 2 // BUCKET_BYTES, rng) as store:
        with Spool() as spool:
            reading = read_words(source, config.text, config.min_count, config.max_distinct, spool, quarantine)
            weight = count_pairs(spool, reading, config, store)
        vocabulary = reading.vocabulary
        if weight < LITTLE * len(vocabulary) and weight < LITTLE_EACH * len(store):
            say(
                f"glove: little text for x_max {config.x_max:g}: a pair weighs {weight / len(store):.2g} on average, and the "
                f"vectors may tell nothing; try a smaller one (--x-max {config.x_max / 10:g})"
            )
        parameters = Parameters.initial(len(vocabulary), config.dim, config.seed)
        losses = fit(store, parameters, config)
        say(f"glove: {len(store):,} pairs; mean loss {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")
    return WordVectors(vocabulary.words, parameters.w_VD + parameters.c_VD, vocabulary.counts)


def count_pairs(spool: Spool, reading: Reading, config: GloveConfig, store: Shuffled) -> float:
    """Count the pairs of the whole text, and put them in `store`. Returns what all of them weigh together."""
    weight = 0.0

    def weighed(parts: Iterator[Pairs]) -> Iterator[Pairs]:
        nonlocal weight
        for pairs in parts:
            weight += float(weights(pairs.x_N, config.x_max, config.alpha).sum(dtype=np.float64))
            yield pairs

    memory = config.memory * 2**20 // 2
    with PairCounter(len(reading.vocabulary), reading.rows, config.window, memory) as counter:
        with Display("pairs", spool.words, "words") as display:
            for chunk in spool.chunks:
                counter.add(spool.read(chunk))
                display.update(chunk.before)
            display.update(spool.words)
        store.fill(counter.most(), weighed(counter.pairs()))
    if not len(store):
        raise UserError("no two words stand near each other: a sentence must have two words of the vocabulary")
    return weight


def fit(store: Shuffled, parameters: Parameters, config: GloveConfig) -> list[float]:
    """All epochs over the pairs; the parameters change in place. Returns the mean loss of a pair in each epoch."""
    from cairn.kernels.glove import train_pairs

    sums = Parameters(*map(np.ones_like, parameters))

    def jobs() -> Iterator[tuple[int, Pairs]]:
        for epoch in range(config.epochs):
            for pairs in store.shuffled():
                for start in range(0, len(pairs.x_N), PIECE):
                    yield epoch, Pairs(*(part[start : start + PIECE] for part in pairs))

    def work(job: tuple[int, Pairs]) -> tuple[int, int, float]:
        epoch, (i_N, j_N, x_N) = job
        weight_N = weights(x_N, config.x_max, config.alpha).astype(np.float32)
        loss = train_pairs(i_N, j_N, np.log(x_N), weight_N, np.float32(config.rate), *parameters, sums)
        return epoch, len(x_N), loss

    losses = [0.0] * config.epochs
    done, total, start = 0, config.epochs * len(store), time.monotonic()
    with Display("glove", total, "pairs") as display:
        for epoch, pairs, loss in in_threads(work, jobs(), config.workers):
            if not math.isfinite(loss):
                raise UserError(f"the vectors grew beyond all bounds at the rate {config.rate:g}: give a smaller one")
            losses[epoch] += loss / len(store)
            done += pairs
            display.update(done, f"epoch {epoch + 1}  {done / max(time.monotonic() - start, 1e-3):,.0f} pairs/s")
    return losses
