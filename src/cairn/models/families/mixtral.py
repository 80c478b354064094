"""Decoders whose feed-forward layers are mixtures of experts: Mixtral (Jiang et al. 2024) and Qwen3-MoE (Yang et al. 2025)."""

import dataclasses
from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import Experts, ModelConfig
from cairn.models.families import llama
from cairn.models.families.base import Family, Field, Fields, Values, read_rope, write_rope

# Weights of losses in training and what is given back beside the logits.
INERT = ("router_aux_loss_coef", "router_jitter_noise", "output_router_logits")

_ATTENTION = {ours: theirs for ours, theirs in llama.NAMES.items() if ".feed_forward." not in ours}


def take_experts(fields: Fields, table: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Settings of `Experts` from a config.json: ours -> (theirs, default). A default of None: it must be there."""
    found = {f.name: f for f in dataclasses.fields(Experts)}
    return {
        ours: fields.take(theirs, type(found[ours].default), default, minimum=found[ours].metadata["minimum"])
        for ours, (theirs, default) in table.items()
    }


# --- Mixtral


def _read(fields: Fields, values: Values) -> None:
    read_rope(fields, values, 1e6)
    for name in INERT:
        fields.left.pop(name, None)
    values["window"] = fields.optional("sliding_window", int, minimum=1) or 0
    settings = take_experts(fields, {"count": ("num_local_experts", 8), "per_token": ("num_experts_per_tok", 2)})
    values["experts"] = Experts(**settings, inner=values["ffn_dim"], router_float32=False)


def _write(config: ModelConfig) -> dict[str, Any]:
    experts = _experts(config)
    return write_rope(config) | {
        "sliding_window": config.window or None,
        "num_local_experts": experts.count,
        "num_experts_per_tok": experts.per_token,
    }


def _experts(config: ModelConfig) -> Experts:
    if config.experts is None:
        raise UserError(f"a {config.family} model needs experts")
    return config.experts


# --- Qwen3-MoE


def _read_qwen(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    for name in INERT:
        fields.left.pop(name, None)
    bias = fields.take("attention_bias", bool, False)
    values |= {"qkv_bias": bias, "out_bias": bias}
    window = fields.optional("sliding_window", int, 4096, minimum=1)
    values["window"] = (window or 0) if fields.take("use_sliding_window", bool, False) else 0
    if not values["window"]:
        fields.left.pop("max_window_layers", None)  # which layers have the window that none has
    if "num_local_experts" in fields.left:  # transformers 5 writes this name, published files have the other
        fields.left["num_experts"] = fields.left.pop("num_local_experts")
    settings = take_experts(
        fields,
        {
            "count": ("num_experts", 128),
            "per_token": ("num_experts_per_tok", 8),
            "inner": ("moe_intermediate_size", 768),
            "normalize": ("norm_topk_prob", False),
        },
    )
    dense = fields.take("mlp_only_layers", list, [])
    if dense != list(range(len(dense))):
        raise UserError(f"config.json: mlp_only_layers = {dense} is not supported (only the first layers)")
    values["experts"] = Experts(**settings, dense_layers=len(dense), router_float32=False)


def _write_qwen(config: ModelConfig) -> dict[str, Any]:
    experts = _experts(config)
    if config.qkv_bias != config.out_bias:
        raise UserError("a qwen3_moe has biases on all of attention's projections or on none")
    return write_rope(config) | {
        "attention_bias": config.qkv_bias,
        "use_sliding_window": config.window > 0,
        "sliding_window": config.window or None,
        "num_experts": experts.count,
        "num_experts_per_tok": experts.per_token,
        "moe_intermediate_size": experts.inner,
        "norm_topk_prob": experts.normalize,
        "mlp_only_layers": list(range(experts.dense_layers)),
    }


_DEFAULTS = {"max_positions": 131072, "norm_eps": 1e-5}

FAMILIES = {
    "mixtral": Family(
        architecture="MixtralForCausalLM",
        names=_ATTENTION
        | {
            "blocks.{}.feed_forward.router": "model.layers.{}.block_sparse_moe.gate",
            "blocks.{}.feed_forward.experts.{}.gate": "model.layers.{}.block_sparse_moe.experts.{}.w1",
            "blocks.{}.feed_forward.experts.{}.down": "model.layers.{}.block_sparse_moe.experts.{}.w2",
            "blocks.{}.feed_forward.experts.{}.up": "model.layers.{}.block_sparse_moe.experts.{}.w3",
        },
        fields=tuple(Field(f.ours, f.theirs, f.kind, _DEFAULTS.get(f.ours, f.default)) for f in llama.SHAPE),
        only={"hidden_act": ("silu",)},
        read=_read,
        write=_write,
    ),
    "qwen3_moe": Family(
        architecture="Qwen3MoeForCausalLM",
        names=llama.NAMES
        | {
            "blocks.{}.attention.norm_q": "model.layers.{}.self_attn.q_norm",
            "blocks.{}.attention.norm_k": "model.layers.{}.self_attn.k_norm",
            "blocks.{}.feed_forward.router": "model.layers.{}.mlp.gate",
            "blocks.{}.feed_forward.experts.{}.gate": "model.layers.{}.mlp.experts.{}.gate_proj",
            "blocks.{}.feed_forward.experts.{}.up": "model.layers.{}.mlp.experts.{}.up_proj",
            "blocks.{}.feed_forward.experts.{}.down": "model.layers.{}.mlp.experts.{}.down_proj",
        },
        fields=llama.SHAPE,
        fixed={"qk_norm": "head"},
        only={"hidden_act": ("silu",), "decoder_sparse_step": (1,)},
        read=_read_qwen,
        write=_write_qwen,
    ),
}
