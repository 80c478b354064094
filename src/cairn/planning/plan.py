"""A plan for a training run: the layout, micro-batch and recomputation that fit and are estimated fastest, what they take, and
what would help where nothing fits.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cairn.core.errors import UserError
from cairn.models import ModelConfig
from cairn.planning.budget import TOKENS_A_PARAMETER, family
from cairn.planning.hardware import DEVICES, GIB, Device, refuse_unjoined
from cairn.planning.layout import Layout
from cairn.planning.memory import Memory, training_memory
from cairn.planning.parameters import Parameters, count_parameters
from cairn.planning.settings import RECOMPUTE, Training
from cairn.planning.speed import StepTime, step_time

MOST_DEVICES = 1 << 14
SIMPLER = 0.02  # time that replicas (DDP) may cost over sharding that the memory does not call for
SHOWN = 8  # other layouts of a plan


@dataclass(frozen=True)
class Choice:
    """One way to run: everything that the setting had left open."""

    layout: Layout
    micro_rows: int
    recompute: str
    memory: Memory
    time: StepTime


@dataclass(frozen=True)
class TrainingPlan:
    """The chosen way and what it takes. why: how it compares with the other ways that fit."""

    config: ModelConfig
    found: Parameters
    device: Device
    setting: Training
    choice: Choice
    others: tuple[Choice, ...]  # the best of each other layout, fastest first
    considered: int
    fitting: int

    @property
    def steps(self) -> int:
        return math.ceil(self.setting.tokens / (self.setting.rows * self.setting.context))

    @property
    def hours(self) -> float:
        return self.steps * self.choice.time.seconds / 3600

    @property
    def dollars(self) -> float:
        return self.hours * self.setting.devices * self.device.price

    @property
    def kilowatt_hours(self) -> float:
        """At the boards' full power, cooling left out."""
        return self.hours * self.setting.devices * self.device.watts / 1000

    @property
    def room(self) -> float:
        return usable(self.device, self.setting)

    @property
    def why(self) -> str:
        told = f"estimated fastest of {self.fitting:,} ways that fit, of {self.considered:,} considered"
        if self.others:
            second = self.others[0]
            slower = second.time.seconds / self.choice.time.seconds - 1
            if slower < -0.0005:
                told = f"simplest within {SIMPLER:.0%} of the fastest of {self.fitting:,} ways that fit"
                told += f", of {self.considered:,} considered; {describe(second)} is {-slower:.1%} faster"
            else:
                told += f"; next is {describe(second)}, {max(slower, 0.0):.1%} slower"
        return told


def describe(choice: Choice) -> str:
    return f"{choice.layout.describe()}, micro rows {choice.micro_rows}, recompute {choice.recompute}"


def usable(device: Device, setting: Training) -> float:
    """Bytes of a device that a run may fill."""
    return device.memory * (1 - setting.reserve)


def settle(config: ModelConfig, device: Device, setting: Training) -> Training:
    """The setting with tokens, context and precision filled in. Raises UserError for what no model or device can do."""
    found = count_parameters(config)
    context = setting.context or min(config.max_positions, 4096)
    if context > config.max_positions:
        raise UserError(f"--context {context} is more than the model's {config.max_positions} positions")
    if setting.devices > MOST_DEVICES:
        raise UserError(f"--devices {setting.devices} is more than the {MOST_DEVICES} that are planned for")
    if setting.tokens == math.inf:
        raise UserError("--tokens must be a finite number")
    refuse_unjoined(device, setting.devices)
    if setting.micro_rows > setting.rows:
        raise UserError(f"--micro-rows {setting.micro_rows} is more than the {setting.rows} rows of a step")
    precision = device.precision if setting.precision == "auto" else setting.precision
    if precision == "bf16" and not device.bf16 and device.kind == "cuda":
        raise UserError(f"{device.title} has no bfloat16 arithmetic: use --precision fp16 or fp32")
    tokens = setting.tokens or TOKENS_A_PARAMETER * found.total
    return replace(setting, context=context, precision=precision, tokens=tokens)


