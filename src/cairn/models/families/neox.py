"""GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): LayerNorm, a part of a head rotated, attention and
feed-forward side by side."""

from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import (
    THEIR_ACTIVATIONS,
    Family,
    Field,
    Fields,
    Tensors,
    Values,
    read_rope,
    write_rope,
)
from cairn.models.families.fused import divide_groups, divide_parts, grouped_rows, join_groups, join_parts

_LAYER = "gpt_neox.layers.{}."
_QKV = _LAYER + "attention.query_key_value"
FRACTION = 0.25


def _read(fields: Fields, values: Values) -> None:
    values["kv_heads"] = values["heads"]
    values["rope_fraction"] = fields.take("rotary_pct", float, FRACTION)
    read_rope(fields, values, theta=fields.take("rotary_emb_base", float, 10000.0))
    values["parallel"] = fields.take("use_parallel_residual", bool, True)
    values["qkv_bias"] = values["out_bias"] = fields.take("attention_bias", bool, True)
    values["activation"] = fields.activation("hidden_act", "gelu")


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.qkv_bias != config.out_bias:
        raise UserError("a gpt_neox has biases on all of attention's projections or on none")
    rope = write_rope(config)
    rope.pop("partial_rotary_factor", None)
    return {
        "rotary_pct": config.rope_fraction,
        "rotary_emb_base": rope.pop("rope_theta"),
        "use_parallel_residual": config.parallel,
        "attention_bias": config.qkv_bias,
        "hidden_act": THEIR_ACTIVATIONS[config.activation],
    } | rope


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    return join_parts(tensors, config.layers, _QKV, "qkv", lambda parts: join_groups(parts, config))


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    # Old files carry the causal mask of every layer; transformers 5 says lm_head in memory.
    masks = (".attention.bias", ".attention.masked_bias")
    kept = {n.replace("lm_head.", "embed_out."): t for n, t in tensors.items() if not n.endswith(masks)}
    return divide_parts(
        kept, config.layers, _QKV, "qkv", grouped_rows(config), lambda tensor: divide_groups(tensor, config)
    )


FAMILIES = {
    "gpt_neox": Family(
        architecture="GPTNeoXForCausalLM",
        names={
            "embed": "gpt_neox.embed_in",
            "blocks.{}.norm_attention": _LAYER + "input_layernorm",
            **{f"blocks.{{}}.attention.{part}": f"{_QKV}.{part}" for part in "qkv"},
            "blocks.{}.attention.out": _LAYER + "attention.dense",
            "blocks.{}.norm_feed_forward": _LAYER + "post_attention_layernorm",
            "blocks.{}.feed_forward.up": _LAYER + "mlp.dense_h_to_4h",
            "blocks.{}.feed_forward.down": _LAYER + "mlp.dense_4h_to_h",
            "norm": "gpt_neox.final_layer_norm",
            "unembed": "embed_out",
        },
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "hidden_size"),
            Field("layers", "num_hidden_layers"),
            Field("heads", "num_attention_heads"),
            Field("ffn_dim", "intermediate_size"),
            Field("max_positions", "max_position_embeddings", int, 2048),
            Field("norm_eps", "layer_norm_eps", float, 1e-5),
            Field("tie_embeddings", "tie_word_embeddings", bool, False),
        ),
        fixed={"norm": "layernorm", "gated": False, "ffn_bias": True},
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
}
