"""Leakage: how a test is passed by seeing it first, three ways, measured where the truth is known.

1. *Choosing before splitting.* Features of pure noise and random classes: nothing can be learned, every honest score is
   chance. But among 2000 noise features some agree with the classes by accident, over all samples, the test's among them.
   Whoever chooses the 20 best first and splits afterwards tests on samples that took part in the choice.
2. *Splitting within a group.* Several samples of each person, who differ by more than sick and healthy do: a neighbour of
   the test sample is the same person, whose answer is known. Split by person, and it is gone.
3. *Standardising before splitting* also uses the test samples, but not their classes. It must not be done and does little.

>>> found = choosing_first(samples=60, features=500, rng=np.random.default_rng(0))
>>> found.leaking.value > 0.7 > found.honest.value
True
"""

from typing import NamedTuple, Self

import numpy as np

from cairn.foundations.classical.cross_validation import Score, folds, out_of_fold, score_of
from cairn.foundations.classical.library import library
from cairn.foundations.classical.logistic import LogisticRegression
from cairn.foundations.classical.standardise import Chain, Standardiser


class Leak(NamedTuple):
    leaking: Score
    honest: Score


class BestFeatures:
    """Keeps the `count` features whose means in both classes are farthest apart, in units of their spread."""

    def __init__(self, count: int):
        self.count = count

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        apart_D = np.abs(x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0)) / x.std(axis=0)
        self.kept = np.argsort(-apart_D, kind="stable")[: self.count]
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        return x[:, self.kept]


def choosing_first(samples: int = 100, features: int = 2000, *, rng: np.random.Generator) -> Leak:
    """Noise and random classes; the best features chosen on all samples, or within each fold."""
    x, y = rng.normal(size=(samples, features)), rng.permutation(np.arange(samples) % 2)
    chosen = BestFeatures(20).fit(x, y).transform(x)
    parts = folds(samples, 5, rng, classes=y)
    leaking = out_of_fold(lambda: LogisticRegression(l2=0.1), chosen, y, parts)
    honest = out_of_fold(lambda: Chain(BestFeatures(20), LogisticRegression(l2=0.1)), x, y, parts)
    return Leak(score_of(y, leaking), score_of(y, honest))


def splitting_groups(people: int = 40, each: int = 8, *, rng: np.random.Generator) -> Leak:
    """People of random classes, several samples of each near each other; folds by sample, or by person."""
    person = np.repeat(np.arange(people), each)
    x = rng.normal(size=(people, 10))[person] + 0.3 * rng.normal(size=(people * each, 10))
    y = rng.permutation(np.arange(people) % 2)[person]

    def nearest():
        return library("neighbors").KNeighborsClassifier(1)

    leaking = out_of_fold(nearest, x, y, folds(len(y), 5, rng))
    honest = out_of_fold(nearest, x, y, folds(len(y), 5, rng, groups=person))
    return Leak(score_of(y, leaking), score_of(y, honest))


def standardising_first(x: np.ndarray, y: np.ndarray, *, rng: np.random.Generator) -> Leak:
    """k-NN on features that were standardised over all samples, or within each fold."""

    def nearest():
        return library("neighbors").KNeighborsClassifier(5)

    parts = folds(len(y), 5, rng, classes=y)
    leaking = out_of_fold(nearest, Standardiser().fit(x).transform(x), y, parts)
    honest = out_of_fold(lambda: Chain(Standardiser(), nearest()), x, y, parts)
    return Leak(score_of(y, leaking), score_of(y, honest))
