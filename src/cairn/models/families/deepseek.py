"""DeepSeek-V2 and V3 (2024): latent attention, shared experts, and experts chosen by group."""

import re
import warnings
from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import Experts, Latent, ModelConfig
from cairn.models.families import llama
from cairn.models.families.base import Family, Fields, Tensors, Values, read_rope, write_rope
from cairn.models.families.mixtral import take_experts

# Training and placement of experts; the numbers of heads and sizes that follow from others; layers that predict further
# tokens, whose weights `_split` leaves out.
_INERT = (
    "aux_loss_alpha", "seq_aux", "ep_size", "output_router_logits", "router_aux_loss_coef", "head_dim", "qk_head_dim",
    "num_nextn_predict_layers", "num_mtp_layers",
)  # fmt: skip

_NAMES = {
    **{ours: theirs for ours, theirs in llama.NAMES.items() if not ours.endswith((".k", ".v"))},
    "blocks.{}.attention.q_compress": "model.layers.{}.self_attn.q_a_proj",
    "blocks.{}.attention.norm_q": "model.layers.{}.self_attn.q_a_layernorm",
    "blocks.{}.attention.q_expand": "model.layers.{}.self_attn.q_b_proj",
    "blocks.{}.attention.kv_compress": "model.layers.{}.self_attn.kv_a_proj_with_mqa",
    "blocks.{}.attention.norm_kv": "model.layers.{}.self_attn.kv_a_layernorm",
    "blocks.{}.attention.kv_expand": "model.layers.{}.self_attn.kv_b_proj",
    "blocks.{}.feed_forward.router": "model.layers.{}.mlp.gate",
    "blocks.{}.feed_forward.experts.{}.gate": "model.layers.{}.mlp.experts.{}.gate_proj",
    "blocks.{}.feed_forward.experts.{}.up": "model.layers.{}.mlp.experts.{}.up_proj",
    "blocks.{}.feed_forward.experts.{}.down": "model.layers.{}.mlp.experts.{}.down_proj",
    "blocks.{}.feed_forward.shared.gate": "model.layers.{}.mlp.shared_experts.gate_proj",
    "blocks.{}.feed_forward.shared.up": "model.layers.{}.mlp.shared_experts.up_proj",
    "blocks.{}.feed_forward.shared.down": "model.layers.{}.mlp.shared_experts.down_proj",
}

# A head's size is the sum of two fields, and there are no key/value heads.
_SHAPE = tuple(f for f in llama.SHAPE if f.ours not in ("kv_heads", "head_dim"))

_LATENT = {"kv_rank": "kv_lora_rank", "rope_dim": "qk_rope_head_dim", "value_dim": "v_head_dim"}
_EXPERTS: dict[str, tuple[str, Any]] = {
    "count": ("n_routed_experts", None),
    "per_token": ("num_experts_per_tok", None),
    "inner": ("moe_intermediate_size", None),
    "shared": ("n_shared_experts", None),
    "scale": ("routed_scaling_factor", 1.0),
    "dense_layers": ("first_k_dense_replace", 0),
    "groups": ("n_group", 1),
    "groups_kept": ("topk_group", 1),
}


