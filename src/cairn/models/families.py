"""Families: how a `ModelConfig` and its weights are spelled in Hugging Face's config.json and model.safetensors.

A family is a table of names. Fields of config.json that would change the result and are not understood are refused by
name; those that cannot change it are listed in `INERT`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig

# Bookkeeping, training-time and generation fields: they do not enter the logits.
INERT = {
    "_name_or_path", "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "pretraining_tp", "attention_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj", "summary_activation",
    "summary_proj_to_labels", "summary_first_dropout", "task_specific_params", "gradient_checkpointing",
    "output_past", "keys_to_ignore_at_inference", "is_decoder", "_attn_implementation", "chunk_size_feed_forward",
    "id2label", "label2id", "problem_type", "output_attentions", "output_hidden_states", "return_dict",
    "add_cross_attention", "is_encoder_decoder", "cross_attention_hidden_size", "tie_encoder_decoder",
    "quantization_config",  # read by quantization/, which knows the tensors it describes
}  # fmt: skip

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Family:
    """names: our module path -> theirs, with {} for the layer. read/write: configuration. fuse/split: tensor layout."""

    architecture: str
    names: dict[str, str]
    read: Callable[[dict[str, Any]], dict[str, Any]]
    write: Callable[[ModelConfig], dict[str, Any]]
    fuse: Callable[[Tensors, ModelConfig], Tensors] = lambda tensors, config: tensors
    split: Callable[[Tensors, ModelConfig], Tensors] = lambda tensors, config: tensors


class _Fields:
    """Takes fields out of a config.json one by one, so that what is left over can be refused."""

    def __init__(self, data: dict[str, Any]):
        self.left = {k: v for k, v in data.items() if k not in INERT}

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        value = self.left.pop(name, None)
        if value is None:
            if default is None:
                raise UserError(f"config.json lacks {name!r}")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"config.json: {name} must be {kind.__name__}, got {value!r}")
        return value

    def only(self, name: str, *allowed: Any) -> None:
        value = self.left.pop(name, None)
        if value is not None and value not in allowed:
            raise UserError(f"config.json: {name} = {value!r} is not supported (only {', '.join(map(repr, allowed))})")

    def finish(self) -> None:
        unknown = {k: v for k, v in self.left.items() if v not in (None, False, {}, [])}
        if unknown:
            raise UserError(f"config.json: these fields are not supported: {', '.join(sorted(unknown))}")


def _read_llama(data: dict[str, Any]) -> dict[str, Any]:
    fields = _Fields(data)
    rope = fields.left.pop("rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default" or set(rope) - {"rope_type", "rope_theta"}:
        raise UserError(f"config.json: rope_parameters {rope!r} are not supported (only the default rotation)")
    theta = fields.take("rope_theta", float, float(rope.get("rope_theta", 10000.0)))
    heads = fields.take("num_attention_heads", int)
    dim = fields.take("hidden_size", int)
    bias = fields.take("attention_bias", bool, False)
    if fields.take("mlp_bias", bool, False) != bias:
        raise UserError("config.json: attention_bias and mlp_bias must be equal")
    fields.only("hidden_act", "silu")
    fields.only("partial_rotary_factor", 1, 1.0)
    values = {
        "vocab_size": fields.take("vocab_size", int),
        "dim": dim,
        "layers": fields.take("num_hidden_layers", int),
        "heads": heads,
        "kv_heads": fields.take("num_key_value_heads", int, heads),
        "head_dim": fields.take("head_dim", int, dim // max(heads, 1)),
        "ffn_dim": fields.take("intermediate_size", int),
        "max_positions": fields.take("max_position_embeddings", int, 2048),
        "norm_eps": fields.take("rms_norm_eps", float, 1e-6),
        "rope_theta": theta,
        "bias": bias,
        "tie_embeddings": fields.take("tie_word_embeddings", bool, False),
    }
    fields.only("rope_scaling")
    fields.finish()
    return values


def _write_llama(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _read_gpt2(data: dict[str, Any]) -> dict[str, Any]:
    fields = _Fields(data)
    dim = fields.take("n_embd", int)
    heads = fields.take("n_head", int)
    inner = fields.left.pop("n_inner", None)
    fields.left.pop("n_ctx", None)
    fields.only("activation_function", "gelu_new")
    fields.only("scale_attn_weights", True)
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("reorder_and_upcast_attn", False)
    values = {
        "vocab_size": fields.take("vocab_size", int),
        "dim": dim,
        "layers": fields.take("n_layer", int),
        "heads": heads,
        "kv_heads": heads,
        "ffn_dim": inner or 4 * dim,
        "max_positions": fields.take("n_positions", int),
        "norm": "layernorm",
        "norm_eps": fields.take("layer_norm_epsilon", float, 1e-5),
        "positions": "learned",
        "feed_forward": "gelu",
        "bias": True,
        "tie_embeddings": fields.take("tie_word_embeddings", bool, True),
    }
    fields.finish()
    return values


def _write_gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.dim,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.ffn_dim,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new",
        "tie_word_embeddings": config.tie_embeddings,
    }


# GPT-2 stores its linear layers as (in, out) and queries, keys and values as one matrix.
_GPT2_TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")


def _fuse_gpt2(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = dict(tensors)
    for layer in range(config.layers):
        for kind in ("weight", "bias"):
            parts = [out.pop(f"transformer.h.{layer}.attn.{p}.{kind}") for p in "qkv"]
            out[f"transformer.h.{layer}.attn.c_attn.{kind}"] = torch.cat(parts)
    return {n: t.T.contiguous() if _GPT2_TRANSPOSED.search(n) else t for n, t in out.items()}


def _split_gpt2(tensors: Tensors, config: ModelConfig) -> Tensors:
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(("transformer.", "lm_head.")):
            name = f"transformer.{name}"  # the files of the original release
        if re.search(r"\.attn\.(masked_)?bias$", name) and tensor.ndim != 1:
            continue  # causal masks that old files carry
        tensor = tensor.T if _GPT2_TRANSPOSED.search(name) and tensor.ndim == 2 else tensor
        if ".attn.c_attn." in name:
            for part, piece in zip("qkv", tensor.chunk(3)):
                out[name.replace("c_attn", part)] = piece.contiguous()
        else:
            out[name] = tensor.contiguous()
    return out


FAMILIES = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        names={
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
        },
        read=_read_llama,
        write=_write_llama,
    ),
    "gpt2": Family(
        architecture="GPT2LMHeadModel",
        names={
            "embed": "transformer.wte",
            "embed_position": "transformer.wpe",
            "blocks.{}.norm_attention": "transformer.h.{}.ln_1",
            "blocks.{}.attention.q": "transformer.h.{}.attn.q",
            "blocks.{}.attention.k": "transformer.h.{}.attn.k",
            "blocks.{}.attention.v": "transformer.h.{}.attn.v",
            "blocks.{}.attention.out": "transformer.h.{}.attn.c_proj",
            "blocks.{}.norm_feed_forward": "transformer.h.{}.ln_2",
            "blocks.{}.feed_forward.up": "transformer.h.{}.mlp.c_fc",
            "blocks.{}.feed_forward.down": "transformer.h.{}.mlp.c_proj",
            "norm": "transformer.ln_f",
            "unembed": "lm_head",
        },
        read=_read_gpt2,
        write=_write_gpt2,
        fuse=_fuse_gpt2,
        split=_split_gpt2,
    ),
}


def family_of(data: dict[str, Any]) -> str:
    name = data.get("model_type")
    if name not in FAMILIES:
        raise UserError(f"config.json: model_type {name!r} is not supported yet (only {', '.join(FAMILIES)})")
    return name


def read_config(data: dict[str, Any]) -> ModelConfig:
    """A `ModelConfig` from the content of a config.json. Raises UserError naming the field that does not fit."""
    if not isinstance(data, dict):
        raise UserError("config.json must hold an object")
    family = family_of(data)
    return ModelConfig(family=family, **FAMILIES[family].read(data))


def write_config(config: ModelConfig) -> dict[str, Any]:
    family = FAMILIES[config.family]
    wanted = family.read(family.write(config) | {"model_type": config.family})
    # A family fixes some fields (Llama: RMSNorm and rotary positions): a shape it cannot express must not be saved as one.
    if ModelConfig(family=config.family, **wanted) != config:
        raise UserError(f"this configuration cannot be written as a {config.family} model: {config}")
    return {"architectures": [family.architecture], "model_type": config.family, **family.write(config)}


def rename(name: str, table: dict[str, str]) -> str:
    """`blocks.3.attention.q.weight` -> `model.layers.3.self_attn.q_proj.weight`; unknown names stay as they are."""
    module, _, kind = name.rpartition(".")
    layer = re.search(r"\.(\d+)\.", name)
    key = module.replace(layer.group(), ".{}.", 1) if layer else module
    return f"{table[key].format(layer.group(1) if layer else '')}.{kind}" if key in table else name


def to_hugging_face(tensors: Tensors, config: ModelConfig) -> Tensors:
    """Our weights under the family's names and layouts; a tied unembedding is left out, as there."""
    family = FAMILIES[config.family]
    named = {
        rename(n, family.names): t for n, t in tensors.items() if not (config.tie_embeddings and n == "unembed.weight")
    }
    return family.fuse(named, config)


def from_hugging_face(tensors: Tensors, config: ModelConfig) -> Tensors:
    family = FAMILIES[config.family]
    back = {theirs: ours for ours, theirs in family.names.items()}
    named = {rename(n, back): t for n, t in family.split(tensors, config).items()}
    if config.tie_embeddings and "embed.weight" in named:
        named["unembed.weight"] = named["embed.weight"]
    return {n: t for n, t in named.items() if not n.endswith("rotary_emb.inv_freq")}
