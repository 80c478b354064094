"""Learning before networks: regressions by own gradient descent, a survey of the classical methods, honest splits, and what
none of them can do.

Read in this order: `standardise`, `gradient_descent`, `linear`, `logistic`, `k_means`, `splits`, `cross_validation`,
`leakage`, `survey`, `failures`. The first seven need NumPy alone; data sets and the other methods are scikit-learn's.

>>> import numpy as np
>>> model = LinearRegression().fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
>>> model.predict(np.array([[10.0]])).round(6)
array([21.])
"""

from cairn.foundations.classical.cross_validation import Score, out_of_fold, score_of, score_of_numbers
from cairn.foundations.classical.datasets import Dataset, load
from cairn.foundations.classical.gradient_descent import minimise
from cairn.foundations.classical.k_means import Clusters, kmeans
from cairn.foundations.classical.linear import LinearRegression
from cairn.foundations.classical.logistic import LogisticRegression
from cairn.foundations.classical.splits import folds, train_validation_test
from cairn.foundations.classical.standardise import Chain, Estimator, Standardiser

__all__ = [
    "Chain",
    "Clusters",
    "Dataset",
    "Estimator",
    "LinearRegression",
    "LogisticRegression",
    "Score",
    "Standardiser",
    "folds",
    "kmeans",
    "load",
    "minimise",
    "out_of_fold",
    "score_of",
    "score_of_numbers",
    "train_validation_test",
]
