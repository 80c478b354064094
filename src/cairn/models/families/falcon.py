"""Falcon (Almazrouei et al. 2023) in its three shapes: 7B (one key/value head, attention and feed-forward side by side
under one norm), 40B (grouped heads, two norms), and RefinedWeb's (ALiBi, one after the other)."""

from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Field, Fields, Tensors, Values, read_rope, write_rope
from cairn.models.families.fused import divide_groups, divide_parts, grouped_rows, join_groups, join_parts

_LAYER = "transformer.h.{}."
_QKV = _LAYER + "self_attention.query_key_value"
# The norms of the two layers have names of their own where they stand side by side.
_TWO_NORMS = {".input_layernorm.": ".ln_attn.", ".post_attention_layernorm.": ".ln_mlp."}


def _read(fields: Fields, values: Values) -> None:
    values["ffn_dim"] = fields.take("ffn_hidden_size", int, 4 * values["dim"], minimum=1)
    factor = fields.take("ff_factor", int, 0)  # Falcon 2 says the same twice
    if factor and factor * values["dim"] != values["ffn_dim"]:
        raise UserError(f"config.json: ff_factor = {factor} and ffn_hidden_size = {values['ffn_dim']} do not agree")
    biases = fields.take("bias", bool, False)
    values |= {"qkv_bias": biases, "out_bias": biases, "ffn_bias": biases}
    grouped = fields.take("new_decoder_architecture", bool, False)
    kv_heads = fields.take("num_kv_heads", int, values["heads"], minimum=1)
    multi_query = fields.take("multi_query", bool, True)
    if grouped:
        values["kv_heads"] = kv_heads
    elif multi_query:
        values["kv_heads"] = 1
    elif kv_heads == values["heads"]:
        values["kv_heads"] = kv_heads
    else:
        raise UserError(f"config.json: num_kv_heads = {kv_heads} needs new_decoder_architecture")
    values["parallel"] = fields.take("parallel_attn", bool, True)
    norms = fields.take("num_ln_in_parallel_attn", int, 2 if grouped else 1)
    if norms not in ((1, 2) if grouped else (1,)) or (grouped and not values["parallel"]):
        raise UserError(
            f"config.json: num_ln_in_parallel_attn = {norms} with new_decoder_architecture = {grouped} and "
            f"parallel_attn = {values['parallel']} is not supported"
        )
    values["shared_norm"] = values["parallel"] and norms == 1
    read_rope(fields, values)
    if fields.take("alibi", bool, False):
        for name in ("rope_theta", "rope_fraction", "rope_scaling"):
            values.pop(name, None)
        values["positions"] = "alibi"


def _write(config: ModelConfig) -> dict[str, Any]:
    # 7B's and RefinedWeb's forms as they were published; all else is 40B's, which alone has groups and two norms.
    sequential_or_shared = not config.parallel or config.shared_norm
    grouped = not (sequential_or_shared and config.kv_heads in (1, config.heads))
    shape: dict[str, Any] = {
        "ffn_hidden_size": config.ffn_dim,
        "bias": config.ffn_bias,
        "alibi": config.positions == "alibi",
        "new_decoder_architecture": grouped,
        "num_kv_heads": config.kv_heads if grouped else config.heads,
        "multi_query": not grouped and config.kv_heads == 1,
        "parallel_attn": config.parallel,
        "num_ln_in_parallel_attn": 2 if config.parallel and not config.shared_norm else 1,
    }
    return shape if config.positions == "alibi" else shape | write_rope(config)


def _two_norms(config: ModelConfig) -> bool:
    return config.parallel and not config.shared_norm


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    if _two_norms(config):
        tensors = {_replaced(name, _TWO_NORMS): tensor for name, tensor in tensors.items()}
    return join_parts(tensors, config.layers, _QKV, "qkv", lambda parts: join_groups(parts, config))


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    if _two_norms(config):
        back = {theirs: ours for ours, theirs in _TWO_NORMS.items()}
        tensors = {_replaced(name, back): tensor for name, tensor in tensors.items()}
    return divide_parts(
        tensors, config.layers, _QKV, "qkv", grouped_rows(config), lambda tensor: divide_groups(tensor, config)
    )


def _replaced(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


FAMILIES = {
    "falcon": Family(
        architecture="FalconForCausalLM",
        names={
            "embed": "transformer.word_embeddings",
            "blocks.{}.norm_attention": _LAYER + "input_layernorm",
            **{f"blocks.{{}}.attention.{part}": f"{_QKV}.{part}" for part in "qkv"},
            "blocks.{}.attention.out": _LAYER + "self_attention.dense",
            "blocks.{}.norm_feed_forward": _LAYER + "post_attention_layernorm",
            "blocks.{}.feed_forward.up": _LAYER + "mlp.dense_h_to_4h",
            "blocks.{}.feed_forward.down": _LAYER + "mlp.dense_4h_to_h",
            "norm": "transformer.ln_f",
            "unembed": "lm_head",
        },
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "hidden_size"),
            Field("layers", "num_hidden_layers"),
            Field("heads", "num_attention_heads"),
            Field("max_positions", "max_position_embeddings", int, 2048),
            Field("norm_eps", "layer_norm_epsilon", float, 1e-5),
            Field("tie_embeddings", "tie_word_embeddings", bool, True),
        ),
        fixed={"norm": "layernorm", "gated": False, "activation": "gelu"},
        only={"activation": ("gelu",)},
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
}
