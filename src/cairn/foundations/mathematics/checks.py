"""What every chapter asks of its numbers before it computes: a clear word now, instead of a NaN later.

Each function gives its argument back as a float64 array, or says in one line what is wrong with it and what to do.

>>> as_matrix([[1, 2], [3, 4]])
array([[1., 2.],
       [3., 4.]])
>>> as_probabilities([0.5, 0.6])
Traceback (most recent call last):
    ...
ValueError: p sums to 1.1, a distribution to 1: divide it by its sum
"""

import numpy as np
from numpy.typing import ArrayLike

SUM = 1e-9  # how far from 1 probabilities may sum: rounding of thousands of terms, not a forgotten outcome
SYMMETRY = 1e-10  # relative to the largest entry


def as_array(x: ArrayLike, name: str = "x", finite: bool = True) -> np.ndarray:
    """At least one number, none of them NaN, and with `finite` none infinite."""
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is no array of real numbers: give numbers in rows of equal length") from None
    if not array.size:
        raise ValueError(f"{name} is empty: give at least one number")
    if np.isnan(array).any() or (finite and not np.isfinite(array).all()):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f" at {list(where)}" if where else ""
        raise ValueError(f"{name} has the value {array[where]}{place}: leave it out or replace it")
    return array


def as_vector(x: ArrayLike, name: str = "x", length: int | None = None) -> np.ndarray:
    """(N,), where `length` says which N."""
    array = as_array(x, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: give a vector (one dimension)")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} has {len(array)} numbers where {length} are needed")
    return array


def as_matrix(a: ArrayLike, name: str = "a") -> np.ndarray:
    """(M, N)."""
    array = as_array(a, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: give a matrix (two dimensions)")
    return array


def as_square(a: ArrayLike, name: str = "a") -> np.ndarray:
    """(N, N)."""
    array = as_matrix(a, name)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} has shape {array.shape}: give a square matrix, as {name}.T @ {name} would be")
    return array


def as_symmetric(a: ArrayLike, name: str = "a") -> np.ndarray:
    """(N, N), equal to its transpose up to rounding, and made exactly so."""
    array = as_square(a, name)
    gap = np.abs(array - array.T).max()
    if gap > SYMMETRY * np.abs(array).max():
        raise ValueError(f"{name} differs from its transpose by {gap:.3g}: give a symmetric matrix")
    return array / 2 + array.T / 2


def as_probabilities(p: ArrayLike, name: str = "p", axis: int | tuple[int, ...] | None = -1) -> np.ndarray:
    """None negative, and the sum over `axis` is 1 (None: over the whole table)."""
    array = as_array(p, name)
    if not array.ndim:
        raise ValueError(f"{name} is a single number: give the probabilities of all outcomes")
    if array.min() < 0:
        raise ValueError(f"{name} has the probability {array.min():.6g}: probabilities are 0 or more")
    sums = np.atleast_1d(array.sum(axis=axis))
    worst = float(sums[np.abs(sums - 1).argmax()])
    if abs(worst - 1) > SUM:
        raise ValueError(f"{name} sums to {worst:.10g}, a distribution to 1: divide it by its sum")
    return array


def number(value: float, name: str, finite: bool = True) -> float:
    """One number, not an array of them."""
    array = as_array(value, name, finite)
    if array.ndim:
        raise ValueError(f"{name} has shape {array.shape}: give a single number")
    return float(array)


def positive(value: float, name: str) -> float:
    """A number above 0."""
    found = number(value, name, finite=False)
    if not 0 < found < np.inf:
        raise ValueError(f"{name} is {value}: give a number above 0")
    return found


def count(value: int, name: str, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    found = number(value, name, finite=False)
    if not found.is_integer() or found < least or (most is not None and found > most):
        limit = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ValueError(f"{name} is {value}: give a whole number {limit}")
    return int(found)
