"""Handwritten digits, in three parts: to learn from, to choose by, and to say at the end how good it is.

scikit-learn brings 1,797 digits of 8 x 8 pixels, of 43 people (UCI, Alpaydin and Kaynak 1998); MNIST's files have 28 x 28.
The parts are drawn once, by class, from a fixed seed: 70 % to train on, 10 % to choose settings by, 20 % for the test, which
is looked at last.

>>> split = load_digits()
>>> [part.shape for part in (split.train_x, split.validation_x, split.test_x)]
[(1258, 1, 8, 8), (180, 1, 8, 8), (359, 1, 8, 8)]
"""

from typing import NamedTuple

import numpy as np

from cairn.foundations.data.batches import stratified_split

SHARES = (0.7, 0.1, 0.2)
SPLIT_SEED = 0


class Split(NamedTuple):
    """Pictures (N, C, H, W), float32 from 0 to 1, and their classes (N,)."""

    train_x: np.ndarray
    train_y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def split_images(
    x_NCHW: np.ndarray, y_N: np.ndarray, shares: tuple[float, float, float] = SHARES, seed: int = SPLIT_SEED
) -> Split:
    """Pictures of bytes or of floats from 0 to 1, as three parts with the same shares of each class.

    ValueError: another number of classes than of pictures, or too few for three parts.
    """
    if len(x_NCHW) != len(y_N):
        raise ValueError(f"{len(x_NCHW)} pictures and {len(y_N)} classes: each picture needs one")
    x_NCHW = x_NCHW.astype(np.float32) / (255 if x_NCHW.dtype == np.uint8 else 1)
    train, validation, test = stratified_split(y_N, shares, seed)
    if not (len(train) and len(validation) and len(test)):
        raise ValueError(
            f"{len(y_N)} pictures give parts of {len(train)}, {len(validation)} and {len(test)}; each needs at least 1"
        )
    return Split(x_NCHW[train], y_N[train], x_NCHW[validation], y_N[validation], x_NCHW[test], y_N[test])


def load_digits() -> Split:
    """scikit-learn's digits. ValueError where it is not installed."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise ValueError(
            "the digits come with scikit-learn, which is not installed: pip install 'cairn[foundations]'"
        ) from None
    x_NP, y_N = load(return_X_y=True)
    return split_images((np.asarray(x_NP) / 16).reshape(-1, 1, 8, 8), np.asarray(y_N, dtype=np.int64))
