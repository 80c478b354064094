"""Gradient descent and what was added to it, each written out: where to go next, given the slope here.

Every method is an endless walk, a generator that gives the points it comes to, the first included. `walk` cuts it off.
With g the gradient at w, r the rate and powers of vectors taken number by number:

| method | step | why |
|---|---|---|
| plain | w -= r g | downhill is the steepest way at hand |
| momentum (Polyak 1964) | v = m v + g; w -= r v | what points the same way each time adds up, zigzags cancel |
| Nesterov (1983) | v = m v + g; w -= r (g + m v) | corrects by the slope that lies ahead |
| RMSProp (Hinton 2012) | s = a s + (1 - a) g^2; w -= r g / sqrt(s) | steep and flat directions at the same speed |
| Adam (Kingma and Ba 2015) | both means of g and g^2, freed of their start at 0 | momentum and scale together |
| Newton | w -= H^-1 g | jumps to where the parabola that fits here is level: a minimum, or a saddle |

All but Newton's are the same as torch.optim's, number for number.

>>> from cairn.foundations.descent import LANDSCAPES
>>> path = walk(LANDSCAPES["bowl"], "plain", rate=0.04, steps=100)
>>> path.shape, bool(np.linalg.norm(path[-1]) < 0.1)
((101, 2), True)

Shapes: w (2,); a path of S steps is (S + 1, 2).
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from cairn.foundations.descent.landscapes import Landscape

EPSILON = 1e-8  # keeps the division of RMSProp and Adam finite where the gradient was always 0
Walk = Iterator[np.ndarray]


def plain(land: Landscape, w: np.ndarray, rate: float) -> Walk:
    """Straight downhill, by the length of the slope."""
    while True:
        yield w
        w = w - rate * land.gradient(w)


def momentum(land: Landscape, w: np.ndarray, rate: float, keep: float = 0.9) -> Walk:
    """A heavy ball: the velocity is a sum of gradients that fades by `keep` per step."""
    velocity = np.zeros_like(w)
    while True:
        yield w
        velocity = keep * velocity + land.gradient(w)
        w = w - rate * velocity


def nesterov(land: Landscape, w: np.ndarray, rate: float, keep: float = 0.9) -> Walk:
    """Momentum that looks ahead.

    Nesterov takes the gradient not at w but where the velocity is about to lead, w - r m v. With the points ahead as the
    path (Sutskever et al. 2013, as frameworks do it) that gradient is the one at hand, and the step is along g + m v.
    """
    velocity = np.zeros_like(w)
    while True:
        yield w
        gradient = land.gradient(w)
        velocity = keep * velocity + gradient
        w = w - rate * (gradient + keep * velocity)


def rmsprop(land: Landscape, w: np.ndarray, rate: float, keep: float = 0.99) -> Walk:
    """The gradient over the root of its mean square: every direction moves by about `rate`, however steep."""
    square = np.zeros_like(w)
    while True:
        yield w
        gradient = land.gradient(w)
        square = keep * square + (1 - keep) * gradient**2
        w = w - rate * gradient / (np.sqrt(square) + EPSILON)


def adam(land: Landscape, w: np.ndarray, rate: float, keep: float = 0.9, keep_square: float = 0.999) -> Walk:
    """Momentum over root mean square.

    Both means start at 0 and are too small at first: after t steps they hold 1 - keep^t of the whole weight, so they are
    divided by that.
    """
    mean, square = np.zeros_like(w), np.zeros_like(w)
    step = 0
    while True:
        yield w
        gradient, step = land.gradient(w), step + 1
        mean = keep * mean + (1 - keep) * gradient
        square = keep_square * square + (1 - keep_square) * gradient**2
        unbiased, spread = mean / (1 - keep**step), np.sqrt(square / (1 - keep_square**step))
        w = w - rate * unbiased / (spread + EPSILON)


def newton(land: Landscape, w: np.ndarray, rate: float = 1.0) -> Walk:
    """The way to the level point of the parabola through here: one step on a bowl, whatever its condition.

    With a rate below 1 only a part of that way. It is drawn to saddles, where the gradient is 0 as well, and is of no use
    where the Hessian cannot be inverted (LinAlgError); of n weights, the Hessian has n^2 numbers.
    """
    while True:
        yield w
        w = w - rate * np.linalg.solve(land.hessian(w), land.gradient(w))


METHODS: dict[str, Callable[..., Walk]] = {
    "plain": plain,
    "momentum": momentum,
    "Nesterov": nesterov,
    "RMSProp": rmsprop,
    "Adam": adam,
    "Newton": newton,
}


def walk(land: Landscape, method: str, rate: float, steps: int, start: np.ndarray | None = None) -> np.ndarray:
    """The first `steps` steps from `start` (the landscape's own when not given): a path (steps + 1, 2).

    ValueError: an unknown method, steps below 0, a start that is no point, a walk that left for infinity, or one of Newton's
    that came to where the Hessian cannot be inverted.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if steps < 0:
        raise ValueError(f"a walk of {steps} steps: give 0 or more")
    first = np.array(land.start if start is None else start, dtype=np.float64)
    if first.shape != (2,) or not np.isfinite([*first, rate]).all():
        raise ValueError(f"from {first.tolist()} at rate {rate}: give two finite numbers, and a finite rate")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            path = np.array(list(islice(METHODS[method](land, first, rate), steps + 1)))
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{method} on {land.name} came to a point whose Hessian cannot be inverted: start elsewhere"
        ) from None
    if not np.isfinite(path).all():
        step = int(np.argmin(np.isfinite(path).all(axis=1)))
        raise ValueError(f"{method} on {land.name} left for infinity at step {step}: lower the rate, {rate:g}")
    return path
