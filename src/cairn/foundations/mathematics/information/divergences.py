"""How far is one distribution from another?

Kullback and Leibler: KL(p || q) = sum p ln(p / q), the extra cost of a code made for q when outcomes follow p. It is 0 only
for q = p, and never negative, since the logarithm is concave (Gibbs). It is no distance: KL(p || q) is infinite where q misses
something that p does, KL(q || p) where it is the other way round. A q fitted by the first covers all of p; by the second it
settles on one part. Jensen and Shannon average both against the mixture: symmetric, at most ln 2, and its root is a distance.

>>> [round(float(d), 6) for d in (kl([0.5, 0.5], [0.25, 0.75]), kl([0.25, 0.75], [0.5, 0.5]))]
[0.143841, 0.130812]
>>> float(jensen_shannon([1.0, 0.0], [0.0, 1.0], unit="bits"))
1.0
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import number, positive
from cairn.foundations.mathematics.information.entropies import Unit, in_unit, pair


def kl(p: ArrayLike, q: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """KL(p || q) along the last axis.

    Summed as p ln(p/q) - p + q: what is added sums to 0, and every term is then at least 0, so that rounding cannot make the
    whole negative.
    """
    p, q = pair(p, q)
    return in_unit(_kl(p, q), unit)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    p, q = np.broadcast_arrays(p, q)
    with np.errstate(divide="ignore"):
        # A quotient of tiny numbers may overflow; the difference of their logarithms does not.
        logs = np.log(np.where(p > 0, p, 1.0)) - np.log(np.where(p > 0, q, 1.0))
    return np.maximum(np.where(p > 0, p * logs, 0.0) - p + q, 0.0).sum(axis=-1)


def jensen_shannon(p: ArrayLike, q: ArrayLike, unit: Unit = "nats") -> np.ndarray:
    """(KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2: from 0 to ln 2. SciPy's `jensenshannon` is its square root."""
    p, q = pair(p, q)
    # Twice everything, since half of the smallest float is 0: KL(2p || 2m) = 2 KL(p || m), and doubling is exact.
    return in_unit((_kl(2 * p, p + q) + _kl(2 * q, p + q)) / 4, unit)


def kl_normal(mean_p: float, scale_p: float, mean_q: float, scale_q: float) -> float:
    """KL of two normals, in nats: ln(s_q / s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2. The loss of a VAE's code.

    >>> kl_normal(1.0, 1.0, 0.0, 1.0)
    0.5
    """
    ratio = positive(scale_p, "scale_p") / positive(scale_q, "scale_q")
    apart = number(mean_p, "mean_p") - number(mean_q, "mean_q")
    return float(-np.log(ratio) + (ratio**2 + (apart / scale_q) ** 2 - 1) / 2)
