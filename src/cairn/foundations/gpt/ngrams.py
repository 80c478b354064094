"""What a model must beat: characters predicted by counting alone.

A unigram model knows how often each character occurs. A bigram model knows that for each character before it:

    p(b | a) = (count(a b) + s) / (count(a) + s V)          V characters in the alphabet

and a trigram model for each two. The s added to every count leaves some probability for pairs never seen; without it the
first unseen pair would cost an infinite loss. The loss of a character is -log p of what really came, in nats; the mean over a
text that was not counted says how well the next character is known. Guessing evenly costs log V.

>>> from cairn.foundations.gpt.text import read_names
>>> corpus = read_names()
>>> for order in (1, 2, 3):
...     model = NGram(corpus.training, len(corpus.alphabet), order)
...     print(order, mean_loss(model.losses(corpus.held_out)))
1 2.794 +- 0.044
2 2.410 +- 0.072
3 2.381 +- 0.111
"""

from dataclasses import dataclass

import numpy as np

GROUP = 64  # neighbouring characters that count as one observation; longer than a name, about a line of prose


class NGram:
    """Counts of `order` characters in a row, smoothed; order 1 is a unigram model.

    Only what occurred is kept, sorted: a text in Chinese has thousands of characters, and a table of all their triples
    would not fit in memory.
    """

    def __init__(self, ids: np.ndarray, symbols: int, order: int, smoothing: float = 0.1):
        if order < 1 or symbols**order >= 2**63:
            raise ValueError(f"order {order} over {symbols} characters: choose 1 or more, but not so many")
        if len(ids) < 2:
            raise ValueError(f"{len(ids)} characters give nothing to count: at least 2 are needed")
        self.symbols, self.order, self.smoothing = symbols, order, smoothing
        context, following = self._pairs(ids)
        self._contexts = np.unique(context, return_counts=True)
        self._sequences = np.unique(context * symbols + following, return_counts=True)

    def p(self, context: np.ndarray, following: np.ndarray) -> np.ndarray:
        """p(following | context), broadcast; a context is a number, its characters written in base `symbols`."""
        sequences = _counted(self._sequences, context * self.symbols + following)
        return (sequences + self.smoothing) / (_counted(self._contexts, context) + self.smoothing * self.symbols)

    def losses(self, ids: np.ndarray) -> np.ndarray:
        """-log p of each character from the second on, (N - 1,), in nats."""
        return -np.log(self.p(*self._pairs(ids)))

    def _pairs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each character from the second on, and the number of the context before it (written in base `symbols`).

        Before the text stand as many first symbols as a context needs.
        """
        padded = np.concatenate([np.zeros(max(self.order - 2, 0), dtype=ids.dtype), ids])
        context = np.zeros(len(ids) - 1, dtype=np.int64)
        for back in range(self.order - 1, 0, -1):
            end = len(padded) - back
            context = context * self.symbols + padded[end - len(context) : end]
        return context, ids[1:]


def _counted(counts: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """How often each was counted: 0 for what never occurred."""
    seen, times = counts
    place = np.searchsorted(seen, wanted).clip(max=len(seen) - 1)
    return np.where(seen[place] == wanted, times[place], 0)


@dataclass(frozen=True)
class Loss:
    """A mean loss in nats a character, with half the width of its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {self.half:.3f}"


def mean_loss(losses_N: np.ndarray) -> Loss:
    """Mean and interval of losses, or of the differences of two models on the same text.

    Characters of one name are not independent, so groups of neighbours are: their means are spread by sigma, and the mean
    of n groups by sigma / sqrt(n). From few groups sigma is known badly, and Student's t is wider than 1.96 for that.
    """
    groups = len(losses_N) // GROUP
    if groups < 3:
        raise ValueError(
            f"{len(losses_N)} held-out characters give no interval, {3 * GROUP} would: a tenth of a text; give more text"
        )
    means = losses_N[: groups * GROUP].reshape(groups, GROUP).mean(axis=1)
    return Loss(float(losses_N.mean()), float(_student(groups - 1) * means.std(ddof=1) / groups**0.5))


def _student(freedom: int, z: float = 1.959964) -> float:
    """The t that 95 % of Student's distribution lie within, by its series in 1 / freedom (Abramowitz & Stegun 26.7.5).

    >>> round(_student(10), 3), round(_student(1000), 3)     # tables say 2.228 and 1.962
    (2.228, 1.962)
    """
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
