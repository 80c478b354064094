"""Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024)."""

from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Field, Fields, Values, read_rope, write_rope

# The names that most families after Llama took over.
NAMES = {
    "embed": "model.embed_tokens",
    "blocks.{}.norm_attention": "model.layers.{}.input_layernorm",
    "blocks.{}.attention.q": "model.layers.{}.self_attn.q_proj",
    "blocks.{}.attention.k": "model.layers.{}.self_attn.k_proj",
    "blocks.{}.attention.v": "model.layers.{}.self_attn.v_proj",
    "blocks.{}.attention.out": "model.layers.{}.self_attn.o_proj",
    "blocks.{}.norm_feed_forward": "model.layers.{}.post_attention_layernorm",
    "blocks.{}.feed_forward.gate": "model.layers.{}.mlp.gate_proj",
    "blocks.{}.feed_forward.up": "model.layers.{}.mlp.up_proj",
    "blocks.{}.feed_forward.down": "model.layers.{}.mlp.down_proj",
    "norm": "model.norm",
    "unembed": "lm_head",
}
SHAPE = (
    Field("vocab_size", "vocab_size"),
    Field("dim", "hidden_size"),
    Field("layers", "num_hidden_layers"),
    Field("heads", "num_attention_heads"),
    Field("kv_heads", "num_key_value_heads", int, lambda values: values["heads"]),
    Field("head_dim", "head_dim", int, lambda values: values["dim"] // max(values["heads"], 1)),
    Field("ffn_dim", "intermediate_size"),
    Field("max_positions", "max_position_embeddings", int, 2048),
    Field("norm_eps", "rms_norm_eps", float, 1e-6),
    Field("tie_embeddings", "tie_word_embeddings", bool, False),
)


def shape(**defaults: Any) -> tuple[Field, ...]:
    """Llama's fields with other defaults, by our names."""
    return tuple(entry._replace(default=defaults.get(entry.ours, entry.default)) for entry in SHAPE)


def read_biases(fields: Fields, values: Values) -> None:
    values["qkv_bias"] = values["out_bias"] = fields.take("attention_bias", bool, False)


def write_biases(config: ModelConfig) -> dict[str, Any]:
    if config.qkv_bias != config.out_bias:
        raise UserError(f"a {config.family} has biases on all of attention's projections or on none")
    return {"attention_bias": config.qkv_bias}


def _read(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    read_biases(fields, values)
    values["ffn_bias"] = fields.take("mlp_bias", bool, False)


def _write(config: ModelConfig) -> dict[str, Any]:
    return write_rope(config) | write_biases(config) | {"mlp_bias": config.ffn_bias}


FAMILIES = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        names=NAMES,
        fields=SHAPE,
        only={"hidden_act": ("silu",)},
        read=_read,
        write=_write,
    ),
}