def plan_training(config: ModelConfig, device: Device, setting: Training) -> TrainingPlan:
    """The fastest way that fits. Raises UserError, saying what would fit, where none does."""
    setting = settle(config, device, setting)
    found = count_parameters(config)
    ways = list(_ways(found, device, setting))
    room = usable(device, setting)
    fitting = sorted((w for w in ways if w.memory.peak <= room), key=_preference)
    if not fitting:
        raise UserError(refusal(found, device, setting, ways))
    best = fitting[0]
    replicas = next((w for w in fitting if w.layout.data == setting.devices), None)
    if replicas and best.layout.shard > 1 and replicas.time.seconds <= best.time.seconds * (1 + SIMPLER):
        best = replicas
    others: dict[Layout, Choice] = {}
    for way in fitting:
        if way.layout != best.layout:
            others.setdefault(way.layout, way)
    shown = list(others.values())[:SHOWN]
    if replicas and replicas.layout not in (best.layout, *(way.layout for way in shown)):
        shown[-1] = others[replicas.layout]  # what everybody knows is compared with, however slow
    return TrainingPlan(config, found, device, setting, best, tuple(shown), len(ways), len(fitting))


def _preference(way: Choice) -> tuple[float, int, float]:
    """Fastest first; among equally fast ones (to a thousandth) the simplest layout, then the least memory."""
    layout = way.layout
    degrees = (layout.shard > 1) + 2 * (layout.tensor > 1) + 2 * (layout.pipeline > 1)
    return (round(math.log(way.time.seconds), 3), degrees, way.memory.peak)


# --- the ways there are


