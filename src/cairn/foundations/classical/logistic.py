"""Logistic regression by gradient descent: a score for each class, linear in the features, made into probabilities.

Two classes need one score s = w z + b and the sigmoid, p = 1 / (1 + exp(-s)). More classes have a score each and the
softmax, p_c = exp(s_c) / sum exp(s). The loss is the mean surprise -ln p(true class), and in both cases its gradient is

    df/dW = Z^T (P - Y) / N + l2 W

what was said minus what happened (one-hot), times the features: the same form as in linear regression, because sigmoid and
softmax are what the derivative of the log-likelihood cancels. Curvature: p (1 - p) <= 1/4 for the sigmoid, and the matrix
diag(p) - p p^T <= 1/2 for the softmax (Boehning 1992), times that of the features.

>>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
>>> model = LogisticRegression(l2=0.1).fit(x, np.array(["no", "no", "yes", "yes"]))
>>> model.predict(np.array([[0.5], [2.5]])), model.predict_proba(np.array([[1.5]])).round(3)
(array(['no', 'yes'], dtype='<U3'), array([[0.5, 0.5]]))

Checked against sklearn.linear_model. Shapes: N samples, D features, C classes, K scores (1 for two classes, else C).
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.classical.gradient_descent import minimise
from cairn.foundations.classical.standardise import Standardiser, as_features


def sigmoid(score: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-s)), by the tanh, which never overflows."""
    return 0.5 * (1 + np.tanh(0.5 * score))


def softmax(score_NC: np.ndarray) -> np.ndarray:
    """exp(s) / sum exp(s) of each row; the largest score is taken off first, which changes nothing and never overflows."""
    power_NC = np.exp(score_NC - score_NC.max(axis=1, keepdims=True))
    return power_NC / power_NC.sum(axis=1, keepdims=True)


class LogisticRegression:
    """l2: strength of the pull of all weights towards 0 (of standardised features); intercepts are free.

    After `fit`: classes (C,), weights (D, K) and intercept (K,) in units of the data, standard_weights (D, K) and
    standard_intercept (K,) of standardised features, steps.
    """

    def __init__(self, l2: float = 1e-3, tolerance: float = 1e-8):
        if not (l2 >= 0 and tolerance > 0):
            raise ValueError(f"l2 must not be below 0 and tolerance above it, got {l2} and {tolerance}")
        self.l2, self.tolerance = l2, tolerance

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """x (N, D), y (N,) of any two or more classes."""
        x_ND, y_N = as_features(x), np.asarray(y)
        if y_N.shape != (len(x_ND),):
            raise ValueError(f"{len(x_ND)} samples but classes of shape {y_N.shape}: give one class for each")
        if y_N.dtype.kind == "f" and np.isnan(y_N).any():
            raise ValueError(f"the class of sample {np.isnan(y_N).argmax()} is nan: leave out what has none")
        self.classes, number_N = np.unique(y_N, return_inverse=True)
        if len(self.classes) < 2:
            raise ValueError(f"every sample is of the class {y_N[0]!r}: there is nothing to tell apart")
        scaler = Standardiser().fit(x_ND)
        samples, features = x_ND.shape
        z_NE = np.concatenate(
            [scaler.transform(x_ND), np.ones((samples, 1))], axis=1
        )  # E = D + 1: the last is the intercept
        decay_E1 = np.append(np.full(features, self.l2), 0.0)[:, None]
        truth_NK = np.eye(len(self.classes))[number_N]
        truth_NK = truth_NK[:, 1:] if len(self.classes) == 2 else truth_NK

        def gradient(w_EK: np.ndarray) -> np.ndarray:
            return z_NE.T @ (_probability(z_NE @ w_EK) - truth_NK) / samples + decay_E1 * w_EK

        share = 0.25 if len(self.classes) == 2 else 0.5
        curvature = share * float(np.linalg.norm(z_NE, 2)) ** 2 / samples + self.l2
        start_EK = np.zeros((features + 1, truth_NK.shape[1]))
        found = minimise(gradient, start_EK, curvature=curvature, tolerance=self.tolerance)
        self.steps, self.standard_weights, self.standard_intercept = found.steps, found.point[:-1], found.point[-1]
        self.weights = self.standard_weights / scaler.spread[:, None]
        self.intercept = self.standard_intercept - scaler.mean @ self.weights
        return self

    def predict_proba(self, x: ArrayLike) -> np.ndarray:
        """(N, C), columns in the order of `classes`."""
        probability_NK = _probability(as_features(x, len(self.weights)) @ self.weights + self.intercept)
        if len(self.classes) > 2:
            return probability_NK
        return np.concatenate([1 - probability_NK, probability_NK], axis=1)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The most probable class of each sample (N,)."""
        return self.classes[self.predict_proba(x).argmax(axis=1)]


def _probability(score_NK: np.ndarray) -> np.ndarray:
    return sigmoid(score_NK) if score_NK.shape[1] == 1 else softmax(score_NK)
