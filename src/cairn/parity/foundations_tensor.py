"""NumPy tensors against torch in float64: value, gradients, and derivatives to third order of what is smooth.

Sizes of shapes are drawn so that no two axes are alike (an axis taken for another is an error that equal sizes hide), and both
operands of what broadcasts are stretched. The gradient that comes in is random, so that a sum over it hides nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cairn.foundations import tensor as ours
from cairn.parity import Check

Draw = Callable[[np.random.Generator], list[np.ndarray]]
Case = tuple[Callable[..., Any], Callable[..., Any], Draw]  # ours, torch's, and the inputs of both
TOLERANCE = 1e-10
FEW = 4  # of fewer values the spread can be next to 0, and third derivatives of what is divided by it next to infinite


def sizes(rng: np.random.Generator, count: int, low: int = 2) -> list[int]:
    """Different sizes."""
    return (low + rng.permutation(count + 3)[:count]).tolist()


def largest(pairs: Sequence[tuple[Any, Any]]) -> float:
    """Largest difference, infinite where shapes are not the same or NaN is met."""
    worst = 0.0
    for mine, theirs in pairs:
        mine, theirs = np.asarray(mine), np.asarray(theirs.detach())
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype or not np.isfinite(mine).all():
            return float("inf")
        worst = max(worst, float(np.abs(mine - theirs).max(initial=0.0)))
    return worst


def compare(f: Callable[..., Any], oracle: Callable[..., Any], draw: Draw, order: int = 1) -> Callable[[int], float]:
    """Value and gradients; from order 2 on, the derivatives of a random weighted sum of the gradients before."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        arrays = draw(rng)
        mine = [ours.Tensor(array, requires_grad=True) for array in arrays]
        theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
        y, wanted = f(*mine), oracle(*theirs)
        pairs = [(y.data, wanted)]
        outputs, targets = [y], [wanted]
        for level in range(1, order + 1):
            weights = [rng.normal(size=out.shape) for out in outputs]
            last = level == order
            if order > 1 and level == 1:  # a bend, so that linear operations have higher derivatives too
                outputs, targets = [ours.sin(y)], [torch.sin(wanted)]
            total = sum(((out * w).sum() for out, w in zip(outputs, weights)), ours.Tensor(0.0))
            goal = torch.stack([(out * torch.tensor(w)).sum() for out, w in zip(targets, weights)]).sum()
            if last and order == 1:
                total.backward()
                outputs = [ours.Tensor(x.grad) for x in mine]
            else:
                outputs = ours.grad(total, mine, create_graph=not last, allow_unused=True)
            targets = list(
                torch.autograd.grad(goal, theirs, create_graph=not last, allow_unused=True, materialize_grads=True)
            )
            pairs += [(out.data, target) for out, target in zip(outputs, targets)]
        return largest(pairs)

    return run


def normal(*counts: int, low: int = 2) -> Draw:
    """Arrays of as many axes, all sizes different."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        n = iter(sizes(rng, sum(counts), low))
        return [rng.normal(size=[next(n) for _ in range(count)]) for count in counts]

    return draw


def broadcast(low: float | None = None) -> Draw:
    """(A, 1, C) with (B, 1) or (1, C): both are stretched. low: positive values from there on."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        a, b, c = sizes(rng, 3)
        shapes = [[(a, 1, c), (b, 1)], [(b, 1), (a, 1, c)], [(c,), (a, b, c)], [(a, b, c), ()]][rng.integers(4)]
        return [rng.normal(size=shape) if low is None else rng.uniform(low, 3.0, shape) for shape in shapes]

    return draw


def positive(count: int) -> Draw:
    return lambda rng: [rng.uniform(0.6, 3.0, sizes(rng, count))]


