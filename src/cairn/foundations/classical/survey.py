"""The classical methods side by side, on the same folds of the same real data.

Linear and logistic regression are this chapter's own; the others are scikit-learn's, each in one sentence:

- *k-NN* remembers everything and asks the nearest samples; it needs features in comparable units.
- A *tree* asks one feature after the other, "larger than?"; it takes any units, and learns a sample by heart if let.
- A *forest* averages many trees, each grown on a draw of the samples and asking among a draw of the features.
- An *SVM* looks for the boundary with the widest margin, in a space where distance is measured by a kernel.
- *PCA* turns the axes to the directions of largest spread; the first few hold most of it (here before k-NN).
- *k-means* sees no classes at all: its groups are named afterwards by their most frequent class among the training samples.

>>> rows = survey("iris", ["most frequent", "logistic regression"])
>>> [(row.method, round(row.score.value, 2)) for row in rows]
[('most frequent', 0.33), ('logistic regression', 0.95)]
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from cairn.foundations.classical.cross_validation import Score, folds, out_of_fold, score_of, score_of_numbers
from cairn.foundations.classical.datasets import load
from cairn.foundations.classical.k_means import kmeans, squared_distances
from cairn.foundations.classical.library import library
from cairn.foundations.classical.linear import LinearRegression
from cairn.foundations.classical.logistic import LogisticRegression
from cairn.foundations.classical.standardise import Chain, Estimator, Standardiser

FOLDS, TREES = 5, 50


class Row(NamedTuple):
    data: str
    method: str
    score: Score  # accuracy, or R2 of numbers
    seconds: float  # of training and testing all folds


class GroupNames:
    """k-means as a classifier: each group has the most frequent class of its training samples."""

    def __init__(self, groups: int):
        self.groups = groups

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        # The best of five starts: where one comes to rest is a matter of luck.
        found = min((kmeans(x, self.groups, rng=np.random.default_rng(s)) for s in range(5)), key=lambda f: f.inertia)
        self.centres = found.centres
        self.names = np.array([np.bincount(y[found.labels == g]).argmax() for g in range(self.groups)])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.names[squared_distances(x, self.centres).argmin(axis=1)]


def classifiers(classes: int) -> dict[str, Callable[[], Estimator]]:
    """Name -> a fresh model; settings are scikit-learn's own wherever none is given."""

    def scaled(*parts) -> Estimator:
        return Chain(Standardiser(), *parts)

    ensemble, neighbors = library("ensemble"), library("neighbors")
    return {
        "most frequent": lambda: library("dummy").DummyClassifier(),
        "k-means, groups named": lambda: scaled(GroupNames(2 * classes)),
        "tree": lambda: library("tree").DecisionTreeClassifier(random_state=0),
        "k-NN": lambda: scaled(neighbors.KNeighborsClassifier(5)),
        "PCA to 10, then k-NN": lambda: scaled(_Components(), neighbors.KNeighborsClassifier(5)),
        "logistic regression": lambda: LogisticRegression(l2=1e-2, tolerance=1e-5),
        "random forest": lambda: ensemble.RandomForestClassifier(TREES, random_state=0),
        "SVM": lambda: scaled(library("svm").SVC()),
    }


def regressors() -> dict[str, Callable[[], Estimator]]:
    ensemble, neighbors = library("ensemble"), library("neighbors")
    return {
        "mean": lambda: library("dummy").DummyRegressor(),
        "tree": lambda: library("tree").DecisionTreeRegressor(random_state=0),
        "k-NN": lambda: Chain(Standardiser(), neighbors.KNeighborsRegressor(5)),
        "random forest": lambda: ensemble.RandomForestRegressor(TREES, random_state=0),
        "linear regression": lambda: LinearRegression(),
        "linear regression with L2": lambda: LinearRegression(l2=0.1),
    }


def survey(name: str, methods: Sequence[str] | None = None, seed: int = 0) -> list[Row]:
    """Each method on `FOLDS` folds of a data set of `datasets`; stratified where there are classes."""
    data = load(name)
    known = classifiers(len(data.classes)) if data.classes else regressors()
    unknown = sorted(set(methods or ()) - set(known))
    if unknown:
        raise ValueError(f"there is no method {unknown[0]!r} for {name}; known: {', '.join(known)}")
    rng = np.random.default_rng(seed)
    parts = folds(len(data.y), FOLDS, rng, classes=data.y if data.classes else None)
    rows = []
    for method in methods or known:
        began = time.perf_counter()
        said_N = out_of_fold(known[method], data.x, data.y, parts)
        score = (score_of if data.classes else score_of_numbers)(data.y, said_N)
        rows.append(Row(name, method, score, time.perf_counter() - began))
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of text, in columns."""
    head = f"{'data':<14} {'method':<26} {'score':>6} {'95 % interval':>16} {'chance':>7} {'n':>5} {'seconds':>8}"
    return [head] + [
        f"{row.data:<14} {row.method:<26} {row.score.value:>6.3f} {f'{row.score.low:.3f} .. {row.score.high:.3f}':>16} "
        f"{row.score.chance:>7.3f} {row.score.n:>5} {row.seconds:>8.2f}"
        for row in rows
    ]


class _Components:
    """The first 10 principal components, or all where there are fewer."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.found = library("decomposition").PCA(min(10, *x.shape), random_state=0).fit(x)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        return self.found.transform(x)
