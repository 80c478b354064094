"""The NumPy networks against torch in float64: layers, losses, optimizers, schedules, initialisers and clipping.

A layer or loss is right when its value and the gradients by its input and by every weight are torch's, on random shapes whose
dimensions all differ, so that a transposed or confused axis shows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cairn.foundations import network
from cairn.foundations.network import clipping, initialisers, schedules
from cairn.foundations.network.layer import Layer
from cairn.foundations.tensor import Tensor, log_softmax, softmax
from cairn.parity import Check

STEPS = 50
Run = Callable[[int], float]


def distinct(rng: np.random.Generator, count: int, low: int = 2, high: int = 12) -> list[int]:
    """Sizes that all differ."""
    return [int(size) for size in rng.permutation(np.arange(low, high))[:count]]


def _gap(ours: Any, theirs: torch.Tensor | None) -> float:
    """Largest difference. Another shape is never right, nor is a gradient that one of both lacks."""
    if theirs is None or ours is None:
        return 0.0 if theirs is None and ours is None else float("inf")
    wanted = theirs.detach().numpy()
    return float(np.abs(ours - wanted).max()) if ours.shape == wanted.shape else float("inf")


# --- layers


def layer(
    make: Callable[[np.random.Generator, Sequence[int]], tuple[Layer, nn.Module]],
    axes: int,
    low: int = 2,
    uses: int = 1,
) -> Run:
    """make(rng, sizes) gives our layer and theirs for x of shape `sizes`; weights are drawn here, the same for both.

    uses: how often the layer is called, for those that remember; then once more as in use.
    """

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        sizes = distinct(rng, axes, low)
        ours, theirs = make(rng, sizes)
        theirs = theirs.double()
        wanted = dict(theirs.named_parameters())
        assert wanted.keys() == ours.parameters().keys()
        for name, tensor in ours.parameters().items():
            tensor.data[...] = rng.normal(size=tensor.shape)
            wanted[name].data = torch.tensor(tensor.data)
        gaps = []
        for use in range(uses + (uses > 1)):
            if use == uses:
                ours.eval()
                theirs.eval()
            x = Tensor(rng.normal(size=sizes), requires_grad=True)
            x_theirs = torch.tensor(x.data, requires_grad=True)
            y, y_theirs = ours(x), theirs(x_theirs)
            g = rng.normal(size=y.shape)
            y.backward(g)
            y_theirs.backward(torch.tensor(g))
            gaps += [_gap(y.data, y_theirs), _gap(x.grad, x_theirs.grad)]
        gaps += [_gap(tensor.grad, wanted[name].grad) for name, tensor in ours.parameters().items()]
        return max(gaps)

    return run


def _dense(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[Layer, nn.Module]:
    bias = bool(rng.integers(2))
    return network.Dense(sizes[-1], 13, rng, bias=bias), nn.Linear(sizes[-1], 13, bias=bias)


def _conv(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[Layer, nn.Module]:
    size, stride, padding = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(0, 3))
    bias = bool(rng.integers(2))
    return (
        network.Conv2d(sizes[1], 13, size, rng, stride=stride, padding=padding, bias=bias),
        nn.Conv2d(sizes[1], 13, size, stride=stride, padding=padding, bias=bias),
    )


def _simple(ours: Callable[[], Layer], theirs: Callable[[], nn.Module]) -> Any:
    return lambda rng, sizes: (ours(), theirs())


def embedding(seed: int) -> float:
    """Largest difference of the rows that are looked up, and of the table's gradient, where ids repeat."""
    rng = np.random.default_rng(seed)
    rows, width, b, t = distinct(rng, 4)
    ours = network.Embedding(rows, width, rng)
    theirs = nn.Embedding.from_pretrained(torch.tensor(ours.weight.data), freeze=False)
    ids, g = rng.integers(0, rows, size=(b, t)), rng.normal(size=(b, t, width))
    y, y_theirs = ours(ids), theirs(torch.tensor(ids))
    y.backward(g)
    y_theirs.backward(torch.tensor(g))
    return max(_gap(y.data, y_theirs), _gap(ours.weight.grad, theirs.weight.grad))


