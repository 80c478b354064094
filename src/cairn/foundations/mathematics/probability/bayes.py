"""Bayes' rule: what to believe after seeing something, given what one believed before.

posterior = prior * likelihood / evidence. Each hypothesis is weighed by how well it foretold what was seen, and the sum is
brought back to 1; that sum is the evidence, how well all of them together foretold it. For some pairs of prior and likelihood
the posterior is of the prior's own family and an update is an addition: coin throws add to a beta's a and b, and a
measurement adds its precision (1 / variance) to a normal's. Today's posterior is tomorrow's prior: one by one or all at once
gives the same.

A test finds 99 % of the ill, and 5 % of the well; 1 % are ill. Is one whom it finds ill?

>>> posterior, evidence = update_table([0.01, 0.99], [0.99, 0.05])
>>> posterior.round(3).tolist(), round(evidence, 4)
([0.167, 0.833], 0.0594)
>>> update_beta(Beta(1.0, 1.0), heads=7, tails=3).mean
0.6666666666666666
>>> update_normal(Normal(0.0, 1.0), [2.0], noise=1.0).mean
1.0
"""

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.mathematics.checks import as_probabilities, as_vector, count, positive
from cairn.foundations.mathematics.probability.interval import Beta
from cairn.foundations.mathematics.probability.normal import Normal
from cairn.foundations.mathematics.special import gammaln


def update_table(prior: ArrayLike, likelihood: ArrayLike) -> tuple[np.ndarray, float]:
    """The posterior of H hypotheses (H,), and the evidence, from P(hypothesis) and P(seen | hypothesis), both (H,)."""
    prior_H = as_probabilities(as_vector(prior, "prior"), "prior")
    likelihood_H = as_vector(likelihood, "likelihood", len(prior_H))
    if likelihood_H.min() < 0:
        raise ValueError(f"likelihood has the value {likelihood_H.min():g}: probabilities and densities are 0 or more")
    joint_H = prior_H * likelihood_H
    evidence = float(joint_H.sum())
    if evidence == 0:
        raise ValueError("what was seen is impossible under every hypothesis: add one that allows it")
    return joint_H / evidence, evidence


def update_beta(prior: Beta, heads: int, tails: int) -> Beta:
    """What to believe about a coin's share of heads: p^a (1-p)^b times p^heads (1-p)^tails."""
    return Beta(prior.a + count(heads, "heads", 0), prior.b + count(tails, "tails", 0))


def beta_binomial_evidence(prior: Beta, heads: int, tails: int) -> float:
    """ln of the probability of that many heads, over all the coins that the prior allows: ln C(n, heads) B(a', b') / B(a, b)."""

    def log_beta(a: float, b: float) -> float:
        return float(gammaln(a) + gammaln(b) - gammaln(a + b))

    after = update_beta(prior, heads, tails)
    orders = float(gammaln(heads + tails + 1) - gammaln(heads + 1) - gammaln(tails + 1))
    return orders + log_beta(after.a, after.b) - log_beta(prior.a, prior.b)


def update_normal(prior: Normal, x: ArrayLike, noise: float) -> Normal:
    """What to believe about a quantity that was measured as x (N,), each time with a normal error of deviation `noise`.

    Both exponents are parabolas, and so is their sum: precisions add, and the mean is weighted by them.
    """
    x_N = as_vector(x)
    before, gained = 1 / prior.variance, len(x_N) / positive(noise, "noise") ** 2
    mean = (before * prior.mean + gained * float(x_N.mean())) / (before + gained)
    return Normal(mean, float((before + gained) ** -0.5))
