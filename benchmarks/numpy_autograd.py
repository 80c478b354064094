"""Training steps of the NumPy tensors against torch on one thread: the same network, forward, backward, update.

    python benchmarks/numpy_autograd.py [--quick] [--json FILE]

In float32; medians of the processor's time over interleaved steps (not the clock's: a step is as short as the turns that
programs take on a busy machine). ratio > 1 means faster than torch; the goal is half of torch's speed.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, interleaved, main, row

from cairn.foundations import tensor as ours
from cairn.foundations.tensor import Tensor

BATCH = 64
RATE = 1e-3
Arrays = list[np.ndarray]
Step = Callable[[], float]


class SGD:
    """p -= rate * gradient, in place; the gradient, which nobody needs afterwards, is the memory for the product."""

    def __init__(self, parameters: list[Tensor]):
        self.parameters = parameters

    def step(self) -> None:
        for p in self.parameters:
            p.grad *= RATE
            p.data -= p.grad
            p.grad = None


class Adam(SGD):
    """As torch.optim.Adam with its defaults."""

    def __init__(self, parameters: list[Tensor]):
        super().__init__(parameters)
        self.moments = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in parameters]
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        size = RATE / (1 - 0.9**self.steps)
        root = (1 - 0.999**self.steps) ** 0.5
        for p, (first, second) in zip(self.parameters, self.moments):
            g = p.grad
            first *= 0.9
            second *= 0.999
            square = np.square(g)
            square *= 1 - 0.999
            second += square
            g *= 1 - 0.9
            first += g
            divisor = np.sqrt(second, out=square)
            divisor *= 1 / root
            divisor += 1e-8
            np.divide(first, divisor, out=g)
            g *= size
            p.data -= g
            p.grad = None


def steps(
    arrays: Arrays, mine: Callable[..., Tensor], torch_arrays: Arrays, theirs: Callable[..., Any], adam: bool
) -> tuple[Step, Step]:
    """A training step of each library, from the same numbers; both give the loss."""
    parameters = [Tensor(array.astype(np.float32), requires_grad=True) for array in arrays]
    copies = [torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in torch_arrays]
    optimizer = Adam(parameters) if adam else SGD(parameters)
    torch_optimizer = torch.optim.Adam(copies, RATE) if adam else torch.optim.SGD(copies, RATE)

    def our_step() -> float:
        loss = mine(*parameters)
        loss.backward()
        optimizer.step()
        return loss.item()

    def torch_step() -> float:
        loss = theirs(*copies)
        loss.backward()
        torch_optimizer.step()
        torch_optimizer.zero_grad()
        return loss.item()

    return our_step, torch_step


def cross_entropy(scores_BC: Tensor, labels_B: np.ndarray) -> Tensor:
    return -ours.log_softmax(scores_BC)[np.arange(len(labels_B)), labels_B].mean()


def mlp(sizes: list[int], adam: bool, rng: np.random.Generator) -> tuple[Step, Step]:
    x = rng.normal(size=(BATCH, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], BATCH)
    arrays: Arrays = []
    for a, b in pairwise(sizes):
        arrays += [rng.normal(size=(a, b)) * (2 / a) ** 0.5, np.zeros(b)]
    torch_arrays = [array.T.copy() for array in arrays]  # it keeps a matrix as (out, in)
    torch_x, torch_labels = torch.tensor(x), torch.tensor(labels)

    def mine(*parameters: Tensor) -> Tensor:
        h: Any = x
        for i in range(0, len(parameters), 2):
            h = (h if i == 0 else h.relu()) @ parameters[i] + parameters[i + 1]
        return cross_entropy(h, labels)

    def theirs(*parameters: torch.Tensor) -> torch.Tensor:
        h = torch_x
        for i in range(0, len(parameters), 2):
            h = F.linear(h if i == 0 else h.relu(), parameters[i], parameters[i + 1])
        return F.cross_entropy(h, torch_labels)

    return steps(arrays, mine, torch_arrays, theirs, adam)


def cnn(side: int, channels: tuple[int, int], rng: np.random.Generator) -> tuple[Step, Step]:
    """Twice convolution 3 x 3, relu and pooling, then one matrix."""
    first, second = channels
    x = rng.normal(size=(BATCH, 1, side, side)).astype(np.float32)
    labels = rng.integers(0, 10, BATCH)
    flat = second * (side // 4) ** 2
    shapes = [(first, 1, 3, 3), (first,), (second, first, 3, 3), (second,), (flat, 10), (10,)]
    arrays = [rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5 * (len(shape) > 1) for shape in shapes]
    torch_arrays = [*arrays[:4], arrays[4].T.copy(), arrays[5]]
    torch_x, torch_labels = torch.tensor(x), torch.tensor(labels)

    def mine(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor) -> Tensor:
        h = ours.max_pool2d(ours.conv2d(x, w1, b1, padding=1).relu(), 2)
        h = ours.max_pool2d(ours.conv2d(h, w2, b2, padding=1).relu(), 2)
        return cross_entropy(h.reshape(BATCH, -1) @ w3 + b3, labels)

    def theirs(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> torch.Tensor:
        h = F.max_pool2d(F.conv2d(torch_x, w1, b1, padding=1).relu(), 2)
        h = F.max_pool2d(F.conv2d(h, w2, b2, padding=1).relu(), 2)
        return F.cross_entropy(F.linear(h.flatten(1), w3, b3), torch_labels)

    return steps(arrays, mine, torch_arrays, theirs, adam=False)


def attention(batch: int, heads: int, tokens: int, size: int, rng: np.random.Generator) -> tuple[Step, Step]:
    """Causal attention between two matrices, over (batch, tokens, heads * size)."""
    width = heads * size
    x = rng.normal(size=(batch, tokens, width)).astype(np.float32)
    arrays = [rng.normal(size=(width, 3 * width)) * width**-0.5, rng.normal(size=(width, width)) * width**-0.5]
    torch_arrays = [array.T.copy() for array in arrays]
    torch_x = torch.tensor(x)

    def mine(w_in: Tensor, w_out: Tensor) -> Tensor:
        qkv = (x @ w_in).reshape(batch, tokens, 3, heads, size).transpose(2, 0, 3, 1, 4)
        z = ours.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], causal=True)
        y = z.transpose(0, 2, 1, 3).reshape(batch, tokens, width) @ w_out
        return (y * y).mean()

    def theirs(w_in: Any, w_out: Any) -> torch.Tensor:
        qkv = F.linear(torch_x, w_in).reshape(batch, tokens, 3, heads, size).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        y = F.linear(z.transpose(1, 2).reshape(batch, tokens, width), w_out)
        return (y * y).mean()

    return steps(arrays, mine, torch_arrays, theirs, adam=False)


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cases: list[tuple[str, tuple[Step, Step], int]] = [
        ("MLP 64-64-10, SGD", mlp([64, 64, 10], False, rng), 500),
        ("MLP 784-256-128-10, SGD", mlp([784, 256, 128, 10], False, rng), 100),
        ("MLP 784-256-128-10, Adam", mlp([784, 256, 128, 10], True, rng), 100),
        ("CNN 8 x 8 pixels, 8 and 16 channels", cnn(8, (8, 16), rng), 100),
        ("attention 4 x 64, 4 heads of 32", attention(4, 4, 64, 32, rng), 60),
    ]
    if not quick:
        cases += [
            ("MLP 784-1024-1024-10, SGD", mlp([784, 1024, 1024, 10], False, rng), 30),
            ("MLP 784-1024-1024-10, Adam", mlp([784, 1024, 1024, 10], True, rng), 30),
            ("CNN 28 x 28 pixels, 16 and 32 channels", cnn(28, (16, 32), rng), 20),
            ("attention 8 x 128, 8 heads of 64", attention(8, 8, 128, 64, rng), 20),
        ]
    rows = []
    for name, (mine, theirs), runs in cases:
        losses = mine(), theirs()
        assert abs(losses[0] - losses[1]) < 1e-4 * abs(losses[1]), f"{name}: different losses {losses}"
        seconds, peer_seconds = interleaved([mine, theirs], runs // 10 if quick else runs, time.process_time)
        rows.append(
            row(name, "torch, one thread", seconds * 1e3, peer_seconds * 1e3, "ms/step", 0.5, less_is_better=True)
        )
    return rows


if __name__ == "__main__":
    main(__doc__ or "", measure)
