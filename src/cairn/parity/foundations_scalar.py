"""The engine on numbers and the walks of gradient descent against torch in float64: the same expressions, then the same
values and gradients."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cairn.foundations.descent import LANDSCAPES, Landscape, walk
from cairn.foundations.scalar.moons import batch_loss, two_moons
from cairn.foundations.scalar.network import ACTIVATIONS, MLP
from cairn.foundations.scalar.value import Value, zero_grad
from cairn.parity import Check

STEPS = 50
Numbers = Sequence[Any]  # values or torch's numbers: an expression is written once for both
Expression = Callable[[Numbers], Any]


def difference(expression: Expression, numbers: Sequence[float]) -> float:
    """Largest difference of the result and of its gradients by each number; relative where they are above 1."""
    ours, theirs = [Value(x) for x in numbers], [torch.tensor(x, dtype=torch.float64) for x in numbers]
    for x in theirs:
        x.requires_grad_()
    out, wanted = expression(ours), expression(theirs)
    out.backward()
    wanted.backward()
    pairs = [(out.data, wanted.item())]
    pairs += [(x.grad, 0.0 if y.grad is None else y.grad.item()) for x, y in zip(ours, theirs)]
    return largest(pairs)


def largest(pairs: Sequence[tuple[float, float]]) -> float:
    """Largest difference, relative where the wanted number is above 1. NaN stays NaN, which `max` would hide."""
    found, wanted = np.array(pairs).T
    return float((np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))).max())


def operation(expression: Expression, low: float = -4.0) -> Callable[[int], float]:
    """The expression of two numbers, at a hundred pairs from `low` to 4."""

    def run(seed: int) -> float:
        rng = random.Random(seed)
        pairs = [(rng.uniform(low, 4.0), rng.uniform(low, 4.0)) for _ in range(100)]
        return float(np.max([difference(expression, pair) for pair in pairs]))

    return run


def softplus(x: Any) -> Any:
    return torch.nn.functional.softplus(x, threshold=1e9) if isinstance(x, torch.Tensor) else x.softplus()


# Each keeps its arguments where the operation is smooth and of moderate size, whatever it is given.
GROWTH: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: (a + b) * 0.5,
    "-": lambda a, b: 0.5 * (a - b),
    "*": lambda a, b: a * b.tanh(),
    "/": lambda a, b: a / (b * b + 1.0),
    "**": lambda a, b: a.sigmoid() ** b.tanh(),
    "**2": lambda a, b: (a.tanh() + b.tanh()) ** 2,
    "neg": lambda a, b: -a,
    "exp": lambda a, b: a.tanh().exp(),
    "log": lambda a, b: (softplus(a) + 0.1).log(),
    "tanh": lambda a, b: a.tanh(),
    "sigmoid": lambda a, b: a.sigmoid(),
    "softplus": lambda a, b: softplus(a),
    "relu": lambda a, b: a.relu(),
}


def grown(choices: Sequence[tuple[str, int, int]]) -> Expression:
    """An expression that grows by one operation per choice, (name, first, second): places among all that was made so far,
    so that what came early is used again and again. The result is the sum of everything."""

    def expression(numbers: Numbers) -> Any:
        made = list(numbers)
        for name, first, second in choices:
            made.append(GROWTH[name](made[first % len(made)], made[second % len(made)]))
        return sum(made[1:], start=made[0])

    return expression


def random_graphs(seed: int) -> float:
    """Graphs of 1 to 40 operations over 3 numbers."""
    rng, errors = random.Random(seed), []
    for _ in range(20):
        choices = [(rng.choice(list(GROWTH)), rng.randrange(99), rng.randrange(99)) for _ in range(rng.randint(1, 40))]
        errors.append(difference(grown(choices), [rng.uniform(-2.0, 2.0) for _ in range(3)]))
    return float(np.max(errors))


def network(activation: str) -> Callable[[int], float]:
    """Largest difference of an output or of a parameter's gradient, of random sizes."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        sizes = [int(size) for size in rng.permutation([2, 3, 4, 5])]
        model, x = MLP(sizes, rng, activation), rng.normal(size=sizes[0])
        for parameter in model.parameters():
            parameter.data = float(rng.normal())  # biases too
        layers: list[torch.nn.Module] = []
        for layer in model.layers:
            linear = torch.nn.Linear(len(layer.neurons[0].weights), len(layer.neurons)).double()
            with torch.no_grad():
                weights = [[w.data for w in neuron.weights] for neuron in layer.neurons]
                linear.weight.copy_(torch.tensor(weights, dtype=torch.float64))
                linear.bias.copy_(torch.tensor([neuron.bias.data for neuron in layer.neurons], dtype=torch.float64))
            layers.append(linear)
            if layer is not model.layers[-1] and activation != "linear":
                layers.append({"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[activation]())
        ours, theirs = model(list(x)), torch.nn.Sequential(*layers)(torch.tensor(x))
        (sum((out * out for out in ours), Value(0.0)) * 0.5).backward()
        (theirs.square().sum() * 0.5).backward()
        pairs = list(zip([out.data for out in ours], theirs.tolist()))
        linears = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        for layer, linear in zip(model.layers, linears):
            assert linear.weight.grad is not None
            assert linear.bias.grad is not None
            for neuron, weights, bias in zip(layer.neurons, linear.weight.grad.tolist(), linear.bias.grad.tolist()):
                pairs += [(w.grad, wanted) for w, wanted in zip(neuron.weights, weights)] + [(neuron.bias.grad, bias)]
        return largest(pairs)

    return run


def moons_loss(kind: str) -> Callable[[int], float]:
    """Largest difference of the loss of a batch of two moons with L2, or of a parameter's gradient."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        x_N2, y_N = two_moons(7, 0.1, rng)
        model = MLP([2, 3, 1], rng)
        parameters = model.parameters()
        loss, _ = batch_loss(model, x_N2, y_N, kind, 0.01)
        zero_grad(parameters)
        loss.backward()
        flat = torch.tensor([p.data for p in parameters], dtype=torch.float64, requires_grad=True)
        hidden, last = flat[:9].view(3, 3), flat[9:]  # of each neuron its weights, then its bias
        score = (torch.tensor(x_N2) @ hidden[:, :2].T + hidden[:, 2]).tanh() @ last[:3] + last[3]
        margin = torch.tensor(y_N) * score
        terms = (1 - margin).relu() if kind == "hinge" else torch.nn.functional.softplus(-margin)
        wanted = terms.mean() + 0.01 * flat.square().sum()
        (gradient,) = torch.autograd.grad(wanted, flat)
        return largest([(loss.data, wanted.item()), *zip([p.grad for p in parameters], gradient.tolist())])

    return run


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "plain": lambda w, lr: torch.optim.SGD(w, lr=lr),
    "momentum": lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9),
    "Nesterov": lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9, nesterov=True),
    "RMSProp": lambda w, lr: torch.optim.RMSprop(w, lr=lr),
    "Adam": lambda w, lr: torch.optim.Adam(w, lr=lr),
}


def torch_path(land: Landscape, make: Callable[..., torch.optim.Optimizer], rate: float, steps: int) -> np.ndarray:
    """The path of torch's optimizer on torch's own gradients of the landscape: (steps + 1, 2)."""
    w = torch.tensor(land.start, dtype=torch.float64, requires_grad=True)
    optimizer, path = make([w], rate), [land.start]
    for _ in range(steps):
        optimizer.zero_grad()
        height: Any = land.value(w)  # type: ignore[arg-type]  # arithmetic alone: it works on torch's numbers as well
        height.backward()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def descent(method: str) -> Callable[[int], float]:
    """Largest distance of a point of 50 steps, over all landscapes, at a rate that the seed draws."""

    def run(seed: int) -> float:
        errors = []
        for land in LANDSCAPES.values():
            rate = random.Random(seed).uniform(0.02, 0.2)
            if method not in (
                "RMSProp",
                "Adam",
            ):  # their steps are about `rate` long, those of the others follow the slope
                rate /= np.abs(np.linalg.eigvalsh(land.hessian(land.start))).max()
            paths = walk(land, method, rate, STEPS), torch_path(land, OPTIMIZERS[method], rate, STEPS)
            errors.append(np.abs(paths[0] - paths[1]).max())
        return float(np.max(errors))

    return run


_OPERATIONS: dict[str, tuple[Expression, float]] = {
    "+": (lambda v: v[0] + v[1] + 1.5, -4.0),
    "-": (lambda v: 2.0 - (v[0] - v[1]), -4.0),
    "*": (lambda v: v[0] * v[1] * 3.0, -4.0),
    "/": (lambda v: 2.0 / (v[0] / v[1]), 0.1),
    "** number": (lambda v: v[0] ** 3 + v[1] ** -2.5, 0.1),
    "** value": (lambda v: v[0] ** v[1] + 2.0 ** v[1], 0.1),
    "neg": (lambda v: -v[0] * v[1], -4.0),
    "exp": (lambda v: v[0].exp() * v[1], -4.0),
    "log": (lambda v: v[0].log() * v[1], 0.01),
    "tanh": (lambda v: v[0].tanh() * v[1], -4.0),
    "sigmoid": (lambda v: v[0].sigmoid() * v[1], -4.0),
    "softplus": (lambda v: softplus(v[0]) * v[1], -4.0),
    "relu": (lambda v: v[0].relu() * v[1], -4.0),
}
_PARTS: list[tuple[str, Callable[[int], float]]] = [
    *((f"scalar {name}: value and gradient", operation(*case)) for name, case in _OPERATIONS.items()),
    ("scalar: random graphs of shared nodes", random_graphs),
    *((f"scalar MLP, {name}: outputs and gradients", network(name)) for name in ACTIVATIONS),
    *((f"scalar two moons, {kind}: loss and gradients", moons_loss(kind)) for kind in ("hinge", "logistic")),
    *((f"descent, {method}: 50 steps on five landscapes", descent(method)) for method in OPTIMIZERS),
]
CHECKS = [Check(part, "torch", 1e-10, run) for part, run in _PARTS]
