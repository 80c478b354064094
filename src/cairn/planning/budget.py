"""How large a model and how many tokens a budget buys: Chinchilla's law, its constants or those of one's own fit.

loss(N, D) = E + A / N^alpha + B / D^beta for N parameters and D tokens (Hoffmann et al. 2022, equation 10), at C = 6 N D
FLOPs. Along a budget C the loss is smallest where both falling terms lose equally:

    N = G (C/6)^(beta / (alpha + beta)),   D = C / 6 / N,   G = (alpha A / (beta B))^(1 / (alpha + beta))   (equation 4)
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import from_dict, option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.models import ModelConfig
from cairn.planning.hardware import find_device


@dataclass(frozen=True)
class Law:
    """The constants of a fit; loss in nats a token."""

    E: float = option(1.69, "loss that no model gets below", minimum=0)
    A: float = option(406.4, "factor of the parameters' term", minimum=0)
    B: float = option(410.7, "factor of the tokens' term", minimum=0)
    alpha: float = option(0.34, "exponent of the parameters", minimum=0)
    beta: float = option(0.28, "exponent of the tokens", minimum=0)

    def __post_init__(self) -> None:
        for name in ("A", "B", "alpha", "beta"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UserError(f"a scaling law needs a positive {name}, got {value}")

    def loss(self, parameters: float, tokens: float) -> float:
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

    def optimum(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the smallest loss for a budget."""
        both = self.alpha + self.beta
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        parameters = ratio * (flops / 6) ** (self.beta / both)
        return parameters, flops / 6 / parameters


HOFFMANN = Law()  # Hoffmann et al. 2022, section D.3: approach 3 as published
BESIROGLU = Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658)  # Besiroglu et al. 2024: the same data, fitted again
LAWS = {"hoffmann": HOFFMANN, "besiroglu": BESIROGLU}
TOKENS_A_PARAMETER = 20.0  # what approaches 1 and 2 of Hoffmann et al. come to, and the rule of thumb since


def twenty_tokens(flops: float) -> tuple[float, float]:
    """(parameters, tokens) with 20 tokens a parameter."""
    parameters = math.sqrt(flops / 6 / TOKENS_A_PARAMETER)
    return parameters, TOKENS_A_PARAMETER * parameters


def read_law(path: Path | str) -> Law:
    """The constants in a JSON file that `cairn scaling fit` wrote: an object with E, A, B, alpha and beta."""
    data = read_json(path)
    names = [field.name for field in dataclasses.fields(Law)]
    missing = [name for name in names if not isinstance(data, dict) or name not in data]
    if missing:
        raise UserError(f"{path} is no fitted law: it lacks {', '.join(missing)}; write it with cairn scaling fit")
    return from_dict(Law, {name: data[name] for name in names}, where=str(path))


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
    if given is None or not 0 < given < math.inf:
        raise UserError("the budget must be a positive number: --flops, --dollars or --hours")
    if flops is not None:
        return flops, f"budget: {flops:.3g} FLOPs"
    if devices < 1 or not 0 < mfu <= 1:
        raise UserError("a budget on hardware needs --devices of at least 1 and --mfu above 0 and at most 1")
    device = find_device(hardware, price)
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
    """What each law says to train with a budget: {"law", "parameters", "tokens", "loss", "shape"}, the file's law first."""
    laws = ({law: read_law(law)} if law else {}) | LAWS
    found: list[tuple[str, float, float, Law | None]] = [(name, *fit.optimum(flops), fit) for name, fit in laws.items()]
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


def shape_of_size(parameters: float, vocab_size: int = 32768, context: int = 2048) -> ModelConfig:
    """A Llama-like shape with about so many parameters, its embedding included.

    Depth follows from the width; of the shapes within a tenth of the size, the one whose proportions are nearest to ASPECT
    times as wide as deep, else the one nearest in size.
    """
    found: list[tuple[float, float, ModelConfig]] = []
    for heads in [1, 2, 3, 4, 6, *range(8, 400, 4)]:
        dim = HEAD * heads
        inner = -(-dim * 8 // 3 // HEAD) * HEAD  # SwiGLU at the cost of a plain layer of 4 dim (Shazeer 2020)
        tied = dim < 2048  # a small model would spend most of its weights on two embeddings
        kv = next(n for n in (8, 4, 2, 1) if heads % n == 0 and n <= max(1, heads // 2))
        outside = (1 if tied else 2) * vocab_size * dim + dim
        block = 2 * dim * dim + 2 * dim * kv * HEAD + 3 * dim * inner + 2 * dim
        layers = max(1, round((parameters - outside) / block))
        error = abs(math.log((outside + layers * block) / parameters))
        strange = abs(math.log(dim / layers / ASPECT))
        if layers <= 400:
            config = ModelConfig(
                vocab_size=vocab_size, dim=dim, layers=layers, heads=heads, kv_heads=kv, ffn_dim=inner,
                max_positions=context, tie_embeddings=tied,
            )  # fmt: skip
            found.append((error, strange, config))
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
