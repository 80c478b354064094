"""Every sample predicted by a model that has not seen it, and one score over all of them.

For each fold a fresh model learns from the other folds and answers for this one. The answers together are as many as there
are samples, so one score with one interval comes out, rather than a mean of small ones.

>>> from cairn.foundations.classical import LogisticRegression, load
>>> data = load("iris")
>>> said = out_of_fold(LogisticRegression, data.x, data.y, folds(150, 5, np.random.default_rng(0), classes=data.y))
>>> print(score_of(data.y, said))
0.960 [0.915, 0.982] chance 0.333 n 150
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from cairn.foundations.classical.splits import folds
from cairn.foundations.classical.standardise import Estimator
from cairn.foundations.metrics import accuracy, bootstrap_interval, chance_level, proportion_interval, r2

__all__ = ["Score", "folds", "out_of_fold", "score_of", "score_of_numbers"]


class Score(NamedTuple):
    """A figure, its 95 % interval, what guessing reaches, and the number of samples."""

    value: float
    low: float
    high: float
    chance: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] chance {self.chance:.3f} n {self.n}"


def out_of_fold(
    make: Callable[[], Estimator], x: np.ndarray, y: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Predictions (N,) for all samples. make() gives a fresh model; parts are those of `folds`."""
    tested: list[np.ndarray] = []
    said: list[np.ndarray] = []
    for train, test in parts:
        model = make()
        model.fit(x[train], y[train])
        tested.append(test)
        said.append(np.asarray(model.predict(x[test])))
    if not tested or not np.array_equal(np.sort(np.concatenate(tested)), np.arange(len(y))):
        raise ValueError("the folds must test each sample exactly once: take them from `folds`")
    answers = np.concatenate(said)  # of their own type: what is said of whole numbers may lie between them
    said_N = np.empty_like(answers)
    said_N[np.concatenate(tested)] = answers
    return said_N


def score_of(truth: np.ndarray, said: np.ndarray) -> Score:
    """Accuracy of classes; chance is that of always saying the most frequent one."""
    low, high = proportion_interval(int((truth == said).sum()), len(truth))
    return Score(accuracy(truth, said), low, high, chance_level(truth), len(truth))


def score_of_numbers(truth: np.ndarray, said: np.ndarray) -> Score:
    """R2; chance is 0, that of always saying the mean. The interval is from 1000 bootstrap draws."""
    low, high = bootstrap_interval(r2, truth, said, rng=np.random.default_rng(0))
    return Score(r2(truth, said), low, high, 0.0, len(truth))
