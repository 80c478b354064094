"""The small runs that a scaling law is made of: which sizes, how long, and what fits into the time there is.

One dial, the width, decides a model: depth, heads and feed-forward follow. What is not to be measured is held still or follows a
rule: tokens a step, the schedule (each run decays over its own length, as Hoffmann et al. 2022 found necessary), the share
of warm-up, and the rates: Muon's steps have the same spectral norm at any width, so they need no rule; AdamW's and
Adafactor's matrices follow muP from `base_width`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cairn.core.config import option
from cairn.core.errors import UserError

if TYPE_CHECKING:
    from cairn.models import ModelConfig

HEAD = 16  # width of a head
WIDTH_A_LAYER = 32  # a model is about this many times wider than deep
FEWEST_LAYERS = 2  # one layer cannot look up what followed a token before (Olsson et al. 2022): another law
FEWEST_STEPS = 40  # shorter runs are all warm-up


@dataclass(frozen=True)
class SweepConfig:
    widths: tuple[int, ...] = option((16, 32, 48, 64, 80, 96), "widths of the models, multiples of 16", minimum=HEAD)
    flops: tuple[float, ...] = option((3e10, 1e11, 3e11, 9e11), "budgets: each width is trained with each", minimum=1.0)
    tokens: tuple[int, ...] = option((), "token counts for each width, instead of budgets", minimum=1)
    least: float = option(0.5, "tokens a parameter at least; other runs are left out", minimum=0.0)
    most: float = option(300.0, "tokens a parameter at most", minimum=0.0)
    minutes: float = option(10.0, "time for everything: CPU minutes, or those on the clock with a GPU", minimum=0.0)
    rows: int = option(8, "rows a step", minimum=1)
    context: int = option(64, "tokens a row", minimum=8)
    optimizer: str = option("muon", "optimizer of the matrices", choices=("muon", "adamw", "adafactor"))
    lr: float = option(0.04, "peak rate of AdamW (of the embeddings and norms beside Muon)", minimum=0)
    matrix_lr: float = option(0.02, "peak rate of Muon", minimum=0)
    base_width: int = option(32, "width that the rates were tuned at; 0: the same rates at all", minimum=0)
    schedule: str = option("linear", "how the rate falls over each run", choices=("linear", "cosine", "wsd"))
    warmup: float = option(0.1, "share of the steps in which the rate rises", minimum=0.0)
    valid_tokens: int = option(131072, "held-out tokens that each run is measured on", minimum=1000)
    seed: int = option(1, "seed of weights and data order", minimum=0)
    device: str = option("auto", "where to train: auto, cpu, cuda or mps")

    def __post_init__(self) -> None:
        if not self.widths or any(width % HEAD for width in self.widths):
            raise UserError(f"widths must be multiples of {HEAD}, got {', '.join(map(str, self.widths)) or 'none'}")
        if not self.tokens and not self.flops:
            raise UserError("give budgets with --flops, or token counts with --tokens")
        if not self.warmup < 1:
            raise UserError(f"warmup must be below 1, got {self.warmup}: it is a share of the steps")

    @property
    def tokens_a_step(self) -> int:
        return self.rows * self.context


@dataclass(frozen=True)
class Planned:
    """A run that could be made. estimate: seconds. refused: why it will not be; empty where it will."""

    width: int
    parameters: int
    steps: int
    tokens: int
    flops: float
    estimate: float
    refused: str = ""

    @property
    def name(self) -> str:
        return f"w{self.width}-t{self.tokens}"


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, and of the measurement at the end."""

    step: float
    measurement: float


def shape_of(width: int, vocab_size: int, context: int) -> "ModelConfig":
    """The model of a width: depth in proportion, heads of 16, a gated feed-forward of 8/3, tied embeddings."""
    from cairn.models import ModelConfig

    return ModelConfig(
        vocab_size=vocab_size,
        dim=width,
        layers=max(FEWEST_LAYERS, round(width / WIDTH_A_LAYER)),
        heads=width // HEAD,
        kv_heads=width // HEAD,
        ffn_dim=round(width / 3) * 8,
        max_positions=context,
    )


def all_runs(config: SweepConfig, vocab_size: int, available: int, costs: Mapping[int, Cost]) -> list[Planned]:
    """Each width with each budget or token count, cheapest first. available: tokens of text; none is read twice."""
    from cairn.models import Transformer

    found: dict[str, Planned] = {}
    for width in sorted(set(config.widths)):
        model = Transformer(shape_of(width, vocab_size, config.context))
        each, count = model.flops_per_token(config.context), model.parameter_count()
        for wanted in config.tokens or [budget / each for budget in config.flops]:
            steps = round(wanted / config.tokens_a_step)
            tokens = steps * config.tokens_a_step
            seconds = steps * costs[width].step + costs[width].measurement
            refused = _refused(config, steps, tokens / count, available)
            planned = Planned(width, count, steps, tokens, tokens * each, seconds, refused)
            found[planned.name] = planned
    return sorted(found.values(), key=lambda planned: planned.estimate)


def _refused(config: SweepConfig, steps: int, ratio: float, available: int) -> str:
    if steps < FEWEST_STEPS:
        return f"only {steps} steps, {FEWEST_STEPS} are the least"
    if steps * config.tokens_a_step > available:
        return f"the text has only {available:,} tokens, and none is read twice"
    if not config.least <= ratio <= config.most:
        return f"{ratio:.3g} tokens a parameter"
    return ""


def within(runs: list[Planned], seconds: float, spent: Mapping[str, float]) -> list[Planned]:
    """The runs with those refused that do not fit into `seconds`, cheapest first. spent: of runs that are done, by name."""
    left, out = seconds - sum(spent.get(planned.name, 0.0) for planned in runs), []
    for planned in runs:
        if not planned.refused and planned.name not in spent:
            if planned.estimate > left:
                planned = replace(planned, refused="no time left")
            else:
                left -= planned.estimate
        out.append(planned)
    return out
