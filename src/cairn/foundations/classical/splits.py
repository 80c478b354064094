"""Which samples are learned from and which are kept to test: the difference between knowing and remembering.

Three parts for one model: training (weights), validation (choices: how many neighbours, how much L2), test (the figure that
is reported, looked at once). Where data is scarce, folds: each sample is tested once, by a model that never saw it, and
trained on in all other folds.

A split must put apart what will be apart in use. *Stratified*: each part has every class in its share, so that a rare class
is not missing from the test by chance. *Grouped*: all samples of one patient, speaker or document lie on one side; else the
test asks about somebody who is already known.

>>> rng = np.random.default_rng(0)
>>> [len(part) for part in train_validation_test(10, rng, shares=(0.6, 0.2, 0.2))]
[6, 2, 2]
>>> for train, test in folds(6, 3, rng, groups=["a", "a", "b", "b", "b", "c"]):
...     print(train, test)
[0 1 5] [2 3 4]
[2 3 4 5] [0 1]
[0 1 2 3 4] [5]

Shapes: N samples, G groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def train_validation_test(
    samples: int, rng: np.random.Generator, shares: Sequence[float] = (0.6, 0.2, 0.2), classes: ArrayLike | None = None
) -> list[np.ndarray]:
    """The numbers of the samples of each part, which has its share of them; with `classes` (N,) of each class."""
    if abs(sum(shares) - 1) > 1e-9 or min(shares) < 0:
        raise ValueError(f"shares {tuple(shares)} must not be negative and sum to 1")
    order_N = _shuffled(samples, rng, classes)
    part_N, behind = np.empty(samples, dtype=np.int64), np.zeros(len(shares))
    for sample in order_N:  # each to the part that is furthest behind its share: no class rounds a part away
        behind += shares
        part_N[sample] = behind.argmax()
        behind[part_N[sample]] -= 1
    parts = [np.flatnonzero(part_N == number) for number in range(len(shares))]
    empty = [share for share, part in zip(shares, parts) if share > 0 and len(part) == 0]
    if empty:
        raise ValueError(f"{samples} samples are too few: the part with a share of {empty[0]} has none")
    return parts


def folds(
    samples: int,
    count: int,
    rng: np.random.Generator,
    *,
    classes: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` times the numbers of the samples to train on and to test with; each sample is tested once.

    classes (N,): every fold has them in equal shares. groups (N,): those of a group are in one fold.
    """
    if not 2 <= count <= samples:
        raise ValueError(f"{count} folds of {samples} samples: at least 2, and no more than samples")
    if classes is not None and groups is not None:
        raise ValueError(
            "folds are made by classes or by groups, not by both: whole groups decide what classes they hold"
        )
    fold_N = _by_group(np.asarray(groups), count, rng) if groups is not None else _dealt(samples, count, rng, classes)
    if len(fold_N) != samples:
        raise ValueError(f"{len(fold_N)} groups named for {samples} samples: give one for each")
    return [(np.flatnonzero(fold_N != number), np.flatnonzero(fold_N == number)) for number in range(count)]


def _shuffled(samples: int, rng: np.random.Generator, classes: ArrayLike | None) -> np.ndarray:
    """In random order, with `classes` one class after the other."""
    if classes is None:
        return rng.permutation(samples)
    classes_N = np.asarray(classes)
    if classes_N.shape != (samples,):
        raise ValueError(f"classes of shape {classes_N.shape} for {samples} samples: give one for each")
    return np.concatenate([rng.permutation(np.flatnonzero(classes_N == c)) for c in np.unique(classes_N)])


def _dealt(samples: int, count: int, rng: np.random.Generator, classes: ArrayLike | None) -> np.ndarray:
    """Shuffled, then dealt like cards, class after class: no fold has two more of a class, or in all, than another."""
    order_N = _shuffled(samples, rng, classes)
    fold_N = np.empty(samples, dtype=np.int64)
    fold_N[order_N] = np.arange(samples) % count
    return fold_N


def _by_group(groups_N: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The largest group first, each into the fold that has the fewest samples; equals in random order."""
    _, number_N = np.unique(groups_N, return_inverse=True)
    size_G = np.bincount(number_N)
    if len(size_G) < count:
        raise ValueError(f"{len(size_G)} groups cannot fill {count} folds: use at most as many folds as groups")
    shuffled_G = rng.permutation(len(size_G))
    fold_G, load = np.empty(len(size_G), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for group in shuffled_G[np.argsort(-size_G[shuffled_G], kind="stable")]:
        fold_G[group] = load.argmin()
        load[fold_G[group]] += size_G[group]
    return fold_G[number_N]
