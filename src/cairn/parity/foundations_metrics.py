"""Metrics and the regressions of foundations/ against scikit-learn, on random samples: ties, absent classes, 0 / 0, weights."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from cairn.foundations import metrics
from cairn.foundations.classical import LinearRegression, LogisticRegression, kmeans
from cairn.parity import Check

TOLERANCE = 1e-13  # of the slope: what is left of the way is it over the smallest curvature
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def _difference(ours: Any, theirs: Any) -> float:
    """Largest absolute difference; NaN equals NaN, infinity infinity, and other shapes are infinitely far apart."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    return float(np.where(same, 0.0, np.abs(np.where(same, 0.0, ours) - np.where(same, 0.0, theirs))).max(initial=0.0))


def _largest(pairs: list[tuple[Any, Any]]) -> float:
    return float(np.max([_difference(ours, theirs) for ours, theirs in pairs]))  # a NaN stays one


def _draw_classes(seed: int) -> Arrays:
    """True classes, predicted ones and weights. Either may lack a class, so that rows and columns of 0 come up."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(5, 60)), int(rng.integers(2, 7))
    true_ones, said_ones = (rng.choice(classes, int(rng.integers(1, classes + 1)), replace=False) for _ in range(2))
    weights = rng.random(n) * (rng.random(n) < 0.9) + 1e-3
    return rng.choice(true_ones, n), rng.choice(said_ones, n), weights


def _draw_scores(seed: int) -> Arrays:
    """0 or 1, a score within 0 and 1 that knows a little of it and has many ties, and weights."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 80))
    truth = rng.permutation(np.append(rng.integers(0, 2, n - 2), [0, 1]))
    score = np.round((rng.random(n) + 0.3 * truth) / 1.3, int(rng.integers(1, 4)))
    return truth, score, rng.random(n) + 1e-3


def _draw_table(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True classes with some absent, probabilities (N, C) with exact zeros, weights, and all classes."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(5, 50)), int(rng.integers(2, 6))
    there = rng.choice(classes, int(rng.integers(1, classes + 1)), replace=False)
    table = rng.random((n, classes)) * (rng.random((n, classes)) < 0.8) + 1e-9
    table[rng.random(n) < 0.2] = np.eye(classes)[int(rng.integers(classes))]
    return rng.choice(there, n), table / table.sum(axis=1, keepdims=True), rng.random(n) + 1e-3, np.arange(classes)


def confusion(seed: int) -> float:
    from sklearn import metrics as oracle

    truth, said, weights = _draw_classes(seed)
    order = np.random.default_rng(seed).permutation(np.union1d(truth, said))
    pairs: list[tuple[Any, Any]] = [
        (metrics.confusion_matrix(truth, said, order), oracle.confusion_matrix(truth, said, labels=order))
    ]
    for w in (None, weights):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are said and not there
            pairs += [
                (
                    metrics.confusion_matrix(truth, said, weights=w),
                    oracle.confusion_matrix(truth, said, sample_weight=w),
                ),
                (metrics.accuracy(truth, said, w), oracle.accuracy_score(truth, said, sample_weight=w)),
                (
                    metrics.balanced_accuracy(truth, said, w),
                    oracle.balanced_accuracy_score(truth, said, sample_weight=w),
                ),
            ]
            # Where either is always the same it is 0, which theirs misses by a rounding of weights.
            if w is None or min(len(np.unique(truth)), len(np.unique(said))) > 1:
                wanted = oracle.matthews_corrcoef(truth, said, sample_weight=w)
                pairs.append((metrics.matthews(truth, said, w), wanted))
    return _largest(pairs)


def by_class(seed: int) -> float:
    """Precision, recall and F1: every average, every value of 0 / 0, all classes, some, and ones that never occur."""
    from sklearn import metrics as oracle

    truth, said, weights = _draw_classes(seed)
    functions: list[tuple[Any, Any]] = [  # their stubs know neither NaN nor floats
        (metrics.precision, oracle.precision_score),
        (metrics.recall, oracle.recall_score),
        (metrics.f1, oracle.f1_score),
    ]
    pairs: list[tuple[Any, Any]] = []
    for zero in (0.0, 1.0, float("nan")):
        for w in (None, weights):
            for chosen in (None, [int(truth[0]), 9]):
                names: dict[str, Any] = {"labels": chosen, "sample_weight": w, "zero_division": zero}
                wanted = oracle.precision_recall_fscore_support(truth, said, average=None, **names)
                pairs += list(zip(metrics.class_scores(truth, said, chosen, w, zero), wanted))
                for average in ("micro", "macro", "weighted"):
                    for ours, theirs in functions:
                        value = ours(truth, said, average, classes=chosen, weights=w, zero_division=zero)
                        pairs.append((value, theirs(truth, said, average=average, **names)))
            for ours, theirs in functions:
                value = ours(truth > 0, said > 0, positive=True, weights=w, zero_division=zero)
                pairs.append((value, theirs(truth > 0, said > 0, sample_weight=w, zero_division=zero)))
    return _largest(pairs)


def ranking(seed: int) -> float:
    from sklearn import metrics as oracle

    truth, score, weights = _draw_scores(seed)
    pairs: list[tuple[Any, Any]] = []
    for w in (None, weights):
        wanted = oracle.roc_curve(truth, score, sample_weight=w, drop_intermediate=False)
        pairs += list(zip(metrics.roc_curve(truth, score, weights=w), wanted))
        wanted = oracle.precision_recall_curve(truth, score, sample_weight=w)
        pairs += list(zip(metrics.precision_recall_curve(truth, score, weights=w), wanted))
        pairs += [
            (metrics.roc_auc(truth, score, weights=w), oracle.roc_auc_score(truth, score, sample_weight=w)),
            (
                metrics.average_precision(truth, score, weights=w),
                oracle.average_precision_score(truth, score, sample_weight=w),
            ),
        ]
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 6))
    several = rng.permutation(np.append(rng.integers(0, classes, len(truth)), np.arange(classes)))
    table = np.round(rng.random((len(several), classes)), 2) + 0.01
    table /= table.sum(axis=1, keepdims=True)
    for average in ("macro", "weighted"):
        value = metrics.roc_auc_one_vs_rest(several, table, average=average)
        pairs.append((value, oracle.roc_auc_score(several, table, multi_class="ovr", average=average)))
    return _largest(pairs)


