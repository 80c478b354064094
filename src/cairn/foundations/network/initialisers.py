"""Where weights begin: random, and of a spread that neither blows signals up nor lets them die.

A layer sums fan_in products. Of inputs with mean square q and independent weights of variance s^2 that sum has variance
fan_in s^2 q, so signals keep their size when s^2 = 1 / fan_in (LeCun); gradients, which run the other way, keep theirs when
s^2 = 1 / fan_out. Xavier (Glorot and Bengio 2010) takes the mean of both: s^2 = 2 / (fan_in + fan_out). A ReLU sets half of
its inputs to 0 and halves the mean square, so He et al. (2015) double: s^2 = 2 / fan_in. The factor for what follows is its
`gain`, squared.

Shapes: weights are (outputs, inputs) or (outputs, inputs, height, width), as torch has them.

>>> rng = np.random.default_rng(0)
>>> def size_after_30_layers(make):
...     x = rng.normal(size=(100, 64))
...     for _ in range(30):
...         x = np.maximum(x @ make((64, 64), rng).T, 0)
...     return float(np.sqrt((x**2).mean()))
>>> bool(size_after_30_layers(xavier_normal) < 1e-3), bool(0.1 < size_after_30_layers(he_normal) < 10)
(True, True)
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Initialiser = Callable[[Sequence[int], np.random.Generator], np.ndarray]  # (shape, generator) -> float64 array


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs a value of the output has, and the other way round."""
    if len(shape) < 2:
        raise ValueError(f"weights of a layer have at least 2 dimensions, got shape {tuple(shape)}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def gain(activation: str, slope: float = 0.01) -> float:
    """Factor on the spread for what follows the layer, as torch.nn.init.calculate_gain. slope: of a leaky ReLU."""
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    gains |= {"leaky-relu": math.sqrt(2 / (1 + slope**2)), "selu": 3 / 4}
    if activation not in gains:
        raise ValueError(f"no gain is known for {activation!r}; known: {', '.join(gains)}")
    return gains[activation]


def normal(shape: Sequence[int], rng: np.random.Generator, std: float = 0.02) -> np.ndarray:
    """Normal with standard deviation `std`."""
    return rng.normal(0.0, std, size=tuple(shape))


def uniform(shape: Sequence[int], rng: np.random.Generator, std: float) -> np.ndarray:
    """Even between -sqrt(3) std and sqrt(3) std, whose standard deviation is `std`."""
    bound = math.sqrt(3) * std
    return rng.uniform(-bound, bound, size=tuple(shape))


def xavier_normal(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """torch.nn.init.xavier_normal_."""
    return normal(shape, rng, gain * math.sqrt(2 / sum(fans(shape))))


def xavier_uniform(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """torch.nn.init.xavier_uniform_."""
    return uniform(shape, rng, gain * math.sqrt(2 / sum(fans(shape))))


def he_normal(shape: Sequence[int], rng: np.random.Generator, gain: float = math.sqrt(2)) -> np.ndarray:
    """torch.nn.init.kaiming_normal_ for a ReLU."""
    return normal(shape, rng, gain / math.sqrt(fans(shape)[0]))


def he_uniform(shape: Sequence[int], rng: np.random.Generator, gain: float = math.sqrt(2)) -> np.ndarray:
    """torch.nn.init.kaiming_uniform_ for a ReLU."""
    return uniform(shape, rng, gain / math.sqrt(fans(shape)[0]))


def gpt2(shape: Sequence[int], rng: np.random.Generator, layers: int = 0) -> np.ndarray:
    """GPT-2's: normal with 0.02; weights that add to the residual stream, two in each of `layers` blocks, are divided by
    sqrt(2 layers), because the variances of all those sums add up (Radford et al. 2019, section 2.3)."""
    return normal(shape, rng, 0.02 / math.sqrt(max(2 * layers, 1)))


def orthogonal(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """Rows (or columns, where those are fewer) at right angles and of length `gain`: torch.nn.init.orthogonal_ (Saxe et
    al. 2014). A product of such matrices neither grows nor shrinks, however deep."""
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    # QR leaves the signs to the algorithm; with r's diagonal positive, q is evenly spread over all rotations.
    q = q * np.sign(np.diag(r))
    return gain * (q if rows >= columns else q.T).reshape(tuple(shape))