def _read(fields: Fields, values: Values) -> None:
    for name in _INERT:
        fields.left.pop(name, None)
    read_rope(fields, values)
    heads = fields.take("num_key_value_heads", int, values["heads"])
    if heads != values["heads"]:
        raise UserError(f"config.json: num_key_value_heads = {heads} must be num_attention_heads ({values['heads']})")
    bias = fields.take("attention_bias", bool, False)
    settings = {ours: fields.take(theirs, int, minimum=1) for ours, theirs in _LATENT.items()}
    if "q_lora_rank" not in fields.left:
        raise UserError("config.json lacks 'q_lora_rank' (null makes queries directly)")
    latent = Latent(q_rank=fields.optional("q_lora_rank", int, minimum=1) or 0, **settings)
    values |= {
        "kv_heads": heads,
        "qkv_bias": bias,
        "out_bias": bias,
        "latent": latent,
        "head_dim": fields.take("qk_nope_head_dim", int, minimum=1) + latent.rope_dim,
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.latent is None or config.experts is None:
        raise UserError(f"a {config.family} model needs latent attention and experts")
    if config.qkv_bias != config.out_bias:
        raise UserError(f"a {config.family} has biases on all of attention's projections or on none")
    latent, experts = config.latent, config.experts
    return (
        write_rope(config)
        | {theirs: getattr(latent, ours) for ours, theirs in _LATENT.items()}
        | {theirs: getattr(experts, ours) for ours, (theirs, _) in _EXPERTS.items()}
        | {
            "q_lora_rank": latent.q_rank or None,
            "qk_nope_head_dim": config.head_dim - latent.rope_dim,
            "num_key_value_heads": config.heads,
            "attention_bias": config.qkv_bias,
        }
    )


# --- V2: softmax scores, groups by their best expert


def _read_v2(fields: Fields, values: Values) -> None:
    _read(fields, values)
    settings = take_experts(fields, _EXPERTS)
    method = fields.take("topk_method", str, "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise UserError(f"config.json: topk_method = {method!r} is not supported (only greedy, group_limited_greedy)")
    if method == "greedy":  # groups say where the experts are computed and nothing about the choice
        settings |= {"groups": 1, "groups_kept": 1}
    values["experts"] = Experts(**settings, normalize=False)


def _write_v2(config: ModelConfig) -> dict[str, Any]:
    written = _write(config)
    return written | {"topk_method": "group_limited_greedy" if written["n_group"] > 1 else "greedy"}


# --- V3: sigmoid scores with a bias in the choice, groups by their best two experts


def _read_v3(fields: Fields, values: Values) -> None:
    _read(fields, values)
    values["rope_interleaved"] = fields.optional("rope_interleave", bool, True) or False
    normalize = fields.optional("norm_topk_prob", bool, True) or False
    settings = take_experts(fields, _EXPERTS)
    values["experts"] = Experts(**settings, normalize=normalize, router="sigmoid", bias_correction=True)


def _write_v3(config: ModelConfig) -> dict[str, Any]:
    written = _write(config) | {"rope_interleave": config.rope_interleaved, "num_nextn_predict_layers": 0}
    return written | {"norm_topk_prob": config.experts is not None and config.experts.normalize}


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    return {re.sub(r"\.mlp\.gate\.correction$", ".mlp.gate.e_score_correction_bias", n): t for n, t in tensors.items()}


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    """Layers after the last that predict further tokens (known by their eh_proj) take no part in the logits: left out."""
    further = tuple(
        name.removesuffix("eh_proj.weight")
        for name in tensors
        if (found := re.fullmatch(r"model\.layers\.(\d+)\.eh_proj\.weight", name)) and int(found[1]) >= config.layers
    )
    if further:
        warnings.warn(f"{len(further)} layers that predict further tokens (MTP) are left out", stacklevel=2)
    return {
        n.replace(".mlp.gate.e_score_correction_bias", ".mlp.gate.correction"): t
        for n, t in tensors.items()
        if not n.startswith(further)
    }


FAMILIES = {
    "deepseek_v2": Family(
        architecture="DeepseekV2ForCausalLM",
        names=_NAMES,
        fields=_SHAPE,
        fixed={"rope_interleaved": True},
        only={
            "hidden_act": ("silu",),
            "norm_topk_prob": (False,),
            "scoring_func": ("softmax",),
            "moe_layer_freq": (1,),
            "mlp_bias": (False,),
        },
        read=_read_v2,
        write=_write_v2,
    ),
    "deepseek_v3": Family(
        architecture="DeepseekV3ForCausalLM",
        names=_NAMES,
        fields=_SHAPE,
        only={
            "hidden_act": ("silu",),
            "topk_method": ("noaux_tc",),
            "scoring_func": ("sigmoid",),
            "moe_layer_freq": (1,),
        },
        read=_read_v3,
        write=_write_v3,
        fuse=_fuse,
        split=_split,
    ),
}
