"""Why these methods fail on images and on text, shown by measurement.

They take a sample as a list of numbers, each with a meaning of its own. Images and sentences are not such lists:

- *Shifted.* Move the picture by a pixel, and every number changes while the digit is the same. What was learned about one
  pixel says nothing about its neighbour. A network of convolutions asks the same questions at every place and takes the
  largest answer, wherever it came from: trained on the same pictures, it hardly notices.
- *Shuffled.* Put all pixels of all pictures into one random order, and a person sees nothing, while the score stays: that
  pixels are neighbours was never used.
- *Order of words.* Counts of words are the same for "dog bites man" and "man bites dog". Whatever is learned from them
  gives both one answer, so that of two opposite truths one is always missed.
- *Many dimensions.* Among many features that say nothing, all samples are about equally far from each other, and the
  nearest is nearest by accident.

>>> counts, places = word_order(rng=np.random.default_rng(0)).values()
>>> counts.value, places.value > 0.8
(0.5, True)
"""

import itertools
from collections.abc import Sequence
from typing import Self

import numpy as np

from cairn.foundations.classical.cross_validation import Score, folds, out_of_fold, score_of
from cairn.foundations.classical.datasets import load
from cairn.foundations.classical.library import library
from cairn.foundations.classical.logistic import LogisticRegression
from cairn.foundations.classical.splits import train_validation_test
from cairn.foundations.classical.standardise import Estimator
from cairn.foundations.network import (
    Adam,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    ReLU,
    Sequential,
    cross_entropy,
    fit,
    predict,
)

NOUNS = ("dog", "man", "cat", "bird", "fish", "horse", "child", "fox", "wolf", "bear", "snake", "mouse")


def shift(images_NHW: np.ndarray, right: int) -> np.ndarray:
    """Every image moved to the right; what leaves is lost, what enters is 0.

    >>> shift(np.array([[[1, 2, 3]]]), 1)
    array([[[0, 1, 2]]])
    """
    return np.pad(images_NHW, ((0, 0), (0, 0), (right, 0)))[:, :, : images_NHW.shape[2]]


class Convolutions:
    """Three convolutions of the chapter `network`, the largest answer over all places, one dense layer; 8 x 8 grey values of
    0 to 16. Nothing is moved while it trains."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        rng, filters = np.random.default_rng(0), (1, 16, 32, 32)
        layers = [
            layer
            for before, after in itertools.pairwise(filters)
            for layer in (Conv2d(before, after, 3, rng, padding=1, bias=False), BatchNorm(after), ReLU())
        ]
        dense = Dense(filters[-1], 10, rng)
        self.network = Sequential(*layers, MaxPool2d(8), Flatten(), dense).astype(np.float32)
        optimizer = Adam(self.network.parameters(), lr=3e-3)
        fit(self.network, cross_entropy, optimizer, self._images(x), y, epochs=12, batch_size=32, rng=rng)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return predict(self.network, self._images(x)).argmax(axis=1)

    def _images(self, x: np.ndarray) -> np.ndarray:
        return (x / 16).reshape(-1, 1, 8, 8).astype(np.float32)


def shifted(pixels: Sequence[int] = (0, 1, 2), seed: int = 0) -> dict[str, list[Score]]:
    """Method -> its scores on test digits that are moved by so many of 8 pixels; learned from digits at their place."""
    data = load("digits")
    rng = np.random.default_rng(seed)
    train, test = train_validation_test(len(data.y), rng, shares=(0.7, 0.3), classes=data.y)
    models: dict[str, Estimator] = {
        "logistic regression": LogisticRegression(l2=1e-2, tolerance=1e-5),
        "k-NN": library("neighbors").KNeighborsClassifier(5),
        "random forest": library("ensemble").RandomForestClassifier(100, random_state=0),
        "SVM": library("svm").SVC(),
        "convolutions": Convolutions(),
    }
    images_NHW = data.x[test].reshape(-1, 8, 8)
    found = {}
    for name, model in models.items():
        model.fit(data.x[train], data.y[train])
        moved = [shift(images_NHW, n).reshape(len(test), 64) for n in pixels]
        found[name] = [score_of(data.y[test], model.predict(x)) for x in moved]
    return found


def shuffled(seed: int = 0) -> tuple[Score, Score]:
    """Logistic regression on the digits as they are, and with all pixels in one random order."""
    data = load("digits")
    rng = np.random.default_rng(seed)
    order = rng.permutation(data.x.shape[1])
    parts = folds(len(data.y), 5, rng, classes=data.y)
    scores = [
        score_of(data.y, out_of_fold(lambda: LogisticRegression(l2=1e-2, tolerance=1e-6), x, data.y, parts))
        for x in (data.x, data.x[:, order])
    ]
    return scores[0], scores[1]


def word_order(*, rng: np.random.Generator) -> dict[str, Score]:
    """ "A bites B": is A the stronger of the two? Learned from counts of words, and from counts of word and place.

    The test has pairs that were never seen, both ways round.
    """
    strength = dict(zip(rng.permutation(NOUNS), range(len(NOUNS))))
    pairs = [(a, b) for a, b in itertools.permutations(NOUNS, 2)]
    y = np.array([int(strength[a] > strength[b]) for a, b in pairs])
    first, second = (np.array([[noun == pair[i] for noun in NOUNS] for pair in pairs], dtype=float) for i in (0, 1))
    who = ["-".join(sorted(pair)) for pair in pairs]
    features = {"counts of words": first + second, "words with their place": np.concatenate([first, second], axis=1)}
    parts = folds(len(y), 6, rng, groups=who)
    return {
        name: score_of(y, out_of_fold(lambda: LogisticRegression(l2=1e-3), x, y, parts)) for name, x in features.items()
    }


def many_dimensions(
    useless: Sequence[int] = (0, 10, 30, 100, 300, 1000), samples: int = 400, *, rng: np.random.Generator
) -> list[tuple[int, Score, float]]:
    """For so many useless features beside two good ones: the score of k-NN, and the distance of the nearest sample
    as a share of that of the farthest (1: all are equally near)."""
    y = rng.permutation(np.arange(samples) % 2)
    good = rng.normal(size=(samples, 2)) + 3.0 * y[:, None]
    noise = rng.normal(size=(samples, max(useless)))
    found = []
    for count in useless:
        x = np.concatenate([good, noise[:, :count]], axis=1)
        said = out_of_fold(
            lambda: library("neighbors").KNeighborsClassifier(5), x, y, folds(samples, 5, rng, classes=y)
        )
        distance = np.linalg.norm(x[1:] - x[0], axis=1)
        found.append((count, score_of(y, said), float(distance.min() / distance.max())))
    return found
