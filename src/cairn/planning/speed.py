"""How long a training step takes on a layout: arithmetic at an assumed share of the peak, and what is sent between devices.

Gradients and gathered weights travel while blocks compute: they cost what does not fit behind the arithmetic. What a
tensor-parallel block sends it waits for, as small micro-batches wait for Python. A pipeline of p stages stands still for
(p - 1) of (m + p - 1) micro-batches.
"""

import math
from dataclasses import dataclass

from cairn.planning.activations import Pass, block_kept
from cairn.planning.hardware import Device
from cairn.planning.layout import Layout
from cairn.planning.parameters import Parameters, count_flops

LINK_SHARE = 0.75  # of a link's rate that collectives reach on large messages (NCCL's ring on NVLink and InfiniBand)
NEWTON_SCHULZ_STEPS = 5
FLOAT = 4.0  # bytes: weights are gathered, gradients summed in float32 (training/parallel)
# Bytes of memory traffic that a micro-batch costs for each weight: it is read twice, its gradient made, added, written.
WEIGHT_BYTES = 20.0
# Seconds to start an operation from Python, and operations of a block's forward and backward pass (its tape, three times).
LAUNCH = {"cuda": 5e-6, "rocm": 5e-6, "mps": 5e-6}
OPERATIONS = 100


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step. model_flops: what the step has to compute at least, of all devices together."""

    model_flops: float
    compute: float
    recompute: float
    small: float  # what micro-batches cost whatever their size
    reduce: float  # gradients and sharded weights, of which `exposed` does not hide behind the arithmetic
    exposed: float
    tensor: float
    bubble: float
    update: float
    peak: float  # FLOP/s of all devices

    @property
    def seconds(self) -> float:
        return self.compute + self.recompute + self.small + self.exposed + self.tensor + self.bubble + self.update

    @property
    def mfu(self) -> float:
        """Share of the devices' peak that the step's own FLOPs are, all waiting included."""
        return self.model_flops / (self.seconds * self.peak)


def step_time(
    found: Parameters,
    device: Device,
    layout: Layout,
    *,
    rows: int,
    micro_rows: int,
    context: int,
    precision: str,
    optimizer: str,
    recompute: str,
    mfu: float,
    state_bytes: float,
) -> StepTime:
    """Of a step. mfu: share of the peak that the arithmetic itself reaches. state_bytes: what the optimizer's step touches
    on a device.
    """
    config = found.config
    run = Pass(micro_rows, context, precision != "fp32", device.kind, layout.tensor)
    flops = count_flops(config, context)
    tokens = rows * context
    peak = device.rate(precision) * layout.size
    rate = peak * mfu
    compute = flops.training * tokens / rate
    micro_batches = max(1, math.ceil(rows / (micro_rows * layout.rows)))
    part = found.total / (layout.tensor * layout.pipeline)  # numbers of one device's part, before sharding

    again = _recomputed(found, context, recompute) * tokens / rate
    if recompute != "none":  # what is no product is read and written again
        forgotten = sum(block_kept(config, k, run).all * k.count for k in found.kinds) / layout.pipeline
        again += 2 * forgotten * micro_batches / device.bandwidth
    # Each micro-batch reads the weights and adds to the gradients, and a small one waits for its operations to be started.
    started = LAUNCH.get(device.kind, 0.0) * OPERATIONS * config.layers / layout.pipeline
    small = WEIGHT_BYTES * part / device.bandwidth + max(0.0, started - compute / micro_batches)
    small *= micro_batches

    sent = 2 * FLOAT * part / layout.shard * _share(layout.data)
    reduce = sent / _link(device, layout.tensor * layout.shard, layout.data)
    gathers = 2 * micro_batches if layout.zero == 3 else 1  # of weights: forward and backward, or once a step
    scatters = micro_batches if layout.zero > 1 else 1  # of gradients
    sharded = (gathers + scatters) * FLOAT * part * _share(layout.shard)
    reduce += sharded / _link(device, layout.tensor, layout.shard)

    width = FLOAT if precision == "fp32" else FLOAT / 2
    stream = micro_rows * context * config.dim  # numbers of the residual stream of a micro-batch
    blocks = config.layers / layout.pipeline
    sums = (6 if recompute == "full" else 4) * blocks * micro_batches
    tensor = sums * 2 * width * stream * _share(layout.tensor) / _link(device, 1, layout.tensor)
    if layout.pipeline > 1:
        tensor += 2 * micro_batches * FLOAT * stream / _link(device, layout.size // layout.pipeline, layout.pipeline)
    bubble = (compute + again + small + tensor) * (layout.pipeline - 1) / micro_batches
    update = state_bytes / device.bandwidth
    if optimizer == "muon":
        orthogonal = device.rate("bf16" if device.kind == "cuda" else "fp32") * mfu
        update += _newton_schulz(found) / (orthogonal * layout.shard * layout.tensor * layout.pipeline)
    exposed = max(0.0, reduce - (compute + again))
    return StepTime(flops.training * tokens, compute, again, small, reduce, exposed, tensor, bubble, update, peak)


def _recomputed(found: Parameters, context: int, recompute: str) -> float:
    """FLOPs a token that are computed a second time: with `full` the forward pass of all blocks, with `selective` no matrix
    product."""
    if recompute != "full":
        return 0.0
    flops = count_flops(found.config, context)
    inside = sum(w.size * w.copies * w.active for w in found.weights if w.multiplies and w.block >= 0)
    return 2.0 * inside + flops.attention


def _share(degree: int) -> float:
    """What a ring of `degree` sends of the whole in one pass."""
    return (degree - 1) / degree


def _link(device: Device, inner: int, degree: int) -> float:
    """Bytes a second between the devices of a group whose members stand `inner` apart."""
    within = inner * degree <= device.node
    return max((device.link if within else device.network) * LINK_SHARE, 1.0)


def _newton_schulz(found: Parameters) -> float:
    """FLOPs of orthogonalizing every matrix of the blocks once: three products of R x C an iteration, R <= C."""
    total = 0.0
    for w in found.weights:
        if w.block >= 0 and len(w.shape) == 2:
            r, c = sorted(w.shape)
            total += w.copies * NEWTON_SCHULZ_STEPS * (4.0 * r * r * c + 2.0 * r**3)
    return total
