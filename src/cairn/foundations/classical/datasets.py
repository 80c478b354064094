"""Real data that scikit-learn brings along: nothing is downloaded.

| name | samples | features | what is predicted |
|---|---|---|---|
| iris | 150 | 4 lengths of a flower | one of 3 species |
| wine | 178 | 13 chemical measurements | one of 3 growers |
| breast-cancer | 569 | 30 measurements of cells | malignant or benign |
| digits | 1797 | 8 x 8 grey values of a handwritten digit | one of 10 digits |
| diabetes | 442 | 10 of a patient | progress of the disease, a number |

>>> data = load("wine")
>>> data.x.shape, data.classes, data.names[:2]
((178, 13), ['class_0', 'class_1', 'class_2'], ['alcohol', 'malic_acid'])
"""

from typing import NamedTuple

import numpy as np

from cairn.foundations.classical.library import library

NAMES = ("iris", "wine", "breast-cancer", "digits", "diabetes")


class Dataset(NamedTuple):
    """Features x (N, D) float64; targets y (N,): class numbers, or the numbers to predict where there are no classes."""

    name: str
    x: np.ndarray
    y: np.ndarray
    classes: list[str]
    names: list[str]  # of the features


def load(name: str) -> Dataset:
    """One of `NAMES`."""
    if name not in NAMES:
        raise ValueError(f"there is no data {name!r}; known: {', '.join(NAMES)}")
    found = getattr(library("datasets"), f"load_{name.replace('-', '_')}")()
    classes = [str(c) for c in getattr(found, "target_names", [])]
    return Dataset(name, found.data.astype(np.float64), found.target, classes, [str(n) for n in found.feature_names])
