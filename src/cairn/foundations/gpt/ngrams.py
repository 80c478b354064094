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
1 2.794 +- 0.039
2 2.410 +- 0.063
3 2.381 +- 0.097
"""

from dataclasses import dataclass

import numpy as np

GROUP = 64  # neighbouring characters that count as one observation; longer than a name, about a line of prose


class NGram:
    """Counts of `order` characters in a row, smoothed; order 1 is a unigram model."""

    def __init__(self, ids: np.ndarray, symbols: int, order: int, smoothing: float = 0.1):
        if order < 1 or symbols**order > 10**8:
            raise ValueError(
                f"order {order} over {symbols} characters: choose at least 1, and a table that fits in memory"
            )
        self.symbols, self.order = symbols, order
        counts_CV = np.zeros((symbols ** (order - 1), symbols))
        context, following = self._pairs(ids)
        np.add.at(counts_CV, (context, following), 1)
        counts_CV += smoothing
        self.p_CV = counts_CV / counts_CV.sum(axis=1, keepdims=True)

    def losses(self, ids: np.ndarray) -> np.ndarray:
        """-log p of each character from the second on, (N - 1,), in nats."""
        context, following = self._pairs(ids)
        return -np.log(self.p_CV[context, following])

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
    of n groups by sigma / sqrt(n).
    """
    groups = len(losses_N) // GROUP
    if groups < 2:
        raise ValueError(f"{len(losses_N)} characters give no interval: at least {2 * GROUP} are needed")
    means = losses_N[: groups * GROUP].reshape(groups, GROUP).mean(axis=1)
    return Loss(float(losses_N.mean()), float(1.96 * means.std(ddof=1) / groups**0.5))
