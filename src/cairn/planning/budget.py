"""How large a model and how many tokens a budget buys: Chinchilla's law, its constants or those of one's own fit.

The law and its optimum are those of `scaling.chinchilla`; C = 6 N D FLOPs, or as many for N D as the runs of a fit took.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

from cairn.core.config import to_dict
from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.models import ModelConfig
from cairn.planning.hardware import find_device, refuse_unjoined
from cairn.planning.scaling.chinchilla import NAMES, Surface
from cairn.planning.scaling.runs import FLOPS_PER_WEIGHT

HOFFMANN = Surface(1.69, 406.4, 410.7, 0.34, 0.28)  # Hoffmann et al. 2022, section D.3: approach 3 as published
BESIROGLU = Surface(1.8172, 482.01, 2085.43, 0.3478, 0.3658)  # Besiroglu et al. 2024: the same data, fitted again
LAWS = {"hoffmann": HOFFMANN, "besiroglu": BESIROGLU}
LEAST, MOST = 1e-30, 1e30  # constants of a law, and budgets: far outside of what has a meaning
MOST_VOCABULARY, MOST_CONTEXT = 10**7, 10**8
TOKENS_A_PARAMETER = 20.0  # what approaches 1 and 2 of Hoffmann et al. come to, and the rule of thumb since


def twenty_tokens(flops: float) -> tuple[float, float]:
    """(parameters, tokens) with 20 tokens a parameter."""
    parameters = math.sqrt(flops / 6 / TOKENS_A_PARAMETER)
    return parameters, TOKENS_A_PARAMETER * parameters


def read_law(path: Path | str) -> Surface:
    """The law in a JSON file that `cairn scaling fit` wrote: an object with E, A, B, alpha and beta. Its FLOPs for a
    parameter and token are taken over too. Raises UserError for other files, and for a law of parameters without embeddings:
    the sizes here have them.
    """
    data = read_json(path)
    missing = [name for name in NAMES if not isinstance(data, dict) or name not in data]
    if missing:
        raise UserError(f"{path} is no fitted law: it lacks {', '.join(missing)}; write it with cairn scaling fit")
    if data.get("count", "total") != "total":
        raise UserError(
            f"{path} counts parameters without embeddings: make the fit with cairn scaling fit --count total"
        )
    per_pair = data.get("flops_per_parameter_token", FLOPS_PER_WEIGHT)
    values = {name: data[name] for name in NAMES} | {"flops_per_parameter_token": per_pair}
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least = 0.0 if name == "E" else LEAST
        if not number or not least <= value <= MOST:
            raise UserError(f"{path}: a scaling law needs a positive {name}, got {str(value)[:40]}")
    return Surface(*(float(value) for value in values.values()))


def spend(
    flops: float | None,
    dollars: float | None,
    hours: float | None,
    hardware: str,
    price: float | None,
    devices: int,
    mfu: float,
) -> tuple[float, str]:
    """A budget in FLOPs, and how it came about: it is given as FLOPs, or as money or hours on hardware."""
    given = flops if flops is not None else dollars if dollars is not None else hours
    if given is None or not LEAST <= given <= MOST:
        raise UserError(f"the budget must be a positive number up to {MOST:g}: --flops, --dollars or --hours")
    if devices < 1 or not 0 < mfu <= 1:
        raise UserError("a budget needs --devices of at least 1 and --mfu above 0 and at most 1")
    if flops is not None:
        return flops, f"budget: {flops:.3g} FLOPs"
    device = find_device(hardware, price)
    refuse_unjoined(device, devices)
    if dollars is not None:
        if device.price <= 0:
            raise UserError("a budget in dollars needs a --price above 0")
        device_hours = dollars / device.price
        told = f"{dollars:g} dollars at {device.price:g} an hour"
    else:
        assert hours is not None
        device_hours, told = hours * devices, f"{hours:g} hours of {devices}"
    rate = device.rate(device.precision)
    bought = device_hours * 3600 * rate * mfu
    return bought, (
        f"budget: {told} x {device.title} at {mfu:.0%} of {rate / 1e12:.3g} TFLOP/s ({device.precision}): {bought:.3g} FLOPs"
    )


def best_models(flops: float, law: str | None, vocab_size: int, context: int) -> list[dict[str, Any]]:
    """What each law says to train with a budget: {"law", "parameters", "tokens", "loss", "shape"}, the file's law first.

    Raises UserError for a budget that no shape of `shape_of_size` is large enough for.
    """
    for name, value, most in (("--vocabulary", vocab_size, MOST_VOCABULARY), ("--context", context, MOST_CONTEXT)):
        if not 1 <= value <= most:
            raise UserError(f"{name} must be from 1 to {most}, got {value}")
    laws = ({law: read_law(law)} if law else {}) | LAWS
    found: list[tuple[str, float, float, Surface | None]] = [
        (name, *fit.optimal(flops), fit) for name, fit in laws.items()
    ]
    found.append(("20 tokens a parameter", *twenty_tokens(flops), None))
    return [
        {
            "law": name,
            "parameters": parameters,
            "tokens": tokens,
            "loss": None if fit is None else fit.loss(parameters, tokens),
            "shape": to_dict(shape_of_size(parameters, vocab_size, context)),
        }
        for name, parameters, tokens, fit in found
    ]


# --- shapes of a size

ASPECT = 100  # width over depth of Llama-like models (Llama 8B: 128, GPT-2 XL: 33, Chinchilla's: 64 to 180)
HEAD = 64
MOST_HEADS, MOST_LAYERS = 396, 400


def shape_of_size(parameters: float, vocab_size: int = 32768, context: int = 2048) -> ModelConfig:
    """A Llama-like shape with about so many parameters, its embedding included.

    Depth follows from the width; of the shapes within a tenth of the size, the one whose proportions are nearest to ASPECT
    times as wide as deep, else the one nearest in size. Raises UserError for more than the largest of them has.
    """
    found: list[tuple[float, float, ModelConfig]] = []
    for heads in [1, 2, 3, 4, 6, *range(8, MOST_HEADS + 1, 4)]:
        dim = HEAD * heads
        inner = -(-dim * 8 // 3 // HEAD) * HEAD  # SwiGLU at the cost of a plain layer of 4 dim (Shazeer 2020)
        tied = dim < 2048  # a small model would spend most of its weights on two embeddings
        kv = next(n for n in (8, 4, 2, 1) if heads % n == 0 and n <= max(1, heads // 2))
        outside = (1 if tied else 2) * vocab_size * dim + dim
        block = 2 * dim * dim + 2 * dim * kv * HEAD + 3 * dim * inner + 2 * dim
        layers = max(1, round((min(parameters, MOST) - outside) / block))
        error = abs(math.log((outside + layers * block) / parameters))
        strange = abs(math.log(dim / layers / ASPECT))
        if layers <= MOST_LAYERS:
            config = ModelConfig(
                vocab_size=vocab_size, dim=dim, layers=layers, heads=heads, kv_heads=kv, ffn_dim=inner,
                max_positions=context, tie_embeddings=tied,
            )  # fmt: skip
            found.append((error, strange, config))
    if not found:
        raise UserError(
            f"{parameters:.3g} parameters are more than any Llama-like shape here has "
            f"({MOST_LAYERS} layers, width {HEAD * MOST_HEADS:,}): take a smaller budget"
        )
    near = [entry for entry in found if entry[0] < 0.1]
    if near:
        return min(near, key=lambda entry: entry[1])[2]
    return min(found, key=lambda entry: entry[0])[2]


def scaled(config: ModelConfig, heads: int) -> ModelConfig | None:
    """The same family with fewer heads: width, inner width and depth in proportion; None where that gives no shape."""
    share = heads / config.heads
    layers = max(1, round(config.layers * share))
    experts = config.experts
    if experts is not None:
        experts = dataclasses.replace(
            experts,
            inner=max(HEAD, round(experts.inner * share / HEAD) * HEAD),
            dense_layers=min(experts.dense_layers, layers - 1),
        )
    try:
        return dataclasses.replace(
            config,
            heads=heads,
            kv_heads=max(n for n in range(1, config.kv_heads + 1) if heads % n == 0),
            dim=max(2, round(config.dim * share / 2) * 2),
            ffn_dim=max(HEAD, round(config.ffn_dim * share / HEAD) * HEAD),
            layers=layers,
            window_layers=config.window_layers[:layers],
            experts=experts,
        )
    except UserError:
        return None


def family(config: ModelConfig) -> list[ModelConfig]:
    """Smaller members of the configuration's family, the largest first."""
    return [c for heads in range(config.heads - 1, 0, -1) if (c := scaled(config, heads)) is not None]
