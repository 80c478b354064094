"""ModernBERT (Warner et al. 2024): rotary positions, local and global layers, GeGLU, no biases."""

from typing import Any

import torch

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Field, Fields, Tensors, Values
from cairn.models.families.bert import activation_name, layout, read_head, write_head

GLOBAL, LOCAL = "full_attention", "sliding_attention"
_THETA = {GLOBAL: 160_000.0, LOCAL: 10_000.0}
_EVERY = 3  # of so many layers the first is global, unless config.json says otherwise


def _read(fields: Fields, values: Values) -> None:
    read_head(fields, values, "ModernBertModel", "ModernBertForMaskedLM")
    masked = values["head"] == "masked"
    values["activation"] = fields.activation("hidden_activation", "gelu")
    if fields.activation("classifier_activation", "gelu") != values["activation"] and masked:
        raise UserError("config.json: classifier_activation must be the same as hidden_activation")
    bias = fields.take("attention_bias", bool, False)
    values |= {"qkv_bias": bias, "out_bias": bias, "ffn_bias": fields.take("mlp_bias", bool, False)}
    decoder, transform = fields.take("decoder_bias", bool, True), fields.take("classifier_bias", bool, False)
    values |= {"head_bias": decoder and masked, "transform_bias": transform or not masked}
    _read_layers(fields, values)
    _read_thetas(fields, values)
    for name in (
        "embedding_dropout", "mlp_dropout", "classifier_pooling", "cls_token_id", "sep_token_id", "layer_norm_eps",
        "initializer_cutoff_factor", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
        "reference_compile", "repad_logits_with_grad",
    ):  # fmt: skip
        fields.left.pop(name, None)


def _read_layers(fields: Fields, values: Values) -> None:
    every = fields.take("global_attn_every_n_layers", int, _EVERY, minimum=1)
    types = fields.left.pop("layer_types", None)
    if types is None:
        types = _every(every, values["layers"])
    if not isinstance(types, list) or any(t not in (GLOBAL, LOCAL) for t in types) or len(types) != values["layers"]:
        raise UserError(f"config.json: layer_types must say {GLOBAL} or {LOCAL} for each of {values['layers']} layers")
    values["window_layers"] = tuple(t == LOCAL for t in types)


def _read_thetas(fields: Fields, values: Values) -> None:
    """global_rope_theta and local_rope_theta (transformers 4), or rope_parameters for each kind of layer (5)."""
    old = {
        GLOBAL: fields.take("global_rope_theta", float, _THETA[GLOBAL], minimum=1.0001),
        # A null says that there is one theta for all layers.
        LOCAL: fields.optional("local_rope_theta", float, _THETA[LOCAL], minimum=1.0001),
    }
    tables = fields.left.pop("rope_parameters", None) or {}
    if not isinstance(tables, dict) or any(t is not None and not isinstance(t, dict) for t in tables.values()):
        raise UserError(f"config.json: rope_parameters must have an object for {GLOBAL} and one for {LOCAL}")
    unknown = tables.keys() - _THETA.keys()
    if unknown:
        raise UserError(f"config.json: rope_parameters has the unknown {', '.join(sorted(unknown))}")
    thetas: dict[str, float] = {}
    for kind in (GLOBAL, LOCAL):
        table = Fields(tables.get(kind) or {})
        table.only("rope_type", "default")
        thetas[kind] = table.take("rope_theta", float, old[kind] or old[GLOBAL], minimum=1.0001)
        table.finish()
    values |= {"rope_theta": thetas[GLOBAL], "rope_local_theta": thetas[LOCAL]}


def _write(config: ModelConfig) -> dict[str, Any]:
    if not config.window_layers:
        raise UserError("a modernbert says of each layer whether it has the window: set window_layers")
    if config.qkv_bias != config.out_bias:
        raise UserError("a modernbert has biases on all of attention's projections or on none")
    types = [LOCAL if local else GLOBAL for local in config.window_layers]
    out = {
        "layer_types": types, "global_rope_theta": config.rope_theta, "local_rope_theta": config.rope_local_theta,
        "attention_bias": config.qkv_bias, "mlp_bias": config.ffn_bias, "decoder_bias": config.head_bias,
        "classifier_bias": config.transform_bias, "hidden_activation": activation_name(config.activation),
        "classifier_activation": activation_name(config.activation),
    }  # fmt: skip
    # Their defaults are ids of their own vocabulary, which another need not have.
    out |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    for every in range(1, len(types) + 1):
        if types == _every(every, len(types)):
            out["global_attn_every_n_layers"] = every  # transformers 4 knows no layer_types
            break
    return out | write_head(config, "ModernBertModel", "ModernBertForMaskedLM")


def _every(every: int, layers: int) -> list[str]:
    return [LOCAL if layer % every else GLOBAL for layer in range(layers)]


_PREFIX, _UNPREFIX = layout("model", ("head.", "decoder."), "decoder")
_PARTS = {"attn.Wqkv": ("attn.q", "attn.k", "attn.v"), "mlp.Wi": ("mlp.gate", "mlp.up")}


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = dict(tensors)
    for layer in range(config.layers):
        for whole, parts in _PARTS.items():
            for kind in ("weight", "bias"):
                names = [f"layers.{layer}.{part}.{kind}" for part in parts]
                if names[0] in out:
                    out[f"layers.{layer}.{whole}.{kind}"] = torch.cat([out.pop(name) for name in names])
    return _PREFIX(out, config)


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    out: Tensors = {}
    for name, tensor in _UNPREFIX(tensors, config).items():
        whole = next((w for w in _PARTS if f".{w}." in name), None)
        if whole is None:
            out[name] = tensor
            continue
        for part, piece in zip(_PARTS[whole], tensor.chunk(len(_PARTS[whole]))):
            out[name.replace(whole, part)] = piece.contiguous()
    return out


FAMILIES = {
    "modernbert": Family(
        architecture="ModernBertForMaskedLM",
        names={
            "embed": "embeddings.tok_embeddings",
            "embed_norm": "embeddings.norm",
            "blocks.{}.norm_attention": "layers.{}.attn_norm",
            "blocks.{}.attention.q": "layers.{}.attn.q",
            "blocks.{}.attention.k": "layers.{}.attn.k",
            "blocks.{}.attention.v": "layers.{}.attn.v",
            "blocks.{}.attention.out": "layers.{}.attn.Wo",
            "blocks.{}.norm_feed_forward": "layers.{}.mlp_norm",
            "blocks.{}.feed_forward.gate": "layers.{}.mlp.gate",
            "blocks.{}.feed_forward.up": "layers.{}.mlp.up",
            "blocks.{}.feed_forward.down": "layers.{}.mlp.Wo",
            "norm": "final_norm",
            "unembed.transform.dense": "head.dense",
            "unembed.transform.norm": "head.norm",
            "unembed": "decoder",
        },
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "hidden_size"),
            Field("layers", "num_hidden_layers"),
            Field("heads", "num_attention_heads"),
            Field("ffn_dim", "intermediate_size"),
            Field("max_positions", "max_position_embeddings", int, 8192),
            Field("norm_eps", "norm_eps", float, 1e-5),
            Field("norm_bias", "norm_bias", bool, False),
            Field("window", "local_attention", int, 128),
            Field("tie_embeddings", "tie_word_embeddings", bool, True),
        ),
        fixed={"causal": False, "norm": "layernorm", "embed_norm": True, "first_norm": False, "gated": True},
        only={"position_embedding_type": ("absolute",)},
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
}
