"""k-means: samples into groups, each around its mean (Lloyd 1957).

Two steps that both make the sum of squared distances smaller, so that it comes to rest: every sample goes to the nearest
centre, every centre to the mean of its samples. Where it comes to rest depends on the start. k-means++ (Arthur and
Vassilvitskii 2007) draws each next centre among the samples with a chance that grows with the squared distance to the
nearest one so far; the sum is then on average within 8 (ln k + 2) times the best there is, before the first step.

>>> rng = np.random.default_rng(0)
>>> x = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(30, 2)) + 10])
>>> found = kmeans(x, 2, rng=rng)
>>> np.bincount(found.labels).tolist() in ([20, 30], [30, 20])
True

Checked against sklearn.cluster from the same start. Shapes: N samples, D features, K centres.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cairn.foundations.classical.standardise import as_features


class Clusters(NamedTuple):
    """centres (K, D), the nearest of each sample (N,), the sum of squared distances to them, and the steps it took."""

    centres: np.ndarray
    labels: np.ndarray
    inertia: float
    steps: int


def squared_distances(x_ND: np.ndarray, centres_KD: np.ndarray) -> np.ndarray:
    """(N, K), as |x|^2 - 2 x c + |c|^2: one matrix product; what rounding makes negative is 0."""
    square_NK = (x_ND**2).sum(axis=1)[:, None] - 2 * x_ND @ centres_KD.T + (centres_KD**2).sum(axis=1)
    return square_NK.clip(min=0)


def spread_start(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: `count` samples that lie apart (K, D)."""
    centres = [x[rng.integers(len(x))]]
    nearest_N = squared_distances(x, centres[0][None])[:, 0]
    for _ in range(count - 1):
        total = nearest_N.sum()
        chance_N = nearest_N / total if total > 0 else None  # fewer different samples than centres: any will do
        centres.append(x[rng.choice(len(x), p=chance_N)])
        nearest_N = np.minimum(nearest_N, squared_distances(x, centres[-1][None])[:, 0])
    return np.stack(centres)


def kmeans(
    x: ArrayLike,
    count: int,
    *,
    start: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    max_steps: int = 300,
) -> Clusters:
    """x (N, D) into `count` groups, from `start` (K, D), or from k-means++ by `rng`; at rest, or after max_steps."""
    x_ND = as_features(x)
    if not 1 <= count <= len(x_ND):
        raise ValueError(f"{count} groups of {len(x_ND)} samples: there must be at least 1, and no more than samples")
    # Around 0: far from it, |x|^2 - 2 x c + |c|^2 is a small difference of large numbers, lost in their rounding.
    middle_D = x_ND.mean(axis=0)
    x_ND = x_ND - middle_D
    if start is not None:
        centres_KD = as_features(start, x_ND.shape[1]) - middle_D
    elif rng is not None:
        centres_KD = spread_start(x_ND, count, rng)
    else:
        raise ValueError("give a start, or rng=np.random.default_rng(seed) to draw one")
    if centres_KD.shape != x_ND[:count].shape:
        raise ValueError(f"start of shape {centres_KD.shape}: {count} centres of {x_ND.shape[1]} features are needed")
    labels_N, steps = np.full(len(x_ND), -1), 0
    while steps < max_steps:
        square_NK = squared_distances(x_ND, centres_KD)
        nearest_N = square_NK.argmin(axis=1)
        if (nearest_N == labels_N).all():
            break
        labels_N, steps = nearest_N, steps + 1
        centres_KD = _means(x_ND, labels_N, square_NK)
    square_NK = squared_distances(x_ND, centres_KD)
    return Clusters(centres_KD + middle_D, square_NK.argmin(axis=1), float(square_NK.min(axis=1).sum()), steps)


def _means(x_ND: np.ndarray, labels_N: np.ndarray, square_NK: np.ndarray) -> np.ndarray:
    """The mean of each group (K, D). A group that nobody is nearest to takes the sample that is farthest from its centre."""
    groups = square_NK.shape[1]
    distance_N, labels_N = square_NK[np.arange(len(x_ND)), labels_N], labels_N.copy()
    for group in np.flatnonzero(np.bincount(labels_N, minlength=groups) == 0):
        others_N = np.bincount(labels_N, minlength=groups)[labels_N] > 1  # whoever is alone stays
        sample = np.where(others_N, distance_N, -1).argmax()
        labels_N[sample], distance_N[sample] = group, 0.0
    return np.stack([x_ND[labels_N == group].mean(axis=0) for group in range(groups)])
