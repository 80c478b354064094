"""Phi-3 (Abdin et al. 2024): Llama with fused projections, a window, and in Phi-4-mini a part of a head rotated."""

from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Fields, Tensors, Values, read_rope, write_rope
from cairn.models.families.fused import divide_parts, grouped_rows, join_parts
from cairn.models.families.llama import NAMES, shape

_DEFAULTS = {"max_positions": 4096, "norm_eps": 1e-5}
_QKV, _GATE_UP = "model.layers.{}.self_attn.qkv_proj", "model.layers.{}.mlp.gate_up_proj"


def _read(fields: Fields, values: Values) -> None:
    values["rope_fraction"] = 1.0
    read_rope(fields, values)
    if values.get("rope_scaling") is not None:
        raise UserError("config.json: rope_scaling is not supported in a phi3 (only without)")
    fields.optional("original_max_position_embeddings", int)  # only longrope reads it
    values["window"] = fields.optional("sliding_window", int, minimum=1) or 0


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.window_layers or config.rope_scaling:
        raise UserError("a phi3 has its window in all layers or in none, and no rope_scaling")
    return write_rope(config) | {"sliding_window": config.window or None}


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    tensors = join_parts(tensors, config.layers, _QKV, "qkv")
    return join_parts(tensors, config.layers, _GATE_UP, ("gate", "up"))


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    sizes = [config.heads * config.head_dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim]
    tensors = divide_parts(tensors, config.layers, _QKV, "qkv", grouped_rows(config), lambda t: t.split(sizes))
    halves = 2 * config.ffn_dim
    return divide_parts(tensors, config.layers, _GATE_UP, ("gate", "up"), halves, lambda t: t.chunk(2))


FAMILIES = {
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        names=NAMES
        | {f"blocks.{{}}.attention.{part}": f"{_QKV}.{part}" for part in "qkv"}
        | {f"blocks.{{}}.feed_forward.{part}": f"{_GATE_UP}.{part}" for part in ("gate", "up")},
        fields=shape(**_DEFAULTS),
        only={"hidden_act": ("silu",)},
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
}