def layouts(config: ModelConfig, device: Device, setting: Training) -> Iterator[Layout]:
    """All layouts on the devices that training/parallel can run this model in and the setting allows."""
    n = setting.devices
    for tensor in _degrees(n, setting.tensor):
        if tensor > 1 and (tensor > device.node or not _divides(config, tensor)):
            continue
        for pipeline in _degrees(n // tensor, setting.pipeline):
            if pipeline > config.layers:
                continue
            for shard in _degrees(n // tensor // pipeline, setting.shard):
                data = n // tensor // pipeline // shard
                if setting.data not in (0, data) or setting.rows % (data * shard):
                    continue
                if config.experts is not None and data != n:
                    continue  # processes would choose different experts
                for zero in (1, 2, 3) if shard > 1 else (3,):
                    if setting.zero in (0, zero) or shard == 1:
                        yield Layout(data, shard, zero, tensor, pipeline)


def _divides(config: ModelConfig, tensor: int) -> bool:
    """Whether training/parallel/tensor.py divides the matrices by `tensor`."""
    if config.latent is not None or config.positions in ("alibi", "relative") or config.qk_norm == "width":
        return False
    whole_heads = not config.kv_heads % tensor or config.kv_heads == 1
    return not config.heads % tensor and not config.ffn_dim % tensor and whole_heads


def _degrees(n: int, wanted: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0 and wanted in (0, d)]


def _ways(found: Parameters, device: Device, setting: Training) -> Iterator[Choice]:
    kinds = RECOMPUTE if setting.recompute == "auto" else (setting.recompute,)
    for layout in layouts(found.config, device, setting):
        rows = setting.rows // layout.rows
        powers = [1 << k for k in range(rows.bit_length())]
        sizes = sorted({size for size in powers if rows % size == 0} | {rows})
        if setting.micro_rows:
            sizes = [setting.micro_rows] if setting.micro_rows <= rows else []
        for micro_rows, recompute in itertools.product(sizes, kinds):
            yield consider(found, device, setting, layout, micro_rows, recompute)


def consider(
    found: Parameters, device: Device, setting: Training, layout: Layout, micro_rows: int, recompute: str
) -> Choice:
    """Memory and time of one way."""
    micro_batches = max(1, math.ceil(setting.rows / layout.rows / micro_rows))
    memory = training_memory(
        found,
        layout,
        micro_rows=micro_rows,
        context=setting.context,
        micro_batches=micro_batches,
        precision=setting.precision,
        optimizer=setting.optimizer,
        recompute=recompute,
        average=setting.average,
        kind=device.kind,
    )
    time = step_time(
        found,
        device,
        layout,
        rows=setting.rows,
        micro_rows=micro_rows,
        context=setting.context,
        precision=setting.precision,
        optimizer=setting.optimizer,
        recompute=recompute,
        mfu=setting.mfu,
        state_bytes=2 * (memory.weights + memory.gradients + memory.optimizer),
    )
    return Choice(layout, micro_rows, recompute, memory, time)


# --- what to say where nothing fits


def refusal(found: Parameters, device: Device, setting: Training, ways: list[Choice]) -> str:
    """One line: what is lacking, and which single changes would help."""
    room = usable(device, setting)
    if not ways:
        return (
            f"no layout divides this model over {setting.devices} devices as asked: tensor must divide heads, key/value heads "
            f"and ffn_dim and stay within a node of {device.node}, pipeline be at most {found.config.layers}, data x shard "
            f"divide {setting.rows} rows, and a mixture of experts is divided by data alone"
        )
    least = min(ways, key=lambda way: way.memory.peak)
    told = (
        f"{found.total / 1e9:.3g} billion parameters do not fit {setting.devices} x {device.title}: at least "
        f"{least.memory.peak / GIB:.1f} GiB a device ({describe(least)}), {room / GIB:.1f} GiB are usable"
    )
    helps = list(_helps(found, device, setting))
    return told + ". What would fit: " + ("; ".join(helps) if helps else "nothing that this table holds")


def _helps(found: Parameters, device: Device, setting: Training) -> Iterator[str]:
    one_row, again = setting.micro_rows > 1, setting.recompute not in ("auto", "full")
    alone = [replace(setting, micro_rows=1)] * one_row + [replace(setting, recompute="full")] * again
    words = ["--micro-rows 1"] * one_row + ["--recompute full"] * again
    helping = [word for word, other in zip(words, alone) if _fits(found, device, other)]
    yield from helping
    if one_row and again and not helping and _fits(found, device, replace(alone[0], recompute="full")):
        yield " ".join(words)
    for optimizer in ("adamw8bit", "adafactor"):
        if setting.optimizer != optimizer and _fits(found, device, replace(setting, optimizer=optimizer)):
            yield f"--optimizer {optimizer}"
            break
    free = replace(setting, data=0, shard=0, zero=0, tensor=0, pipeline=0)
    if free != setting and _fits(found, device, free):
        yield "another layout on the same devices (leave --data, --shard, --zero, --tensor and --pipeline out)"
    if device.link:
        count = 1 << setting.devices.bit_length()  # the next power of two
        while count <= MOST_DEVICES:
            more = replace(free, devices=count, rows=-(-setting.rows // count) * count)
            if _fits(found, device, more):
                yield f"--devices {count}"
                break
            count *= 2
    larger = sorted((d for d in DEVICES.values() if d.memory > device.memory), key=lambda d: d.memory)
    larger = [d for d in larger if setting.devices == 1 or d.link]
    fitting = [d.name for d in larger if _fits(found, d, replace(setting, precision="auto"))]
    if fitting:
        yield f"--hardware {fitting[0]}" + (f" (or {', '.join(fitting[1:3])})" if fitting[1:] else "")
    if setting.context > 512 and _fits(found, device, replace(setting, context=512)):
        yield "--context 512"
    smaller = _largest_that_fits(found.config, device, setting)
    if smaller is not None:
        count = count_parameters(smaller).total
        yield (
            f"a smaller model of the family, up to {count / 1e9:.3g} billion parameters "
            f"(dim {smaller.dim}, layers {smaller.layers}, heads {smaller.heads}, ffn_dim {smaller.ffn_dim})"
        )


def _fits(found: Parameters, device: Device, setting: Training) -> bool:
    try:
        setting = settle(found.config, device, setting)
    except UserError:
        return False
    room = usable(device, setting)
    # What fits at all fits with one row and everything computed again, where the setting leaves that open.
    setting = replace(
        setting,
        micro_rows=setting.micro_rows or 1,
        recompute="full" if setting.recompute == "auto" else setting.recompute,
    )
    return any(way.memory.peak <= room for way in _ways(found, device, setting))


def _largest_that_fits(config: ModelConfig, device: Device, setting: Training) -> ModelConfig | None:
    """By bisection: memory grows with the number of heads."""
    members = family(config)
    low, high = 0, len(members)  # members[high:] fit
    while low < high:
        middle = (low + high) // 2
        if _fits(count_parameters(members[middle]), device, setting):
            high = middle
        else:
            low = middle + 1
    return members[low] if low < len(members) else None
