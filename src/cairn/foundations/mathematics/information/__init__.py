"""Information: entropy, what a wrong belief costs, and what one thing tells about another.

Read in this order: `entropies`, `divergences`, `mutual`.

>>> truth, belief = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
>>> [round(float(cost), 6) for cost in (entropy(truth, "bits"), kl(truth, belief, "bits"))]
[1.5, 0.25]
>>> float(cross_entropy(truth, belief, "bits"))  # the sum of both
1.75
"""

from cairn.foundations.mathematics.information.divergences import jensen_shannon, kl, kl_normal
from cairn.foundations.mathematics.information.entropies import cross_entropy, entropy, perplexity, perplexity_of
from cairn.foundations.mathematics.information.mutual import (
    conditional_entropy,
    joint_entropy,
    mutual_information,
    mutual_information_of,
    table_of,
    through,
)

__all__ = [
    "conditional_entropy",
    "cross_entropy",
    "entropy",
    "jensen_shannon",
    "joint_entropy",
    "kl",
    "kl_normal",
    "mutual_information",
    "mutual_information_of",
    "perplexity",
    "perplexity_of",
    "table_of",
    "through",
]
