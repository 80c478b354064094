"""GPT-2 (Radford et al. 2019)."""

import re
from typing import Any

import torch

from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Field, Fields, Tensors, Values

# Linear layers are stored as (in, out), and queries, keys and values as one matrix.
_TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")


def _read(fields: Fields, values: Values) -> None:
    values["kv_heads"] = values["heads"]
    inner = fields.left.pop("n_inner", None)
    values["ffn_dim"] = inner or 4 * values["dim"]
    fields.left.pop("n_ctx", None)


def _write(config: ModelConfig) -> dict[str, Any]:
    return {"n_inner": config.ffn_dim}


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = dict(tensors)
    for layer in range(config.layers):
        for kind in ("weight", "bias"):
            parts = [out.pop(f"transformer.h.{layer}.attn.{p}.{kind}") for p in "qkv"]
            out[f"transformer.h.{layer}.attn.c_attn.{kind}"] = torch.cat(parts)
    return {n: t.T.contiguous() if _TRANSPOSED.search(n) else t for n, t in out.items()}


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(("transformer.", "lm_head.")):
            name = f"transformer.{name}"  # the files of the original release
        if re.search(r"\.attn\.(masked_)?bias$", name) and tensor.ndim != 1:
            continue  # causal masks that old files carry
        tensor = tensor.T if _TRANSPOSED.search(name) and tensor.ndim == 2 else tensor
        if ".attn.c_attn." in name:
            for part, piece in zip("qkv", tensor.chunk(3)):
                out[name.replace("c_attn", part)] = piece.contiguous()
        else:
            out[name] = tensor.contiguous()
    return out


FAMILIES = {
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
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "n_embd"),
            Field("layers", "n_layer"),
            Field("heads", "n_head"),
            Field("max_positions", "n_positions"),
            Field("norm_eps", "layer_norm_epsilon", float, 1e-5),
            Field("tie_embeddings", "tie_word_embeddings", bool, True),
        ),
        fixed={
            "norm": "layernorm",
            "positions": "learned",
            "qkv_bias": True,
            "out_bias": True,
            "activation": "gelu_tanh",
            "gated": False,
            "ffn_bias": True,
        },
        only={
            "activation_function": ("gelu_new",),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
        },
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
}
