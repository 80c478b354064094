"""Entropy: how much one learns, on average, when one is told what happened.

An outcome of probability p carries -ln p: what is certain says nothing, what is rare says much, and independent outcomes add up.
The average is the entropy H(p) = -sum p ln p. Told in a code made for another distribution q it takes the cross-entropy,
H(p, q) = -sum p ln q, which is never less, and is the loss that language models are trained with. Its exponential is the
perplexity: among how many equally likely outcomes one would be as unsure.

In nats (ln) or in bits (log2). What never happens adds nothing (p ln p -> 0); what q holds for impossible and p does not costs
infinitely much.

>>> float(entropy([0.5, 0.25, 0.25], unit="bits"))
1.5
>>> round(float(cross_entropy([0.5, 0.5], [0.25, 0.75], unit="bits")), 6)
1.207519
>>> float(perplexity([0.25, 0.25, 0.25, 0.25]))
4.0

Shapes: the outcomes are the last axis; the axes before it are distributions of their own.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_array, as_probabilities

Unit = Literal["nats", "bits"]


def in_unit(nats: np.ndarray, unit: Unit) -> np.ndarray:
    """An amount of information in the unit that was asked for: a bit is ln 2 nats."""
    if unit not in ("nats", "bits"):
        raise ValueError(f"there is no unit {unit!r}: take nats or bits")
    return nats / np.log(2) if unit == "bits" else nats


def expected_log(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """sum p ln q over the last axis, 0 where p is 0, -inf where q alone is."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(p > 0, q, 1.0))
    return (p * logs).sum(axis=-1)


def entropy(p: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """H(p) of each distribution along the last axis: from 0 (certain) to ln V (all V outcomes alike)."""
    p = as_probabilities(p)
    return in_unit(np.asarray(0.0 - expected_log(p, p)), unit)


def cross_entropy(p: ArrayLike, q: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """H(p, q): what outcomes of p take, on average, in the best code for q. Infinite where q misses what p does."""
    p, q = pair(p, q)
    return in_unit(np.asarray(0.0 - expected_log(p, q)), unit)


def perplexity(p: ArrayLike) -> np.ndarray:
    """exp H(p): the number of equally likely outcomes with the same entropy."""
    return np.exp(entropy(p))


def perplexity_of(log_probabilities: ArrayLike) -> float:
    """exp of the mean of -ln p over the tokens of a text: what a language model's perplexity is. (T,), natural logarithms.

    >>> round(perplexity_of(np.log([0.5, 0.125])), 6)  # on average as unsure as among 4
    4.0
    """
    logs_T = as_array(log_probabilities, "log_probabilities", finite=False)
    if logs_T.max() > 0:
        raise ValueError(f"log_probabilities holds {logs_T.max():g}: the logarithm of a probability is 0 or less")
    return float(np.exp(-logs_T.mean()))


def pair(p: ArrayLike, q: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two distributions over the same outcomes."""
    p, q = as_probabilities(p), as_probabilities(q, "q")
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"p has {p.shape[-1]} outcomes, q has {q.shape[-1]}: give distributions over the same ones")
    return p, q