def whole_network(seed: int) -> float:
    """Largest difference of a weight of a convolutional network after 10 steps with momentum."""
    rng = np.random.default_rng(seed)
    ours = network.Sequential(
        network.Conv2d(3, 5, 3, rng, padding=1),
        network.BatchNorm(5),
        network.GELU(),
        network.MaxPool2d(2),
        network.Flatten(),
        network.Dense(5 * 4 * 3, 7, rng),
    )
    theirs = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(60, 7)
    ).double()
    wanted = dict(theirs.named_parameters())
    for name, tensor in ours.parameters().items():
        wanted[name].data = torch.tensor(tensor.data)
    optimizer = network.SGD(ours.parameters(), lr=0.05, momentum=0.9)
    optimizer_theirs = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        x, y = rng.normal(size=(11, 3, 8, 6)), rng.integers(0, 7, size=11)
        optimizer.zero_grad()
        network.cross_entropy(ours(Tensor(x)), y).backward()
        optimizer.step()
        optimizer_theirs.zero_grad()
        F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer_theirs.step()
    return max(_gap(tensor.data, wanted[name]) for name, tensor in ours.parameters().items())


_LAYERS: dict[str, Run] = {
    "dense": layer(_dense, 3),
    "conv2d": layer(_conv, 4, low=5),
    "max pooling": layer(_simple(lambda: network.MaxPool2d(3), lambda: nn.MaxPool2d(3)), 4, low=4),
    "average pooling": layer(_simple(lambda: network.AvgPool2d(3), lambda: nn.AvgPool2d(3)), 4, low=4),
    "flatten": layer(_simple(network.Flatten, nn.Flatten), 4),
    "layer norm": layer(lambda rng, s: (network.LayerNorm(s[-1]), nn.LayerNorm(s[-1])), 3, low=4),
    "batch norm 1d, learning and in use": layer(
        lambda rng, s: (network.BatchNorm(s[1]), nn.BatchNorm1d(s[1])), 2, uses=3
    ),
    "batch norm 2d, learning and in use": layer(
        lambda rng, s: (network.BatchNorm(s[1]), nn.BatchNorm2d(s[1])), 4, uses=3
    ),
    "embedding": embedding,
    "ReLU": layer(_simple(network.ReLU, nn.ReLU), 3),
    "leaky ReLU": layer(_simple(lambda: network.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.1)), 3),
    "sigmoid": layer(_simple(network.Sigmoid, nn.Sigmoid), 3),
    "tanh": layer(_simple(network.Tanh, nn.Tanh), 3),
    "GELU": layer(_simple(network.GELU, nn.GELU), 3),
    "GELU, tanh formula": layer(_simple(lambda: network.GELU(True), lambda: nn.GELU("tanh")), 3),
    "SiLU": layer(_simple(network.SiLU, nn.SiLU), 3),
    "softplus": layer(_simple(network.Softplus, nn.Softplus), 3),
    "softmax": layer(_simple(network.Softmax, lambda: nn.Softmax(-1)), 3),
    "a whole CNN after 10 steps": whole_network,
}


# --- losses


