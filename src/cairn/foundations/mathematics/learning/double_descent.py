"""Beyond the point where a model can fit everything: the error falls a second time.

With as many features as examples there is exactly one model that fits every example, noise included, and it swings wildly
between them. With more there are many, and least squares by the pseudo-inverse takes the one with the smallest weights, which is
the smoother the more there are to choose from. So the test error climbs to a peak at the interpolation threshold and comes
down again (Belkin et al. 2019; Hastie et al. 2022). What that says of large networks: the number of weights alone does not make
a model too supple.

>>> few, even, many = errors_by_width([20, 60, 600], examples=60, repeats=5, rng=np.random.default_rng(0))
>>> bool(even > 5 * few and even > 5 * many)
True

Shapes: N examples, D inputs, F features.
"""

from collections.abc import Sequence

import numpy as np

from cairn.foundations.mathematics.checks import count

INPUTS, NOISE, TEST = 20, 0.5, 1000


def random_features(x_ND: np.ndarray, directions_DF: np.ndarray) -> np.ndarray:
    """(N, F): ReLU of x along fixed random directions: a hidden layer that is never trained."""
    return np.maximum(x_ND @ directions_DF, 0.0)


def errors_by_width(widths: Sequence[int], examples: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """(len(widths),): the mean squared error on new data, without their noise, of the smallest weights that fit best.

    The truth is linear in 20 inputs; the median over `repeats` draws of everything, since the peak has heavy tails.
    """
    examples, repeats = count(examples, "examples", 2), count(repeats, "repeats")
    sizes = [count(width, "width") for width in widths]
    errors = np.zeros((repeats, len(sizes)))
    for r in range(repeats):
        slope_D = rng.standard_normal(INPUTS) / np.sqrt(INPUTS)
        x_ND, test_TD = rng.standard_normal((examples, INPUTS)), rng.standard_normal((TEST, INPUTS))
        y_N = x_ND @ slope_D + NOISE * rng.standard_normal(examples)
        for w, size in enumerate(sizes):
            directions_DF = rng.standard_normal((INPUTS, size)) / np.sqrt(INPUTS)
            # LAPACK's, for its speed: hundreds of systems are solved here. `linear.solve_svd` finds the same.
            weights_F, *_ = np.linalg.lstsq(random_features(x_ND, directions_DF), y_N, rcond=None)
            predicted_T = random_features(test_TD, directions_DF) @ weights_F
            errors[r, w] = ((predicted_T - test_TD @ slope_D) ** 2).mean()
    return np.median(errors, axis=0)