def shaped(*shapes: str, low: int = 2) -> Draw:
    """Arrays whose axes are letters; each letter has its size, "1" is 1. Small values: third derivatives of sums of many
    products are large, and what they lose to rounding with them."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        letters = sorted(set("".join(shapes)) - {"1"})
        size = dict(zip(letters, sizes(rng, len(letters), low))) | {"1": 1}
        return [0.5 * rng.normal(size=[size[letter] for letter in shape]) for shape in shapes]

    return draw


def images(batch: int, channels: int, height: int, width: int) -> Draw:
    """One array (B, C, H, W), sizes a little more than these and all different."""
    return lambda rng: [rng.normal(size=np.add((batch, channels, height, width), rng.integers(0, 2)))]


def filtered(stride: int, padding: int, bias: bool) -> Case:
    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        channels, out, batch, tall, wide = 3, 4, 2, int(rng.integers(1, 4)), int(rng.integers(1, 5))
        shapes = [(batch, channels, 9, 11), (out, channels, tall, wide)] + [(out,)] * bias
        return [rng.normal(size=shape) for shape in shapes]

    return (
        lambda *a: ours.conv2d(*a, stride=stride, padding=padding),
        lambda *a: F.conv2d(*a, stride=stride, padding=padding),
        draw,
    )


def ties(shape: tuple[int, ...]) -> Draw:
    """Whole numbers, so that many values are equal."""
    return lambda rng: [rng.integers(-1, 3, shape).astype(float)]


def picked(index: Callable[[np.random.Generator], Any]) -> Case:
    """Both index by the same: drawn anew for each seed, from the data, since functions are not told the seed."""

    def of(x: Any) -> Any:
        values = np.asarray(x.detach().numpy() if isinstance(x, torch.Tensor) else x.data)
        return index(np.random.default_rng(int(abs(values.flat[0]) * 1e6)))

    def torch_index(x: Any) -> Any:
        found = of(x)
        parts = found if isinstance(found, tuple) else (found,)
        return tuple(torch.tensor(part) if isinstance(part, np.ndarray) else part for part in parts)

    return (
        lambda x: ours.getitem(x, of(x)),
        lambda x: x[torch_index(x)],
        lambda rng: [rng.normal(size=(5, 4, 6))],
    )


def weights_of_attention(q: Any, k: Any) -> Any:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)


def attend(**settings: Any) -> Case:
    """Batch and heads in front; queries and keys of different number."""
    theirs = dict(settings)
    if "causal" in theirs:
        theirs["is_causal"] = theirs.pop("causal")

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        b, h, t, s, d, e = sizes(rng, 6)
        return [rng.normal(size=shape) for shape in ((b, h, t, d), (b, h, s, d), (b, h, s, e))]

    def f(q: Any, k: Any, v: Any) -> Any:
        return ours.scaled_dot_product_attention(q, k, v, **settings)

    def oracle(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, **theirs)

    return f, oracle, draw


def masked(kind: str) -> Case:
    """A mask of truth values (B, 1, T, S), or one of numbers (H, 1, S) that is learned: broadcast over the scores."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        b, h, t, s, d, e = sizes(rng, 6)
        arrays = [rng.normal(size=shape) for shape in ((b, h, t, d), (b, h, s, d), (b, h, s, e))]
        return [*arrays, rng.normal(size=(h, 1, s))] if kind == "numbers" else arrays

    def mask(q: Any, k: Any) -> np.ndarray:
        b, t, s = q.shape[0], q.shape[2], k.shape[2]
        seen = np.arange(b * t * s).reshape(b, 1, t, s) % 3 != 0
        seen[0, 0, 0] = False  # one query sees nothing
        return seen

    if kind == "numbers":
        return ours.scaled_dot_product_attention, F.scaled_dot_product_attention, draw
    return (
        lambda q, k, v: ours.scaled_dot_product_attention(q, k, v, mask(q, k)),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(mask(q, k))),
        draw,
    )


def written_norm(x: Any, axes: Any, eps: float) -> Any:
    """Normalization in torch as a formula. The kernels of F.layer_norm and F.batch_norm give wrong third derivatives
    (2.13): those of this formula are others, and agree with finite differences."""
    return (x - x.mean(axes, True)) / torch.sqrt(x.var(axes, correction=0, keepdim=True) + eps)


