"""Several sources in fixed shares: which source a row comes from, for any row of an endless run.

Shares hold within one row at *every* prefix, not on average: a domain of 1 % is seen every hundred rows. Weights are taken as
exact fractions, so the order of sources has a period; it is laid out once, by the rule that keeps all sources within one row
of their due for any number of them (the chairman assignment problem, Tijdeman 1980), and repeated.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from cairn.core.errors import UserError

PERIOD = 10_000  # rows after which the order of sources repeats itself at most: shares are held to a ten thousandth


class Mixture:
    """weights: one a source, in any unit; what counts are their shares of the sum.

    >>> source, index = Mixture([3, 1]).at(np.arange(8))
    >>> source.tolist(), index.tolist()
    ([0, 0, 1, 0, 0, 0, 1, 0], [0, 1, 0, 2, 3, 4, 1, 5])
    """

    def __init__(self, weights: Sequence[float]):
        if not weights or not all(0 <= w < float("inf") for w in weights) or not any(weights):
            raise UserError(f"weights of a mixture must be 0 or more, and one above 0; got {list(weights)}")
        counts = _whole(weights)
        for weight, count in zip(weights, counts):
            if weight and not count:
                raise UserError(
                    f"the weight {weight} of a mixture is less than one row in {PERIOD:,}: leave it out or raise it"
                )
        self.counts_S = np.array(counts, dtype=np.int64)
        self.order_P = _lay_out(counts)
        # How many rows of the same source come before each place of the period.
        self._before_P = np.zeros(len(self.order_P), dtype=np.int64)
        for source in range(len(counts)):
            places = np.flatnonzero(self.order_P == source)
            self._before_P[places] = np.arange(len(places))

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For rows `numbers` (N,) of a run: the source of each (N,), and the how many-eth row of that source it is (N,)."""
        period, place = np.divmod(numbers, len(self.order_P))
        source = self.order_P[place]
        return source, period * self.counts_S[source] + self._before_P[place]


def _whole(weights: Sequence[float]) -> list[int]:
    """The weights as whole numbers of at most PERIOD together: exactly where they are short fractions (0.7 and 0.3 are 7 and
    3, three thirds 1 each), else by largest remainders."""
    exact = [Fraction(w).limit_denominator(1000) for w in weights]
    scale = lcm(*(w.denominator for w in exact))
    counts = [int(w * scale) for w in exact]
    near = all(abs(short - Fraction(given)) <= Fraction(given) / 10**6 for short, given in zip(exact, weights))
    if near and sum(counts) // gcd(*counts) <= PERIOD:
        return [n // gcd(*counts) for n in counts]
    dues = [Fraction(w) * PERIOD / sum(map(Fraction, weights)) for w in weights]
    counts = [int(due) for due in dues]
    by_remainder = sorted(range(len(dues)), key=lambda s: (counts[s] - dues[s], s))
    for source in by_remainder[: PERIOD - sum(counts)]:
        counts[source] += 1
    return [n // gcd(*counts) for n in counts]


def _lay_out(counts: Sequence[int]) -> np.ndarray:
    """Each source s counts[s] times, in an order whose every prefix of n rows holds it n counts[s] / total times, less or
    more by at most 1 - 1 / (2k - 2) for k sources. In whole numbers: all is multiplied by the total and by 2k - 2."""
    used = [s for s, count in enumerate(counts) if count]
    if len(used) == 1:
        return np.full(counts[used[0]], used[0], dtype=np.int64)
    total, room = sum(counts), 2 * len(used) - 2
    given = dict.fromkeys(used, 0)
    order = np.empty(total, dtype=np.int64)
    for n in range(1, total + 1):
        # Due: behind enough to take a row without running ahead. Of those, the one that will first be too far behind.
        due = {s: n * counts[s] - given[s] * total for s in used}
        ready = [s for s in used if room * due[s] >= total]
        chosen = min(ready, key=lambda s: (Fraction((room - 1) * total - room * due[s], counts[s]), s))
        given[chosen] += 1
        order[n - 1] = chosen
    return order


def parse_mixture(text: str) -> list[tuple[str, float]]:
    """Folders and weights of "runs/a=0.7,runs/b=0.3"; a weight that is not given is 1.

    >>> parse_mixture("runs/a=0.7, runs/b")
    [('runs/a', 0.7), ('runs/b', 1.0)]
    """
    parts = []
    for part in text.split(","):
        folder, said, weight = part.strip().partition("=")
        try:
            number = float(weight) if said else 1.0
        except ValueError:
            number = -1.0
        if not folder or not 0 < number < float("inf"):
            raise UserError(
                f"{part.strip()!r} is no part of a mixture: write FOLDER=WEIGHT, as in runs/a=0.7,runs/b=0.3"
            )
        parts.append((folder, number))
    if len({folder for folder, _ in parts}) < len(parts):
        raise UserError(f"the mixture {text!r} names a folder twice; give it the sum of the weights")
    return parts
