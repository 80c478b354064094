"""What serving a model takes: memory for weights and for keys and values, and how fast it can be at most.

Reading a prompt is bound by arithmetic, writing by memory: each new token of a batch reads all weights that it meets, and
the keys and values of its own text.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cairn.core.errors import UserError
from cairn.models import ModelConfig
from cairn.planning.hardware import DEVICES, GIB, Device, refuse_unjoined
from cairn.planning.memory import RUNTIME
from cairn.planning.parameters import Parameters, Weight, count_flops, count_parameters
from cairn.planning.settings import FORMATS, LONGEST_DEFAULT, WIDTH, Serving

SHORTEST = 512  # tokens of a text that a refusal still proposes
GROUP, SCALE = 32, 2.0  # of `cairn quantize`: inputs that share a scale in INT4, bytes of a scale


@dataclass(frozen=True)
class ServingPlan:
    """bytes are of all devices together, seconds and tokens a second are bounds: nothing is faster."""

    setting: Serving
    context: int
    weight_bytes: float
    cache_bytes_per_token: float
    cache_bytes: float
    runtime_bytes: float
    memory: float  # of all devices
    most_sequences: int
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    decode_step_seconds: float

    @property
    def total_bytes(self) -> float:
        return self.weight_bytes + self.cache_bytes + self.runtime_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.memory

    def dollars_per_million(self, price: float) -> float:
        """Of written tokens, at the bound, where a device costs `price` an hour."""
        return price * self.setting.devices / 3600 / self.decode_tokens_per_second * 1e6


def weight_bytes(found: Parameters, format: str) -> float:
    """Bytes of the weights, as `cairn quantize` stores them: matrices of the blocks as integers with a bfloat16 scale for a
    row (int8) or for GROUP inputs (int4; int8 where inputs are no multiple of it), all else in 16 bits."""
    return sum(_stored_bytes(w, format) * w.copies for w in found.weights)


def _stored_bytes(w: Weight, format: str) -> float:
    if format in WIDTH:
        return w.size * WIDTH[format]
    if w.block < 0 or len(w.shape) != 2:
        return w.size * 2.0
    if format == "int8" or w.shape[1] % GROUP:
        return w.size + w.shape[0] * SCALE
    return w.size / 2 + w.size / GROUP * SCALE


def cache_bytes_per_token(config: ModelConfig, format: str = "bf16") -> float:
    """Bytes that a token leaves behind for those after it: keys and values of every layer, by grouped heads or as one latent
    vector. A window saves attention's time and no memory: `PagedCache` keeps every position."""
    heads, key, value = config.cache_shape
    return heads * (key + value) * config.layers * WIDTH[format]


def _bounds(config: ModelConfig, device: Device, setting: Serving) -> ServingPlan:
    found = count_parameters(config)
    context = setting.context or min(config.max_positions, LONGEST_DEFAULT)
    weights, per_token = weight_bytes(found, setting.weights), cache_bytes_per_token(config, setting.cache)
    per_token *= setting.devices if config.latent else 1  # all heads share one latent vector: each device has it
    runtime = RUNTIME[device.kind] * setting.devices
    memory = device.memory * setting.devices
    room = memory - weights - runtime
    rate = device.rate("fp32" if setting.weights == "fp32" else "bf16" if device.bf16 else "fp16") * setting.devices
    bandwidth = device.bandwidth * setting.devices
    # A batch of texts meets more of a mixture's experts than one text does: each stays unmet with (1 - share)^texts.
    met = sum(
        _stored_bytes(w, setting.weights) * w.copies * (1 - (1 - w.active) ** setting.sequences) for w in found.weights
    )
    tied = config.tie_embeddings and config.head != "none"
    looked_up = sum(  # a row of an embedding is read, not the whole
        _stored_bytes(w, setting.weights)
        for w in found.weights
        if w.part == "embedding" and len(w.shape) == 2 and not (tied and w.name == "embed.weight")
    )
    read = met - looked_up + per_token * context * setting.sequences
    flops = count_flops(config, context).forward
    step = max(read / bandwidth, flops * setting.sequences / rate)
    return ServingPlan(
        setting,
        context,
        weights,
        per_token,
        per_token * context * setting.sequences,
        runtime,
        memory,
        max(0, int(room / (per_token * context))),
        rate / flops,
        setting.sequences / step,
        step,
    )