def loss(
    draw: Callable[[np.random.Generator, Sequence[int]], Sequence[np.ndarray]],
    ours: Callable[..., Tensor],
    theirs: Callable[..., torch.Tensor],
    axes: int = 2,
    outputs: int = 1,
) -> Run:
    """draw(rng, sizes) gives the arrays of a loss, of which the first `outputs` get gradients."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        arrays = draw(rng, distinct(rng, axes))
        mine = [Tensor(array, requires_grad=True) for array in arrays[:outputs]]
        others = [torch.tensor(array, requires_grad=True) for array in arrays[:outputs]]
        value = ours(*mine, *arrays[outputs:])
        wanted = theirs(*others, *(torch.tensor(array) for array in arrays[outputs:]))
        value.backward()
        wanted.backward()
        pairs = [(a.grad, b.grad) for a, b in zip(mine, others)]
        return max(_gap(value.data, wanted), *(_gap(a, b) for a, b in pairs))

    return run


def _two(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    return [rng.normal(size=sizes) * 2, rng.normal(size=sizes)]


def _scores_and_bits(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    return [rng.normal(size=sizes) * 5, rng.integers(0, 2, size=sizes).astype(float)]


def _shares_and_bits(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    return [rng.uniform(0.01, 0.99, size=sizes), rng.integers(0, 2, size=sizes).astype(float)]


def _scores_and_classes(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    return [rng.normal(size=sizes) * 3, rng.integers(0, sizes[1], size=sizes[0])]


def _weighted(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    scores, targets = _scores_and_classes(rng, (sizes[0] + 1, sizes[1]))
    return [scores, np.append(targets[:-1], -100), rng.uniform(0.5, 2, size=sizes[1])]  # one row is padding


def _scores_and_shares(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    return [rng.normal(size=sizes) * 3, rng.dirichlet(np.ones(sizes[1]), size=sizes[0])]


def _pairs(rng: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    same = rng.integers(0, 2, size=sizes[0]).astype(float)
    return [*(rng.normal(size=sizes) * 0.5 for _ in range(2)), same]


def _torch_focal(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # torchvision.ops.sigmoid_focal_loss, whose package is large for one formula.
    p = torch.sigmoid(z)
    surprise = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    right = p * y + (1 - p) * (1 - y)
    return ((0.25 * y + 0.75 * (1 - y)) * surprise * (1 - right) ** 2).mean()


def _torch_contrastive(a: torch.Tensor, b: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    distance = torch.linalg.vector_norm(a - b, dim=1)
    return (same * distance**2 + (1 - same) * torch.clamp(2.0 - distance, min=0) ** 2).mean()


def _torch_info_nce(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.1, torch.arange(len(a)))


_LOSSES: dict[str, Run] = {
    "mse": loss(_two, network.mse, F.mse_loss, 3),
    "l1": loss(_two, network.l1, F.l1_loss, 3),
    "huber": loss(_two, lambda x, y: network.huber(x, y, 0.7), lambda x, y: F.huber_loss(x, y, delta=0.7), 3),
    "binary cross-entropy": loss(_shares_and_bits, network.binary_cross_entropy, F.binary_cross_entropy, 3),
    "binary cross-entropy with logits": loss(
        _scores_and_bits, network.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits, 3
    ),
    "cross-entropy": loss(_scores_and_classes, network.cross_entropy, F.cross_entropy),
    "cross-entropy: smoothing, weights, padding": loss(
        _weighted,
        lambda z, y, w: network.cross_entropy(z, y, label_smoothing=0.1, weights_C=w),
        lambda z, y, w: F.cross_entropy(z, y, w, label_smoothing=0.1),
    ),
    "cross-entropy with probabilities": loss(
        _scores_and_shares,
        lambda z, q: network.cross_entropy(z, q, label_smoothing=0.1),
        lambda z, q: F.cross_entropy(z, q, label_smoothing=0.1),
    ),
    "focal": loss(_scores_and_bits, network.focal, _torch_focal, 3),
    "KL divergence": loss(
        _scores_and_shares,
        lambda z, q: network.kl_divergence(log_softmax(z), q),
        lambda z, q: F.kl_div(F.log_softmax(z, -1), q, reduction="batchmean"),
    ),
    "multi-class hinge": loss(_scores_and_classes, network.multiclass_hinge, F.multi_margin_loss),
    "hinge": loss(
        _scores_and_bits,
        lambda s, y: network.hinge(s, 2 * y - 1),
        lambda s, y: torch.clamp(1 - s * (2 * y - 1), min=0).mean(),
    ),
    "contrastive": loss(
        _pairs, lambda a, b, same: network.contrastive(a, b, same, margin=2.0), _torch_contrastive, outputs=2
    ),
    "InfoNCE": loss(lambda rng, s: _pairs(rng, s)[:2], network.info_nce, _torch_info_nce, outputs=2),
    "MSE of a softmax": loss(
        _scores_and_shares, lambda z, q: network.mse(softmax(z), q), lambda z, q: F.mse_loss(F.softmax(z, -1), q)
    ),
}


# --- optimizers, schedules, clipping, initialisers


def trajectory(ours: type[network.Optimizer], theirs: type[torch.optim.Optimizer], mine: dict, others: dict) -> Run:
    """Largest difference of a weight after 50 steps over bowls whose curvature differs by direction, with noise."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        shapes = [distinct(rng, 2), distinct(rng, 1), distinct(rng, 4)]
        goals, curves = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
        weights = [Tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
        weights_theirs = [nn.Parameter(torch.tensor(weight.data)) for weight in weights]
        optimizer, optimizer_theirs = ours(weights, **mine), theirs(weights_theirs, **others)
        for step in range(STEPS):
            for i, (weight, wanted) in enumerate(zip(weights, weights_theirs)):
                noise = rng.normal(size=weight.shape) * 0.3
                weight.grad = np.exp(curves[i]) * (weight.data - goals[i] + noise)
                wanted.grad = torch.tensor(np.exp(curves[i]) * (wanted.detach().numpy() - goals[i] + noise))
                if i == 1 and step % 3 == 1:  # a weight that some batches do not use
                    weight.grad = wanted.grad = None
            optimizer.step()
            optimizer_theirs.step()
        return max(_gap(weight.data, wanted) for weight, wanted in zip(weights, weights_theirs))

    return run


def _optimizer(ours: Any, theirs: Any, **settings: Any) -> Run:
    """Settings are the same but for RMSProp's `decay`, which torch calls alpha, and Adagrad's `initial`."""
    names = {"decay": "alpha", "initial": "initial_accumulator_value"}
    return trajectory(ours, theirs, settings, {names.get(name, name): value for name, value in settings.items()})


_OPTIMIZERS: dict[str, Run] = {
    "SGD": _optimizer(network.SGD, torch.optim.SGD, lr=0.03),
    "SGD with momentum, dampening and decay": _optimizer(
        network.SGD, torch.optim.SGD, lr=0.02, momentum=0.9, dampening=0.3, weight_decay=0.1
    ),
    "SGD with Nesterov's momentum": _optimizer(
        network.SGD, torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "RMSProp": _optimizer(network.RMSProp, torch.optim.RMSprop, lr=0.02, decay=0.9, weight_decay=0.1),
    "RMSProp, centered, with momentum": _optimizer(
        network.RMSProp, torch.optim.RMSprop, lr=0.02, decay=0.95, momentum=0.8, centered=True
    ),
    "Adagrad": _optimizer(network.Adagrad, torch.optim.Adagrad, lr=0.1, lr_decay=0.05, initial=0.1, weight_decay=0.1),
    "Adam": _optimizer(network.Adam, torch.optim.Adam, lr=0.02, betas=(0.8, 0.97), weight_decay=0.1),
    "AdamW": _optimizer(network.AdamW, torch.optim.AdamW, lr=0.02, betas=(0.8, 0.97), weight_decay=0.1),
}


def schedule(
    draw: Callable[[np.random.Generator], tuple[schedules.Schedule, Callable[[torch.optim.Optimizer], Any], int]],
) -> Run:
    """Largest difference of the factor at any step. draw(rng) gives ours, what makes theirs, and the number of steps."""

    def run(seed: int) -> float:
        ours, make, steps = draw(np.random.default_rng(seed))
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = make(optimizer)
        gap = 0.0
        for step in range(steps):
            gap = max(gap, abs(ours(step) - theirs.get_last_lr()[0]))
            optimizer.step()
            if step + 1 < steps:
                theirs.step()
        return gap

    return run


_rates: Any = torch.optim.lr_scheduler


def _step(rng: np.random.Generator) -> Any:
    every, factor = int(rng.integers(1, 9)), float(rng.uniform(0.1, 0.9))
    return schedules.step_decay(every, factor), lambda o: _rates.StepLR(o, every, factor), 60


def _exponential(rng: np.random.Generator) -> Any:
    factor = float(rng.uniform(0.8, 0.99))
    return schedules.exponential(factor), lambda o: _rates.ExponentialLR(o, factor), 60


def _linear(rng: np.random.Generator) -> Any:
    steps, start, end = int(rng.integers(2, 50)), float(rng.uniform(0.5, 1)), float(rng.uniform(0, 0.5))
    return schedules.linear(steps, start, end), lambda o: _rates.LinearLR(o, start, end, steps), 60


def _cosine(rng: np.random.Generator) -> Any:
    steps, end = int(rng.integers(2, 50)), float(rng.uniform(0, 0.5))
    return schedules.cosine(steps, end), lambda o: _rates.CosineAnnealingLR(o, steps, end), steps + 1


def _warm_up(rng: np.random.Generator) -> Any:
    first, steps = int(rng.integers(2, 20)), int(rng.integers(2, 50))

    def theirs(optimizer: torch.optim.Optimizer) -> Any:
        parts = [_rates.LinearLR(optimizer, 1 / first, 1.0, first - 1), _rates.CosineAnnealingLR(optimizer, steps)]
        return _rates.SequentialLR(optimizer, parts, [first])

    return schedules.warm_up(first, schedules.cosine(steps)), theirs, first + steps + 1


def _one_cycle(rng: np.random.Generator) -> Any:
    steps, rise = int(rng.integers(20, 90)), float(rng.uniform(0.1, 0.6))
    start, end = float(rng.uniform(0.01, 0.5)), float(rng.uniform(1e-5, 0.01))

    def theirs(optimizer: torch.optim.Optimizer) -> Any:
        return _rates.OneCycleLR(
            optimizer,
            1.0,
            steps,
            pct_start=rise,
            div_factor=1 / start,
            final_div_factor=start / end,
            cycle_momentum=False,
        )

    return schedules.one_cycle(steps, rise, start, end), theirs, steps


def clipped(by_value: bool) -> Run:
    """Largest difference of a clipped gradient, and of the norm that is given back."""

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        weights = [Tensor(np.zeros(shape), requires_grad=True) for shape in (distinct(rng, 2), distinct(rng, 3))]
        theirs = [nn.Parameter(torch.tensor(weight.data)) for weight in weights]
        gap, limit = 0.0, float(rng.uniform(0.5, 40.0))  # some seeds need no clipping
        for weight, wanted in zip(weights, theirs):
            weight.grad = rng.normal(size=weight.shape)
            wanted.grad = torch.tensor(weight.grad)
        if by_value:
            clipping.clip_value(weights, limit / 20)
            nn.utils.clip_grad_value_(theirs, limit / 20)
        else:
            gap = abs(clipping.clip_norm(weights, limit) - float(nn.utils.clip_grad_norm_(theirs, limit)))
        return max(gap, *(_gap(weight.grad, wanted.grad) for weight, wanted in zip(weights, theirs)))

    return run


def spread(ours: initialisers.Initialiser, theirs: Callable[[torch.Tensor], Any]) -> Run:
    """Largest relative difference of a quantile, the first and last hundredth included, of 160,000 weights."""

    def run(seed: int) -> float:
        torch.manual_seed(seed)
        shape = (100, 64, 5, 5)
        mine = ours(shape, np.random.default_rng(seed))
        wanted = torch.empty(shape, dtype=torch.float64)
        theirs(wanted)
        places = [0.01, 0.1, 0.25, 0.75, 0.9, 0.99]
        a, b = np.quantile(mine, places), np.quantile(wanted.numpy(), places)
        return float(np.abs(a / b - 1).max())

    return run


def gains(seed: int) -> float:
    """Largest difference of the factor for what follows a layer."""
    names = {"linear": "linear", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "selu": "selu"}
    named = [abs(initialisers.gain(ours) - nn.init.calculate_gain(theirs)) for ours, theirs in names.items()]  # type: ignore[arg-type]
    slope = float(np.random.default_rng(seed).uniform(0, 1))
    return max(*named, abs(initialisers.gain("leaky-relu", slope) - nn.init.calculate_gain("leaky_relu", slope)))


_OTHERS: list[tuple[str, float, Run]] = [
    ("schedule step", 1e-12, schedule(_step)),
    ("schedule exponential", 1e-12, schedule(_exponential)),
    ("schedule linear", 1e-12, schedule(_linear)),
    ("schedule cosine", 1e-12, schedule(_cosine)),
    ("schedule warm-up, then cosine", 1e-12, schedule(_warm_up)),
    ("schedule one-cycle", 1e-12, schedule(_one_cycle)),
    ("clipping by norm", 1e-12, clipped(False)),
    ("clipping by value", 0.0, clipped(True)),
    ("gains", 1e-12, gains),
    ("Xavier uniform: quantiles, relative", 0.03, spread(initialisers.xavier_uniform, nn.init.xavier_uniform_)),
    ("Xavier normal: quantiles, relative", 0.03, spread(initialisers.xavier_normal, nn.init.xavier_normal_)),
    (
        "He uniform: quantiles, relative",
        0.03,
        spread(initialisers.he_uniform, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
    ),
    (
        "He normal: quantiles, relative",
        0.03,
        spread(initialisers.he_normal, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    ),
    ("orthogonal: quantiles, relative", 0.03, spread(initialisers.orthogonal, nn.init.orthogonal_)),
]
CHECKS = [
    *(Check(f"NumPy layer {name}: value and gradients", "torch", 1e-10, run) for name, run in _LAYERS.items()),
    *(Check(f"NumPy loss {name}: value and gradients", "torch", 1e-10, run) for name, run in _LOSSES.items()),
    *(Check(f"NumPy {name}: weights after 50 steps", "torch", 1e-10, run) for name, run in _OPTIMIZERS.items()),
    *(Check(f"NumPy {name}", "torch", tolerance, run) for name, tolerance, run in _OTHERS),
]
