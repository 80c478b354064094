"""Probability: families of distributions, how they are fitted, how belief moves, and why the normal is everywhere.

Read in this order: `distribution`, `counts`, `normal`, `tails`, `waiting`, `interval`, `bayes`, `central_limit`.

>>> import numpy as np
>>> throws = Bernoulli(0.7).sample(np.random.default_rng(0), 1000)
>>> heads = int(throws.sum())
>>> belief = update_beta(Beta(1.0, 1.0), heads, 1000 - heads)  # what to think of the coin, having known nothing
>>> abs(belief.mean - 0.7) < 0.05 and abs(belief.mean - Bernoulli.fit(throws).p) < 0.001
True
"""

from cairn.foundations.mathematics.probability.bayes import (
    beta_binomial_evidence,
    update_beta,
    update_normal,
    update_table,
)
from cairn.foundations.mathematics.probability.central_limit import berry_esseen, gap_to_normal, standardised_means
from cairn.foundations.mathematics.probability.counts import Bernoulli, Binomial, Categorical, Poisson
from cairn.foundations.mathematics.probability.distribution import Distribution
from cairn.foundations.mathematics.probability.interval import Beta, Uniform
from cairn.foundations.mathematics.probability.normal import MultivariateNormal, Normal
from cairn.foundations.mathematics.probability.tails import Laplace, StudentT
from cairn.foundations.mathematics.probability.waiting import Exponential, Gamma

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Distribution",
    "Exponential",
    "Gamma",
    "Laplace",
    "MultivariateNormal",
    "Normal",
    "Poisson",
    "StudentT",
    "Uniform",
    "berry_esseen",
    "beta_binomial_evidence",
    "gap_to_normal",
    "standardised_means",
    "update_beta",
    "update_normal",
    "update_table",
]
