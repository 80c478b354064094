"""Optimizers, schedules and averages against torch, `transformers` and bitsandbytes: the same gradients, then the same weights.

The gradients are those of a quadratic bowl whose curvature differs by direction, plus noise, so that a wrong moment or a
wrong rate leads elsewhere.
"""

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from cairn.parity import Check
from cairn.training.averaging import Average
from cairn.training.optimizers import Adafactor, AdamW8bit, Muon, build_optimizer
from cairn.training.optimizers.eightbit import dynamic_map
from cairn.training.schedules import SCHEDULES, rate

STEPS = 50
Make = Callable[[list[nn.Parameter]], Any]


def trajectory(
    make: Make, shapes: Sequence[tuple[int, ...]], seed: int, steps: int, dtype: torch.dtype, even: bool = False
) -> torch.Tensor:
    """All weights after `steps` steps, one after the other. even: gradients have sizes of 0.5 to 1.5."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = [nn.Parameter(draw(shape).to(dtype) * 0.1) for shape in shapes]
    goals, curves = [draw(shape) for shape in shapes], [draw(shape).exp() for shape in shapes]
    optimizer = make(weights)
    for _ in range(steps):
        for weight, goal, curve in zip(weights, goals, curves):
            noise = draw(tuple(weight.shape)) * 0.3
            grad = curve * (weight.detach().double() - goal + noise)
            weight.grad = (grad.tanh() + grad.sign() / 2 if even else grad).to(dtype)
        optimizer.step()
    return torch.cat([weight.detach().flatten().double() for weight in weights])


def _shapes(seed: int) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [(rng.randint(2, 20), rng.randint(2, 20)) for _ in range(3)] + [(rng.randint(2, 20),)]


def exact(ours: Make, theirs: Make) -> Callable[[int], float]:
    """Largest difference of a weight after 50 steps in float64."""

    def run(seed: int) -> float:
        both = [trajectory(make, _shapes(seed), seed, STEPS, torch.float64) for make in (ours, theirs)]
        return float((both[0] - both[1]).abs().max())

    return run


def near(
    ours: Make, theirs: Make, shapes: Sequence[tuple[int, ...]], steps: int, even: bool = False
) -> Callable[[int], float]:
    """Distance of the weights they come to, as a share of the way there, in float32."""

    def run(seed: int) -> float:
        runs = (ours, 0), (ours, steps), (theirs, steps)
        start, *both = (trajectory(make, shapes, seed, n, torch.float32, even) for make, n in runs)
        return float((both[0] - both[1]).norm() / (both[1] - start).norm())

    return run


def built(**settings: Any) -> Make:
    """`build_optimizer` over matrices and vectors."""
    base = {"lr": 0.02, "matrix_lr": 0.02, "weight_decay": 0.1, "beta2": 0.95, "momentum": 0.9, "mup_width": 0}

    def make(weights: list[nn.Parameter]) -> Any:
        config: Any = SimpleNamespace(**base | settings)
        return build_optimizer(nn.ParameterList(weights), config)

    return make


def grouped(kind: Callable[..., Any], **settings: Any) -> Make:
    """torch's own with decay on matrices alone."""

    def make(weights: list[nn.Parameter]) -> Any:
        groups = [{"params": [w for w in weights if w.ndim == n], "weight_decay": 0.1 * (n - 1)} for n in (1, 2)]
        return kind(groups, lr=0.02, **settings)

    return make


def transformers_adafactor(weights: list[nn.Parameter]) -> Any:
    from transformers.optimization import Adafactor as Theirs

    return Theirs(weights, lr=0.05, scale_parameter=True, relative_step=False, warmup_init=False)


def torch_adafactor(weights: list[nn.Parameter]) -> Any:
    return torch.optim.Adafactor(weights, lr=0.05, eps=(1e-15, 1e-3), weight_decay=0.1)


def bitsandbytes_adamw(weights: list[nn.Parameter]) -> Any:
    import bitsandbytes

    theirs: Any = bitsandbytes.optim
    return theirs.AdamW8bit(weights, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)


def eight_bit_numbers(seed: int) -> float:
    """Largest difference of the 256 numbers of either moment."""
    from bitsandbytes.functional import create_dynamic_map

    return max(float((create_dynamic_map(signed=s) - dynamic_map(s)).abs().max()) for s in (True, False))


