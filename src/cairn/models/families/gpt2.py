"""GPT (Radford et al. 2018), with norms after the layers, and GPT-2 (2019), with norms before them."""

import re
import reprlib
from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import THEIR_ACTIVATIONS, Family, Field, Fields, Tensors, Values
from cairn.models.families.fused import divide_parts, join_parts

# Linear layers are stored as (in, out), and queries, keys and values as one matrix.
_TRANSPOSED = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")


_QKV = "transformer.h.{}.attn.c_attn"
# What GPT calls gelu is its approximation.
_AFN = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def _read_gpt(fields: Fields, values: Values) -> None:
    values["kv_heads"] = values["heads"]
    values["ffn_dim"] = 4 * values["dim"]
    afn = fields.take("afn", str, "gelu")
    if afn not in _AFN:
        raise UserError(f"config.json: afn = {reprlib.repr(afn)} is not supported (only {', '.join(_AFN)})")
    values["activation"] = _AFN[afn]
    for name in ("n_ctx", "n_special", "predict_special_tokens"):
        fields.left.pop(name, None)  # bookkeeping of the first release


def _write_gpt(config: ModelConfig) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(_AFN.items())}
    if config.activation not in names or config.ffn_dim != 4 * config.dim:
        raise UserError("an openai-gpt has ffn_dim 4 * dim and gelu_tanh, relu or silu")
    return {"afn": names[config.activation]}


def _read(fields: Fields, values: Values) -> None:
    values["kv_heads"] = values["heads"]
    values["ffn_dim"] = fields.optional("n_inner", int, minimum=1) or 4 * values["dim"]
    values["activation"] = fields.activation("activation_function", "gelu_new")
    fields.left.pop("n_ctx", None)


def _write(config: ModelConfig) -> dict[str, Any]:
    spelled = "gelu_new" if config.activation == "gelu_tanh" else THEIR_ACTIVATIONS[config.activation]
    return {"n_inner": config.ffn_dim, "activation_function": spelled}


def _fuse(tensors: Tensors, config: ModelConfig) -> Tensors:
    tensors = join_parts(tensors, config.layers, _QKV, "qkv")
    return {n: t.T.contiguous() if _TRANSPOSED.search(n) else t for n, t in tensors.items()}


def _split(tensors: Tensors, config: ModelConfig) -> Tensors:
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(("transformer.", "lm_head.")):
            name = f"transformer.{name}"  # the files of the original release
        if re.search(r"\.attn\.(masked_)?bias$", name) and tensor.ndim != 1:
            continue  # causal masks that old files carry
        out[name] = tensor.T.contiguous() if _TRANSPOSED.search(name) and tensor.ndim == 2 else tensor
    return divide_parts(out, config.layers, _QKV, "qkv", 3 * config.dim, lambda tensor: tensor.chunk(3))


_NAMES = {
    "embed": "transformer.wte",
    "embed_position": "transformer.wpe",
    "blocks.{}.norm_attention": "transformer.h.{}.ln_1",
    **{f"blocks.{{}}.attention.{part}": f"{_QKV}.{part}" for part in "qkv"},
    "blocks.{}.attention.out": "transformer.h.{}.attn.c_proj",
    "blocks.{}.norm_feed_forward": "transformer.h.{}.ln_2",
    "blocks.{}.feed_forward.up": "transformer.h.{}.mlp.c_fc",
    "blocks.{}.feed_forward.down": "transformer.h.{}.mlp.c_proj",
    "norm": "transformer.ln_f",
    "unembed": "lm_head",
}
_FIELDS = (
    Field("vocab_size", "vocab_size"),
    Field("dim", "n_embd"),
    Field("layers", "n_layer"),
    Field("heads", "n_head"),
    Field("max_positions", "n_positions"),
    Field("norm_eps", "layer_norm_epsilon", float, 1e-5),
    Field("tie_embeddings", "tie_word_embeddings", bool, True),
)
_FIXED = {
    "norm": "layernorm",
    "positions": "learned",
    "qkv_bias": True,
    "out_bias": True,
    "gated": False,
    "ffn_bias": True,
}

FAMILIES = {
    "gpt2": Family(
        architecture="GPT2LMHeadModel",
        names=_NAMES,
        fields=_FIELDS,
        fixed=_FIXED,
        only={
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
        },
        read=_read,
        write=_write,
        fuse=_fuse,
        split=_split,
    ),
    "openai-gpt": Family(
        architecture="OpenAIGPTLMHeadModel",
        names={ours: theirs for ours, theirs in _NAMES.items() if ours != "norm"}
        | {"embed": "transformer.tokens_embed", "embed_position": "transformer.positions_embed"},
        fields=_FIELDS,
        fixed=_FIXED | {"norm_place": "post", "final_norm": False},
        read=_read_gpt,
        write=_write_gpt,
        fuse=_fuse,
        split=_split,
    ),
}
