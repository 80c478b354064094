"""Which objective trains which kind of model, and from what: one call for a recipe."""

from collections.abc import Sequence
from typing import Any

from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.models import ModelConfig
from cairn.tokenizers import Tokenizer
from cairn.training.causal import CausalLM
from cairn.training.causal_rows import ShardData
from cairn.training.masked import MaskedConfig, MaskedData, MaskedLM
from cairn.training.objective import Data, Objective
from cairn.training.shards import ShardSet
from cairn.training.spans import SpanConfig, SpanData, SpanLM
from cairn.training.special_tokens import with_mask, with_sentinels

OBJECTIVES = ("causal", "masked", "spans")


def with_tokens(kind: str, tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with what the objective needs, added behind its last id where it is missing; text is encoded as before,
    so that shards made without it stay right."""
    return {"causal": lambda t: t, "masked": with_mask, "spans": with_sentinels}[kind](tokenizer)


def check_model(kind: str, config: ModelConfig) -> None:
    """Raises UserError unless the objective is one for such a model."""
    both, encoder = config.encoder_layers > 0, not config.causal
    if kind == "causal" and (both or encoder or config.head == "none"):
        raise UserError(
            f"a {config.family} model is no decoder: train it with --objective {'spans' if both else 'masked'}"
        )
    if kind == "masked" and (both or not encoder or config.head != "masked"):
        raise UserError(
            f"--objective masked trains an encoder with a masked-language head, this {config.family} model is "
            + ("an encoder-decoder" if both else "an encoder without that head" if encoder else "a decoder")
        )
    if kind == "spans" and not both:
        raise UserError(f"--objective spans trains an encoder-decoder (T5), this {config.family} model is none")


def build_objective(
    kind: str,
    shards: Sequence[TokenShard | ShardSet],
    tokenizer: Tokenizer,
    *,
    rows: int,
    context: int,
    micro_rows: int = 0,
    shares: Sequence[float] = (1.0,),
    packed: bool = False,
    echo: float = 0.0,
    echo_steps: int = 0,
    masked: MaskedConfig | None = None,
    spans: SpanConfig | None = None,
    smoothing: float = 0.0,
    seed: int = 1,
    device: str = "auto",
) -> tuple[Objective, Data]:
    """What is learned and what it is learned from. tokenizer: that of the shards, `with_tokens`. packed: whole documents that
    do not see each other (causal, masked)."""
    common: dict[str, Any] = {
        "rows": rows, "context": context, "micro_rows": micro_rows, "shares": shares, "seed": seed, "device": device
    }  # fmt: skip
    if kind != "causal" and (echo or echo_steps):
        raise UserError(f"echoes teach a decoder to copy: give echo 0 and echo_steps 0 with --objective {kind}")
    if kind == "causal":
        data = ShardData(shards, packed=packed, end_id=tokenizer.eos_id, echo=echo, echo_steps=echo_steps, **common)
        return CausalLM(smoothing), data
    if kind == "masked":
        return MaskedLM(smoothing), MaskedData(
            shards, tokenizer, masked=masked or MaskedConfig(), packed=packed, **common
        )
    if packed:
        raise UserError(
            "span corruption fills rows of one length with running text: give packed off with --objective spans"
        )
    return SpanLM(smoothing), SpanData(shards, tokenizer, spans=spans or SpanConfig(), **common)
