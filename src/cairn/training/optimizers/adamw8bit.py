"""AdamW whose two moments take one byte each (Dettmers et al. 2021): a quarter of AdamW's state, the same updates but for
rounding. See `eightbit` for the numbers.

Shapes: N blocks, B values of a block.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from cairn.training.optimizers.eightbit import dequantize, dynamic_map, quantize
from cairn.training.optimizers.sharded import is_sharded, local, shaped_like

BLOCK = 256
FEW = 4096  # values of a parameter below which its moments stay in float32: they weigh nothing, and norms are sensitive
CHUNK = 1 << 20  # values whose moments are in float32 at a time
THREADED = 1 << 17  # values from which a second thread repays its start


def block_length(parameter: torch.Tensor) -> int:
    """Values that share a scale: the largest divisor, 256 at most, of the part of a row that one process holds. 0 where
    the moments stay in float32.

    Blocks do not cross rows, so that a matrix divided by rows over any number of processes has the same blocks.
    """
    if parameter.numel() < FEW or parameter.ndim < 2:
        return 0
    length, parts = parameter.shape[-1], 1
    if is_sharded(parameter):
        sharded: Any = parameter
        for size, placement in zip(sharded.device_mesh.shape, sharded.placements):
            parts *= size if placement.is_shard(parameter.ndim - 1) else 1
    if length % parts:
        return 0
    length //= parts
    best = max(divisor for divisor in range(1, min(BLOCK, length) + 1) if length % divisor == 0)
    return best if best >= 32 else 0  # with shorter blocks the scales would weigh as much as the codes


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) for parameters with a `block_length`.

    One change to the paper: a second moment above 0 is never rounded to 0. Beside a first moment that is not, it would
    make an update of 1 / eps.
    """

    def __init__(
        self, params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps=1e-8, weight_decay: float = 0.0
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        assert all(block_length(p) for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p].update(self.initial_state(p))
                    self._update(p, group)

    def initial_state(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        """Moments of 0 (whatever the codes, by scales of 0): codes shaped like the parameter, scales with a column a block."""
        length = block_length(p)
        part = local(p)
        codes, scales = (
            torch.zeros_like(part, dtype=torch.uint8),
            part.new_zeros(part.numel() // length, dtype=torch.float32),
        )
        columns = torch.Size((*p.shape[:-1], p.shape[-1] // length))
        state = {"step": torch.zeros(())}
        for key in ("m", "v"):
            state[key] = shaped_like(codes.clone(), p, p.shape)
            state[f"{key}_scale"] = shaped_like(scales.view(*part.shape[:-1], -1).clone(), p, columns)
        return state

    def _update(self, p: torch.Tensor, group: dict) -> None:
        state, length = self.state[p], block_length(p)
        state["step"] += 1
        step, (beta1, beta2), lr = float(state["step"]), group["betas"], group["lr"]
        rule = Rule(
            beta1, beta2, lr / (1 - beta1**step), (1 - beta2**step) ** 0.5, group["eps"], 1 - lr * group["weight_decay"]
        )
        weight, grad = local(p), local(p.grad)
        codes = [local(state[key]).view(-1, length) for key in ("m", "v")]
        scales = [local(state[f"{key}_scale"]).view(-1) for key in ("m", "v")]
        blocks = Blocks(weight.view(-1, length), grad.reshape(-1, length), codes[0], scales[0], codes[1], scales[1])
        if weight.device.type == "cpu" and weight.dtype == grad.dtype == torch.float32:
            update_in_kernel(blocks, rule)
        else:
            for first in range(0, len(blocks.weight_NB), CHUNK // length):
                update_blocks(Blocks(*(x[first : first + CHUNK // length] for x in blocks)), rule)


class Rule(NamedTuple):
    """A step: rate is lr / (1 - beta1^t), root is sqrt(1 - beta2^t), keep what weight decay leaves of a weight."""

    beta1: float
    beta2: float
    rate: float
    root: float
    eps: float
    keep: float


class Blocks(NamedTuple):
    """Weights, gradients, and the codes and scales of both moments."""

    weight_NB: torch.Tensor
    grad_NB: torch.Tensor
    m_NB: torch.Tensor
    m_scale_N: torch.Tensor
    v_NB: torch.Tensor
    v_scale_N: torch.Tensor


def update_blocks(blocks: Blocks, rule: Rule) -> None:
    """weight <- keep * weight - rate * m / (sqrt(v) / root + eps) with the moments unrounded, which are then packed again."""
    grad_NB = blocks.grad_NB.float()
    m_NB = dequantize(blocks.m_NB, blocks.m_scale_N, True).lerp_(grad_NB, 1 - rule.beta1)
    v_NB = dequantize(blocks.v_NB, blocks.v_scale_N, False).lerp_(grad_NB.square(), 1 - rule.beta2)
    update_NB = m_NB / (v_NB.sqrt() / rule.root + rule.eps)
    blocks.weight_NB.mul_(rule.keep).sub_((update_NB * rule.rate).to(blocks.weight_NB.dtype))
    for values_NB, code_NB, scale_N, signed in (
        (m_NB, blocks.m_NB, blocks.m_scale_N, True),
        (v_NB, blocks.v_NB, blocks.v_scale_N, False),
    ):
        code, scale = quantize(values_NB, signed)
        code_NB.copy_(code if signed else torch.where(values_NB > 0, code.clamp(min=1), 0))
        scale_N.copy_(scale)


def update_in_kernel(blocks: Blocks, rule: Rule) -> None:
    """`update_blocks` for float32 on a CPU."""
    from cairn.kernels.eightbit import adamw_blocks
    from cairn.kernels.threads import in_parts

    settings = tuple(np.float32(value) for value in rule)
    update: Any = functools.partial(adamw_blocks, *(x.numpy() for x in blocks), *_tables(), settings)
    count, size = blocks.weight_NB.shape
    threads = torch.get_num_threads() if count * size >= THREADED else 1
    in_parts(update, count, threads)


@functools.cache
def _tables() -> list[np.ndarray]:
    """Of each moment: the numbers, the borders between them and one above all, and the first guess at a code."""
    from cairn.kernels.eightbit import first_codes

    tables = []
    for signed in (True, False):
        numbers = dynamic_map(signed).numpy()
        borders = (numbers[1:] + numbers[:-1]) / 2
        tables += [numbers, np.append(borders, np.float32(2.0)), first_codes(borders)]
    return tables