def plan_serving(config: ModelConfig, device: Device, setting: Serving) -> ServingPlan:
    """Raises UserError for what has no cache to plan (encoders), for more tokens than the model has positions, and for what
    does not fit, saying what would."""
    if not config.causal:
        raise UserError(f"a {config.family} model does not write; only decoders are planned for serving")
    if setting.context > config.max_positions:
        raise UserError(f"--context {setting.context} is more than the model's {config.max_positions} positions")
    if setting.devices > 1 and (config.heads % setting.devices or config.kv_heads % setting.devices):
        raise UserError(
            f"--devices {setting.devices} must divide the {config.heads} heads and {config.kv_heads} key/value heads"
        )
    refuse_unjoined(device, setting.devices)
    plan = _bounds(config, device, setting)
    if plan.fits:
        return plan
    raise UserError(
        f"this does not fit {setting.devices} x {device.title}: {plan.total_bytes / GIB:.1f} GiB are needed, "
        f"{plan.memory / GIB:.1f} are there. What would fit: {'; '.join(_helps(config, device, setting, plan)) or 'nothing'}"
    )


def _helps(config: ModelConfig, device: Device, setting: Serving, plan: ServingPlan) -> Iterator[str]:
    """Single changes that would do; where there is none on this device, the least of several together."""

    def fits(other: Serving, where: Device = device) -> bool:
        return _bounds(config, where, other).fits

    alone = False
    if plan.most_sequences:
        alone = True
        yield f"--sequences {plan.most_sequences}"
    for weights in _smaller(setting.weights):
        if fits(replace(setting, weights=weights)):
            alone = True
            yield f"--weights {weights}"
            break
    for context in _halves(plan.context, SHORTEST):
        if fits(replace(setting, context=context)):
            alone = True
            yield f"--context {context}"
            break
    together = None if alone else _together(config, device, setting, plan.context)
    if together is not None:
        yield together
    if device.link:
        counts = [n for n in (2, 4, 8, 16) if n > setting.devices and not (config.heads % n or config.kv_heads % n)]
        for count in counts:
            if fits(replace(setting, devices=count)):
                yield f"--devices {count}"
                break
    larger = sorted((d for d in DEVICES.values() if d.memory > device.memory), key=lambda d: d.memory)
    found = [d.name for d in larger if fits(setting, d) and (setting.devices == 1 or d.link)]
    if found:
        yield f"--hardware {found[0]}"


def _together(config: ModelConfig, device: Device, setting: Serving, context: int) -> str | None:
    """Smaller weights, shorter and fewer texts at once: with the fewest steps down, weights before the others."""
    steps = itertools.product(
        enumerate((setting.weights, *_smaller(setting.weights))),
        enumerate((context, *_halves(context, SHORTEST))),
        enumerate((setting.sequences, *_halves(setting.sequences, 1))),
    )
    for way in sorted(steps, key=lambda way: (sum(down for down, _ in way), -way[0][0])):
        (_, weights), (_, length), (_, texts) = way
        other = replace(setting, weights=weights, context=length, sequences=texts)
        if _bounds(config, device, other).fits:
            return f"--weights {weights} --context {length} --sequences {texts} together"
    return None


def _smaller(weights: str) -> list[str]:
    """Formats of fewer bytes, the largest first."""
    return [form for form in ("bf16", "int8", "int4") if FORMATS.index(form) > FORMATS.index(weights)]


def _halves(value: int, least: int) -> list[int]:
    """value / 2, / 4, ... down to `least`."""
    found = []
    while (value := value // 2) >= least:
        found.append(value)
    return found