def probability(seed: int) -> float:
    from sklearn import metrics as oracle
    from sklearn.calibration import calibration_curve

    truth, table, weights, classes = _draw_table(seed)
    pairs: list[tuple[Any, Any]] = []
    for w in (None, weights):
        pairs += [
            (
                metrics.log_loss(truth, table, classes, w),
                oracle.log_loss(truth, table, labels=classes, sample_weight=w),
            ),
            (
                metrics.brier(truth, table, classes, w),
                oracle.brier_score_loss(truth, table, labels=classes, sample_weight=w),
            ),
        ]
    binary, score, weights = _draw_scores(seed)
    pairs += [
        (metrics.log_loss(binary, score, weights=weights), oracle.log_loss(binary, score, sample_weight=weights)),
        (metrics.brier(binary, score, weights=weights), oracle.brier_score_loss(binary, score, sample_weight=weights)),
    ]
    for strategy in ("uniform", "quantile"):
        curve = metrics.reliability_curve(binary, score, 7, strategy)
        pairs += list(zip(curve[:2], calibration_curve(binary, score, n_bins=7, strategy=strategy)))
    return _largest(pairs)


def errors_of_numbers(seed: int) -> float:
    from sklearn import metrics as oracle

    rng = np.random.default_rng(seed)
    pairs: list[tuple[Any, Any]] = []
    for shape in ((int(rng.integers(2, 40)),), (int(rng.integers(2, 40)), 3)):
        truth = rng.normal(size=shape)
        said, weights = truth + rng.normal(size=shape), rng.random(shape[0]) + 1e-3
        constant = np.full(shape, 2.0)
        pairs += [(metrics.r2(constant, p), oracle.r2_score(constant, p)) for p in (said, constant)]
        for w in (None, weights):
            pairs += [
                (metrics.mse(truth, said, w), oracle.mean_squared_error(truth, said, sample_weight=w)),
                (metrics.rmse(truth, said, w), oracle.root_mean_squared_error(truth, said, sample_weight=w)),
                (metrics.mae(truth, said, w), oracle.mean_absolute_error(truth, said, sample_weight=w)),
                (metrics.r2(truth, said, w), oracle.r2_score(truth, said, sample_weight=w)),
            ]
    return _largest(pairs)