def batch_norm(axes: int, training: bool, written: bool = False) -> Case:
    """The running mean and variance are among what is compared: their sum is added to the result. written: against the
    formula, see `written_norm`."""

    def running(x: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.linspace(-1, 1, x.shape[1]), np.linspace(0.5, 2, x.shape[1])

    def f(x: Any, w: Any, b: Any) -> Any:
        state = running(x)
        y = ours.batch_norm(x, w, b, state, training, 1e-4, 0.3)
        return y + (state[0] + 2 * state[1]).reshape(1, -1, *[1] * (axes - 2))

    def oracle(x: Any, w: Any, b: Any) -> Any:
        mean, variance = map(torch.tensor, running(x))
        y = F.batch_norm(x, mean, variance, w, b, training, 0.3, 1e-4)
        if written:  # what runs along is taken from the kernel, which has it right
            channel = (1, -1, *[1] * (axes - 2))
            y = written_norm(x, [axis for axis in range(axes) if axis != 1], 1e-4) * w.reshape(channel) + b.reshape(
                channel
            )
        return y + (mean + 2 * variance).reshape(1, -1, *[1] * (axes - 2))

    return f, oracle, shaped("BCHW"[:axes], "C", "C", low=FEW)


def einsums() -> dict[str, Case]:
    cases = {
        "ij,jk->ik": ("ij", "jk"),
        "bij,bjk->bik": ("bij", "bjk"),
        "bhqd,bhkd->bhqk": ("bhqd", "bhkd"),
        "ij,kj": ("ij", "kj"),
        "ij->j": ("ij",),
        "ij->": ("ij",),
        "i,j->ji": ("i", "j"),
        "ijk,jil,lm->km": ("ijk", "jil", "lm"),
        "a,ab,abc,c->b": ("a", "ab", "abc", "c"),
        "...ij,...jk->...ik": ("bcij", "1jk"),
        "...i,i...->...": ("abi", "ib"),
        "i...,...j": ("ia", "baj"),
        "ii->i": ("ii",),
        "ii": ("ii",),
        "iij,jk->ik": ("iij", "jk"),
        "iji,jj->j": ("iji", "jj"),
        "ij,ij->ij": ("ij", "ij"),
        "ij,jk,j->i": ("ij", "jk", "j"),
    }
    return {
        f"einsum {text}": (
            lambda *a, text=text: ours.einsum(text, *a),
            lambda *a, text=text: torch.einsum(text, *a),
            shaped(*shapes),
        )
        for text, shapes in cases.items()
    }


def repeats(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-5, 5, (7, 3))


_FLAT: dict[str, Case] = {
    "neg": (lambda x: -x, lambda x: -x, normal(2)),
    "abs": (abs, torch.abs, normal(2)),
    "exp": (ours.exp, torch.exp, normal(3)),
    "log": (ours.log, torch.log, positive(3)),
    "sqrt": (ours.sqrt, torch.sqrt, positive(3)),
    "sin": (ours.sin, torch.sin, normal(3)),
    "cos": (ours.cos, torch.cos, normal(3)),
    "tanh": (ours.tanh, torch.tanh, normal(3)),
    "sigmoid": (ours.sigmoid, torch.sigmoid, normal(3)),
    "silu": (ours.silu, F.silu, normal(3)),
    "softplus": (ours.softplus, F.softplus, normal(3)),
    "erf": (ours.erf, torch.erf, lambda rng: [rng.uniform(-6, 6, (50, 3))]),
    "gelu": (ours.gelu, F.gelu, lambda rng: [rng.uniform(-9, 9, (50, 3))]),
    "gelu, tanh": (
        lambda x: ours.gelu(x, approximate=True),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda rng: [rng.uniform(-9, 9, (50, 3))],
    ),
    "normal_cdf": (ours.normal_cdf, torch.special.ndtr, lambda rng: [rng.uniform(-9, 9, (50, 3))]),
    "add": (ours.add, torch.add, broadcast()),
    "sub": (ours.sub, torch.sub, broadcast()),
    "mul": (ours.mul, torch.mul, broadcast()),
    "div": (ours.div, torch.div, broadcast(0.5)),
    "pow": (ours.pow, torch.pow, broadcast(0.5)),
    "pow of a number": (lambda x: 2.0**x, lambda x: 2.0**x, normal(2)),
    "pow by numbers": (
        lambda x: x**2 + x**3 + x**-1.5 + x**0 + x**1,
        lambda x: x**2 + x**3 + x**-1.5 + x**0 + x**1,
        lambda rng: [rng.uniform(0.6, 1.4, (3, 4))],
    ),
    "matmul": (ours.matmul, torch.matmul, shaped("ij", "jk")),
    "matmul, vectors": (lambda a, b, c: (a @ b) * (a @ (b @ c)), lambda a, b, c: (a @ b) * (a @ (b @ c)), shaped("i", "ij", "j")),
    "matmul, inner product": (ours.matmul, torch.matmul, shaped("i", "i")),
    "matmul, stack by matrix": (ours.matmul, torch.matmul, shaped("bcij", "jk")),
    "matmul, matrix by stack": (ours.matmul, torch.matmul, shaped("ij", "bcjk")),
    "matmul, broadcast": (ours.matmul, torch.matmul, shaped("a1cij", "b1jk")),
    "matmul, stack by vector": (ours.matmul, torch.matmul, shaped("bij", "j")),
    "sum": (lambda x: ours.sum(x, (0, 2)), lambda x: x.sum((0, 2)), normal(3)),
    "sum of all": (ours.sum, torch.sum, normal(3)),
    "mean": (lambda x: ours.mean(x, -2, True), lambda x: x.mean(-2, True), normal(3)),
    "var": (lambda x: ours.var(x, (0, -1)), lambda x: x.var((0, -1), correction=0), normal(3)),
    "var, n - 1": (lambda x: ours.var(x, 1, True, 1), lambda x: x.var(1, keepdim=True), normal(3)),
    "cumsum": (lambda x: ours.cumsum(x, 1), lambda x: x.cumsum(1), normal(3)),
    "logsumexp": (lambda x: ours.logsumexp(x, (0, 2)), lambda x: x.logsumexp((0, 2)), normal(3)),
    "softmax": (lambda x: ours.softmax(x, 1), lambda x: x.softmax(1), normal(3)),
    "log_softmax": (ours.log_softmax, lambda x: x.log_softmax(-1), normal(3)),
    "reshape": (lambda x: ours.reshape(x, (-1, x.shape[0])), lambda x: x.reshape(-1, x.shape[0]), normal(3)),
    "transpose": (lambda x: ours.transpose(x, (2, 0, -2)), lambda x: x.permute(2, 0, -2), normal(3)),
    "transpose, reversed": (lambda x: x.T @ x, lambda x: x.T @ x, normal(2)),
    "swapaxes": (lambda x: ours.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1), normal(3)),
    "expand": (lambda x: ours.expand(x, (7, x.shape[0], 5, x.shape[2])), lambda x: x.expand(7, -1, 5, -1), shaped("a1c")),
    "concatenate": (lambda *a: ours.concatenate(a, -2), lambda *a: torch.cat(a, -2), shaped("abc", "adc", "aec")),
    "stack": (lambda *a: ours.stack(a, 1), lambda *a: torch.stack(a, 1), shaped("abc", "abc", "abc")),
    "pad": (lambda x: ours.pad(x, [(0, 2), (1, 0), (2, 3)], 1.5), lambda x: F.pad(x, (2, 3, 1, 0, 0, 2), value=1.5), normal(3)),
    "getitem, slices": (lambda x: x[1:, None, ..., -1], lambda x: x[1:, None, ..., -1], normal(3)),
    "getitem, backwards": (lambda x: x[::-2], lambda x: x.flip(0)[::2], normal(3)),
    "getitem, repeated numbers": picked(repeats),
    "getitem, several arrays": picked(lambda rng: (rng.integers(-5, 5, 9), slice(None), rng.integers(0, 6, (3, 1)))),
    "getitem, all axes": picked(lambda rng: (rng.integers(-5, 5, 9), rng.integers(-4, 4, 9), rng.integers(0, 6, (3, 1)))),
    "getitem, mask": picked(lambda rng: rng.random((5, 4)) < 0.5),
    "embedding": (
        lambda w: ours.embedding(w, np.arange(24).reshape(4, 6) ** 2 % len(w.data)),
        lambda w: F.embedding(torch.arange(24).reshape(4, 6) ** 2 % len(w), w),
        normal(2),
    ),
    "conv2d": filtered(1, 0, True),
    "conv2d, padding 2": filtered(1, 2, False),
    "conv2d, stride 2, padding 1": filtered(2, 1, True),
    "conv2d, stride 3": filtered(3, 0, False),
    "avg_pool2d": (lambda x: ours.avg_pool2d(x, 3), lambda x: F.avg_pool2d(x, 3), images(2, 3, 7, 10)),
    "avg_pool2d, overlapping": (lambda x: ours.avg_pool2d(x, 3, 2), lambda x: F.avg_pool2d(x, 3, 2), images(2, 3, 7, 10)),
    "layer_norm": (ours.layer_norm, lambda x, w, b: F.layer_norm(x, w.shape, w, b), shaped("abc", "c", "c", low=FEW)),
    "rms_norm": (ours.rms_norm, lambda x, w: F.rms_norm(x, w.shape, w, 1e-6), shaped("abc", "c", low=FEW)),
    "batch_norm of (B, C), training": batch_norm(2, True),
    "batch_norm of (B, C, H, W), training": batch_norm(4, True),
    "batch_norm of (B, C, H, W), in use": batch_norm(4, False),
    "attention_weights": (ours.attention_weights, weights_of_attention, shaped("bhtd", "bhsd")),
    "attention": attend(),
    "attention, causal": attend(causal=True),
    "attention, mask": masked("truth"),
    "attention, added mask": masked("numbers"),
}  # fmt: skip
# Corners and steps: there the second derivative is nothing to compare.
_CORNERED: dict[str, Case] = {
    "relu": (ours.relu, F.relu, ties((5, 7))),
    "leaky_relu": (lambda x: ours.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2), ties((5, 7))),
    "abs, with zeros": (abs, torch.abs, ties((5, 7))),
    "clip": (lambda x: ours.clip(x, -1, 1), lambda x: x.clamp(-1, 1), ties((5, 7))),
    "clip, below only": (lambda x: ours.clip(x, low=0), lambda x: x.clamp(min=0), ties((5, 7))),
    "maximum": (ours.maximum, torch.maximum, broadcast()),
    "minimum": (ours.minimum, torch.minimum, broadcast()),
    "maximum and minimum, equal values": (
        lambda x: ours.maximum(x, 1.0 - 0 * x) + ours.minimum(x, x.T.T * 1),
        lambda x: torch.maximum(x, 1.0 - 0 * x) + torch.minimum(x, x.T.T * 1),
        ties((5, 7)),
    ),
    "where": (
        lambda a, b: ours.where(a.data > 0, a, b),
        lambda a, b: torch.where(a > 0, a, b),
        broadcast(),
    ),
    "max, equal values": (lambda x: ours.max(x, (0, 2)), lambda x: x.amax((0, 2)), ties((3, 4, 5))),
    "max of all": (lambda x: ours.max(x) * 1.5, lambda x: x.max() * 1.5, ties((3, 4))),
    "min, equal values": (lambda x: ours.min(x, -1, True), lambda x: x.amin(-1, True), ties((3, 4, 5))),
    "max_pool2d, equal values": (lambda x: ours.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), ties((2, 3, 6, 9))),
    "max_pool2d, overlapping": (
        lambda x: ours.max_pool2d(x, 3, 2),
        lambda x: F.max_pool2d(x, 3, 2),
        images(2, 3, 8, 11),
    ),
    "pow, 0 among bases and powers": (
        lambda a, b: ours.pow(abs(a), abs(b)),
        lambda a, b: torch.pow(abs(a), abs(b)),
        lambda rng: [rng.integers(0, 3, (5, 1)).astype(float), rng.integers(1, 3, (1, 4)).astype(float)],
    ),
    "activations of +-1000": (
        lambda x: sum((f(x) for f in (ours.gelu, ours.silu, ours.softplus, ours.sigmoid, ours.tanh)), 0.0),
        lambda x: sum((f(x) for f in (F.gelu, F.silu, F.softplus, torch.sigmoid, torch.tanh)), 0.0),
        lambda rng: [np.array([-1000.0, -100.0, 100.0, 1000.0])],
    ),
    "softmaxes of +-1000": (
        lambda x: ours.softmax(x) + ours.log_softmax(x) + ours.logsumexp(x, -1, True),
        lambda x: x.softmax(-1) + x.log_softmax(-1) + x.logsumexp(-1, True),
        lambda rng: [rng.choice([-1000.0, 0.0, 1000.0], (4, 5)) + rng.normal(size=(4, 5))],
    ),
}
_PIECES = _FLAT | einsums()
_THIRD = _PIECES | {
    "layer_norm": (
        ours.layer_norm,
        lambda x, w, b: written_norm(x, [-1], 1e-5) * w + b,
        shaped("abc", "c", "c", low=FEW),
    ),
    "batch_norm of (B, C), training": batch_norm(2, True, written=True),
    "batch_norm of (B, C, H, W), training": batch_norm(4, True, written=True),
}
CHECKS = [
    *(Check(f"tensor {name}: value, gradient", "torch", TOLERANCE, compare(*case)) for name, case in _PIECES.items()),
    *(Check(f"tensor {name}: value, gradient", "torch", TOLERANCE, compare(*case)) for name, case in _CORNERED.items()),
    *(
        Check(f"tensor {name}: derivatives to third order", "torch", TOLERANCE, compare(*case, order=3))
        for name, case in _THIRD.items()
    ),
]