def averaged(seed: int) -> float:
    """Largest difference of an average of weights over 50 updates, warm-up of the decay included."""
    from torch.optim.swa_utils import AveragedModel

    torch.manual_seed(seed)
    decay = random.Random(seed).choice((0.05, 0.5, 0.9, 0.999))
    model = nn.Linear(5, 3).double()
    ours = Average(model, decay)

    def average(old: torch.Tensor, new: torch.Tensor, count: Any) -> torch.Tensor:
        share = min(decay, float(count) / (9 + float(count)))  # it has counted the weights that it started from
        return share * old + (1 - share) * new

    theirs = AveragedModel(model, avg_fn=average)
    theirs.update_parameters(model)
    for _ in range(STEPS):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        ours.update()
        theirs.update_parameters(model)
    wanted = dict(theirs.module.named_parameters())
    return max(float((ours.tensors()[name] - wanted[name]).detach().abs().max()) for name in wanted)


def schedule(kind: str) -> Callable[[int], float]:
    """Largest difference of the factor at any step; in warm-up they are one step behind, since they begin at 0."""

    def run(seed: int) -> float:
        import transformers

        rng = random.Random(seed)
        warmup, final = rng.randint(1, 30), rng.choice((0.0, 0.1))
        steps = warmup + 5 * rng.randint(2, 40)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        if kind == "inverse-sqrt":
            final = 0.0
            theirs = transformers.get_inverse_sqrt_schedule(optimizer, warmup)
        elif kind == "constant":
            theirs = transformers.get_constant_schedule_with_warmup(optimizer, warmup)
        elif kind == "linear":
            final = 0.0
            theirs = transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
        elif kind == "cosine":
            theirs = transformers.get_cosine_with_min_lr_schedule_with_warmup(
                optimizer, warmup, steps, min_lr_rate=final
            )
        else:
            decay = (steps - warmup) // 5
            # Their warm-up begins at min_lr_ratio.
            theirs = transformers.get_wsd_schedule(
                optimizer, warmup, decay, steps, decay_type="linear", min_lr_ratio=final
            )
        wanted = []
        for _ in range(steps + 1):
            wanted.append(theirs.get_last_lr()[0])
            optimizer.step()
            theirs.step()
        first = warmup if kind == "wsd" and final else 0
        return max(
            abs(rate(kind, s, steps, warmup, final) - wanted[s + 1 if s < warmup else s]) for s in range(first, steps)
        )

    return run


def _ours(kind: Callable[..., Any], **settings: Any) -> Make:
    return lambda weights: kind(weights, **settings)


_MUON = {"lr": 0.02, "weight_decay": 0.1}
_ADAM = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1}
_PARTS: list[tuple[str, str, float, Callable[[int], float]]] = [
    (
        "AdamW: weights after 50 steps, float64",
        "torch",
        1e-10,
        exact(built(optimizer="adamw"), grouped(torch.optim.AdamW, betas=(0.9, 0.95))),
    ),
    (
        "SGD: weights after 50 steps, float64",
        "torch",
        1e-10,
        exact(built(optimizer="sgd"), grouped(torch.optim.SGD, momentum=0.9, nesterov=True)),
    ),
    (
        "Adafactor: weights after 50 steps, float64, as torch",
        "torch",
        1e-10,
        exact(_ours(Adafactor, lr=0.05, weight_decay=0.1), torch_adafactor),
    ),
    (
        "Adafactor: weights after 50 steps, float64, as transformers",
        "transformers",
        1e-10,
        exact(_ours(Adafactor, lr=0.05), transformers_adafactor),
    ),
    (
        "Muon: weights after 5 steps, relative to the way (the oracle iterates in bfloat16)",
        "torch",
        2e-2,
        near(_ours(Muon, **_MUON), _ours(torch.optim.Muon, **_MUON), [(24, 12), (12, 24), (300, 300)], 5),
    ),
    ("8-bit moments: the 256 numbers", "bitsandbytes", 0.0, eight_bit_numbers),
    # Of gradients that differ more, the oracle rounds small second moments to 0 and moves further from AdamW than ours.
    (
        "AdamW in 8 bits: weights after 20 steps, relative to the way",
        "bitsandbytes",
        1e-2,
        near(_ours(AdamW8bit, **_ADAM), bitsandbytes_adamw, [(64, 256), (16, 256)], 20, even=True),
    ),
    ("average of weights: 50 updates", "torch", 1e-12, averaged),
    *((f"schedule {kind}: factor of every step", "transformers", 1e-12, schedule(kind)) for kind in SCHEDULES),
]
CHECKS = [Check(*part) for part in _PARTS]