def _features(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    """Random features (N, D) that are correlated and of different units."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(30, 120)), int(rng.integers(2, 8))
    return rng, rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.exp(2 * rng.normal(size=d)) + rng.normal(size=d)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def linear(seed: int) -> float:
    """Predictions, relative to the spread of the targets: of the plain model and the one with L2."""
    from sklearn.linear_model import LinearRegression as Plain
    from sklearn.linear_model import Ridge

    rng, x = _features(seed)
    y = _standardised(x) @ rng.normal(size=x.shape[1]) * 10 + rng.normal(size=len(x)) + 5
    z, spread = _standardised(x), y.std()
    pairs = [
        (LinearRegression(tolerance=TOLERANCE).fit(x, y).predict(x) / spread, Plain().fit(z, y).predict(z) / spread)
    ]
    ridge = Ridge(alpha=0.1 * len(x)).fit(z, y)
    ours = LinearRegression(l2=0.1, tolerance=TOLERANCE).fit(x, y)
    pairs += [(ours.predict(x) / spread, ridge.predict(z) / spread), (ours.standard_weights, ridge.coef_)]
    return _largest(pairs)


def logistic(classes: int) -> Callable[[int], float]:
    """Weights of the standardised features, intercepts, probabilities."""

    def run(seed: int) -> float:
        from sklearn.linear_model import LogisticRegression as Theirs

        rng, x = _features(seed)
        z = _standardised(x)
        scores = z @ rng.normal(size=(x.shape[1], classes)) + rng.gumbel(size=(len(x), classes))
        y = scores.argmax(axis=1)
        y[:classes] = np.arange(classes)
        ours = LogisticRegression(l2=0.02, tolerance=TOLERANCE).fit(x, y)
        theirs = Theirs(C=1 / (0.02 * len(x)), solver="newton-cholesky", tol=1e-12).fit(z, y)
        return _largest(
            [
                (ours.standard_weights.T, theirs.coef_),
                (ours.standard_intercept, theirs.intercept_),
                (ours.predict_proba(x), theirs.predict_proba(z)),
            ]
        )

    return run


def clusters(seed: int) -> float:
    """Centres that Lloyd's iteration comes to from the same start, and the labels of all samples."""
    from sklearn import cluster

    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 6))
    x = np.concatenate([rng.normal(size=(30, 3)) + 4 * rng.normal(size=3) for _ in range(count)])
    start = x[rng.choice(len(x), count, replace=False)]
    ours = kmeans(x, count, start=start)
    oracle: Any = cluster.KMeans  # its stubs know no arrays
    theirs = oracle(count, init=start, n_init=1, algorithm="lloyd", tol=0).fit(x)
    return _largest([(ours.centres, theirs.cluster_centers_), (ours.labels, theirs.labels_)])


_PARTS: list[tuple[str, float, Callable[[int], float]]] = [
    ("confusion matrix, accuracy, balanced accuracy, Matthews", 1e-12, confusion),
    ("precision, recall, F1: every average, 0 / 0, weights", 1e-12, by_class),
    ("ROC and precision-recall curves with ties, areas, one against the rest", 1e-12, ranking),
    ("log-loss, Brier score, reliability curve", 1e-12, probability),
    ("MSE, RMSE, MAE, R2", 1e-12, errors_of_numbers),
    ("linear regression by gradient descent, without and with L2", 1e-8, linear),
    ("logistic regression by gradient descent: 2 classes", 1e-8, logistic(2)),
    ("logistic regression by gradient descent: 4 classes", 1e-8, logistic(4)),
    ("k-means from the same start", 1e-10, clusters),
]
CHECKS = [Check(f"foundations: {part}", "scikit-learn", tolerance, run) for part, tolerance, run in _PARTS]
