"""Encoder-decoders: T5 (Raffel et al. 2020) and Marian, which is the Transformer of Vaswani et al. 2017."""

import math
import re
from collections.abc import Callable
from typing import Any

import torch

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import ACTIVATIONS, Family, Field, Fields, Tensors, Values
from cairn.models.families.bert import activation_name
from cairn.models.positions import sinusoids


def _pick_shared(tensors: Tensors, shared: str, *copies: str) -> torch.Tensor:
    """Takes the one embedding out of a file that may store copies of it. Raises UserError where they differ."""
    found = {name: tensors.pop(name) for name in (shared, *copies) if name in tensors}
    if not found:
        raise UserError(f"the weights lack {shared}")
    (name, first), *others = found.items()
    for other, tensor in others:
        if tensor.shape != first.shape or not (tensor.is_meta or torch.equal(tensor, first)):
            raise UserError(f"config.json says that {name} and {other} are one matrix, but they differ")
    return first


# --- T5


def _t5_names() -> dict[str, str]:
    """Their layers of a block are numbered: `self`, `cross` and `feed` stand for the numbers until `_fuse_t5`."""
    names = {
        "encoder.embed": "encoder.embed_tokens",
        "decoder.embed": "decoder.embed_tokens",
        "decoder.unembed": "lm_head",
    }
    for stack in ("encoder", "decoder"):
        ours, theirs = f"{stack}.blocks.{{}}", f"{stack}.block.{{}}"
        attentions = {"attention": "self.SelfAttention"} | (
            {"cross": "cross.EncDecAttention"} if stack == "decoder" else {}
        )
        for mine, yours in attentions.items():
            names |= {f"{ours}.{mine}.{p}": f"{theirs}.{yours}.{p[0]}" for p in ("q", "k", "v", "out")}
            names[f"{ours}.norm_{mine}"] = f"{theirs}.{yours.split('.')[0]}.layer_norm"
        names |= {
            f"{ours}.norm_feed_forward": f"{theirs}.feed.layer_norm",
            f"{ours}.feed_forward.gate": f"{theirs}.feed.DenseReluDense.wi_0",
            f"{ours}.feed_forward.up": f"{theirs}.feed.DenseReluDense.wi_1",
            f"{ours}.feed_forward.down": f"{theirs}.feed.DenseReluDense.wo",
            f"{stack}.relative.table": f"{stack}.relative_attention_bias",
            f"{stack}.norm": f"{stack}.final_layer_norm",
        }
    return names


_LAYERS = {"encoder": ("self", "feed"), "decoder": ("self", "cross", "feed")}
_NUMBERED = re.compile(r"^(encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.")
_NAMED = re.compile(r"^(encoder|decoder)\.block\.(\d+)\.(self|cross|feed)\.")
_T5_COPIES = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias"


def _fuse_t5(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = {"shared.weight": tensors[_T5_COPIES[0]]}
    for name, tensor in tensors.items():
        if name in _T5_COPIES or (name == "lm_head.weight" and config.tie_embeddings):
            continue
        name = _NAMED.sub(lambda m: f"{m[1]}.block.{m[2]}.layer.{_LAYERS[m[1]].index(m[3])}.", name)
        name = re.sub(r"^(encoder|decoder)\.relative_attention_bias\.", rf"\1.{_BIAS}.", name)
        out[name if config.gated else name.replace("wi_1", "wi")] = tensor
    return out


def _split_t5(tensors: Tensors, config: ModelConfig) -> Tensors:
    rest = dict(tensors)
    tied = ("lm_head.weight",) if config.tie_embeddings else ()
    shared = _pick_shared(rest, "shared.weight", *_T5_COPIES, *tied)
    out: Tensors = dict.fromkeys(_T5_COPIES, shared)
    if config.tie_embeddings:
        rest["lm_head.weight"] = shared
    # transformers 5 leaves out an unembedding that is equal to the embedding, whatever config.json says.
    out["lm_head.weight"] = rest.pop("lm_head.weight") if "lm_head.weight" in rest else shared.clone()
    for name, tensor in rest.items():
        name = name.replace(f".{_BIAS}.", ".relative_attention_bias.")
        match = _NUMBERED.match(name)
        if match and int(match[3]) < len(_LAYERS[match[1]]):
            name = f"{match[1]}.block.{match[2]}.{_LAYERS[match[1]][int(match[3])]}.{name[match.end() :]}"
        out[name if config.gated else name.replace(".wi.", ".wi_1.")] = tensor
    return out


def _read_t5(fields: Fields, values: Values) -> None:
    _only_seq2seq(fields, "T5ForConditionalGeneration", "T5WithLMHeadModel")
    _read_t5_shape(fields, values, "relu")
    # Version 1.0 reads logits off the embedding, scaled down; 1.1 has an unembedding of its own. transformers 5 says that
    # both are tied and means the latter by the scale.
    tied = fields.take("tie_word_embeddings", bool, True)
    scaled = fields.take("scale_decoder_outputs", bool, tied)
    values["tie_embeddings"] = tied and scaled
    values["logit_scale"] = values["dim"] ** -0.5 if scaled else 1.0


def _read_mt5(fields: Fields, values: Values) -> None:
    _only_seq2seq(fields, "MT5ForConditionalGeneration")
    _read_t5_shape(fields, values, "gated-gelu")
    fields.left.pop("tie_word_embeddings", None)  # always said to be tied, never so in the published weights
    values["tie_embeddings"] = False


def _read_t5_shape(fields: Fields, values: Values, form: str) -> None:
    values["kv_heads"] = values["heads"]
    form = fields.take("feed_forward_proj", str, form)
    activation = form.removeprefix("gated-")
    gated = activation != form
    theirs = "gelu_new" if form == "gated-gelu" else activation  # as v1.1 was trained
    if theirs not in ACTIVATIONS:
        raise UserError(
            f"config.json: feed_forward_proj = {form!r} is not supported (only relu, gelu, gated-gelu, ...)"
        )
    values |= {"gated": gated, "activation": ACTIVATIONS[theirs]}
    # What transformers 5 derives from the form and writes beside it.
    fields.only("is_gated_act", gated)
    fields.only("dense_act_fn", theirs)
    for name in ("dropout_rate", "initializer_factor", "num_beams", "early_stopping", "length_penalty"):
        fields.left.pop(name, None)


def _write_t5(config: ModelConfig) -> dict[str, Any]:
    activation = activation_name(config.activation)
    if config.gated:
        activation = "gated-gelu" if config.activation == "gelu_tanh" else f"gated-{activation}"
    return {
        "feed_forward_proj": activation,
        "tie_word_embeddings": config.tie_embeddings,
        "is_encoder_decoder": True,
    } | ({"scale_decoder_outputs": config.logit_scale != 1.0} if config.family == "t5" else {})


def _only_seq2seq(fields: Fields, *known: str) -> None:
    said = fields.data.get("architectures") or list(known)
    if not isinstance(said, list) or said[0] not in known:
        raise UserError(f"config.json: architectures = {said!r} is not supported (only {', '.join(known)})")
    if fields.data.get("is_decoder") or fields.data.get("is_encoder_decoder") is False:
        raise UserError("config.json: an encoder or decoder of an encoder-decoder alone is not supported")


def _t5(architecture: str, read: Callable[[Fields, Values], None]) -> Family:
    return Family(
        architecture=architecture,
        names=_t5_names(),
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "d_model"),
            Field("encoder_layers", "num_layers"),
            Field("layers", "num_decoder_layers", int, lambda values: values["encoder_layers"]),
            Field("heads", "num_heads"),
            Field("head_dim", "d_kv"),
            Field("ffn_dim", "d_ff"),
            Field("norm_eps", "layer_norm_epsilon", float, 1e-6),
            Field("relative_buckets", "relative_attention_num_buckets", int, 32),
            Field("relative_distance", "relative_attention_max_distance", int, 128),
            Field("max_positions", "n_positions", int, 512),
            Field("start_id", "decoder_start_token_id", int, 0),
        ),
        fixed={"positions": "relative", "score_scale": 1.0},
        read=read,
        write=_write_t5,
        fuse=_fuse_t5,
        split=_split_t5,
    )


# --- Marian


def _marian_names() -> dict[str, str]:
    names = {
        "encoder.embed": "model.encoder.embed_tokens",
        "decoder.embed": "model.decoder.embed_tokens",
        "decoder.unembed": "lm_head",
    }
    for stack in ("encoder", "decoder"):
        ours, theirs = f"{stack}.blocks.{{}}", f"model.{stack}.layers.{{}}"
        attentions = {"attention": "self_attn"} | ({"cross": "encoder_attn"} if stack == "decoder" else {})
        for mine, yours in attentions.items():
            names |= {f"{ours}.{mine}.{p}": f"{theirs}.{yours}.{p}_proj" for p in ("q", "k", "v", "out")}
            names[f"{ours}.norm_{mine}"] = f"{theirs}.{yours}_layer_norm"
        names |= {
            f"{ours}.norm_feed_forward": f"{theirs}.final_layer_norm",
            f"{ours}.feed_forward.up": f"{theirs}.fc1",
            f"{ours}.feed_forward.down": f"{theirs}.fc2",
        }
    return names


_COPIES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")


def _fuse_marian(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = dict(tensors)
    shared = [out.pop(name) for name in _COPIES if name in out]
    return out | {"model.shared.weight": shared[0], "final_logits_bias": out.pop("lm_head.bias")[None]}


def _split_marian(tensors: Tensors, config: ModelConfig) -> Tensors:
    out = dict(tensors)
    shared = _pick_shared(out, "model.shared.weight", *_COPIES)
    for stack in ("encoder", "decoder"):
        table = out.pop(f"model.{stack}.embed_positions.weight", None)  # in old files
        if table is not None and not table.is_meta:
            expected = sinusoids(torch.arange(table.shape[0]), config.dim)
            if table.shape != expected.shape or not torch.allclose(table.float(), expected, atol=1e-2):
                raise UserError(f"model.{stack}.embed_positions.weight holds other positions than sinusoids")
    bias = out.pop("final_logits_bias", None)
    bias = shared.new_zeros(shared.shape[0]) if bias is None else bias.flatten()
    return out | dict.fromkeys(_COPIES, shared) | {"lm_head.bias": bias}


def _read_marian(fields: Fields, values: Values) -> None:
    _only_seq2seq(fields, "MarianMTModel")
    values["kv_heads"] = values["heads"]
    for theirs, ours in (("encoder_attention_heads", "heads"), ("encoder_ffn_dim", "ffn_dim")):
        if fields.take(theirs, int, values[ours]) != values[ours]:
            raise UserError(f"config.json: {theirs} must be as in the decoder ({values[ours]})")
    fields.only("decoder_vocab_size", values["vocab_size"])
    values["activation"] = fields.activation("activation_function", "gelu")
    values["embed_scale"] = math.sqrt(values["dim"]) if fields.take("scale_embedding", bool, False) else 1.0
    for name in (
        "dropout", "activation_dropout", "classif_dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std",
        "num_hidden_layers", "num_beams", "bad_words_ids", "forced_eos_token_id", "extra_pos_embeddings", "_num_labels",
    ):  # fmt: skip
        fields.left.pop(name, None)


def _write_marian(config: ModelConfig) -> dict[str, Any]:
    return {
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.ffn_dim,
        "decoder_vocab_size": config.vocab_size,
        "activation_function": activation_name(config.activation),
        "scale_embedding": config.embed_scale != 1.0,
        # Their defaults are ids of another vocabulary; Marian starts from its padding.
        "pad_token_id": config.start_id,
        "eos_token_id": None,
        "forced_eos_token_id": None,
        "is_encoder_decoder": True,
    }


FAMILIES = {
    "t5": _t5("T5ForConditionalGeneration", _read_t5),
    "mt5": _t5("MT5ForConditionalGeneration", _read_mt5),
    "marian": Family(
        architecture="MarianMTModel",
        names=_marian_names(),
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("dim", "d_model"),
            Field("encoder_layers", "encoder_layers"),
            Field("layers", "decoder_layers"),
            Field("heads", "decoder_attention_heads"),
            Field("ffn_dim", "decoder_ffn_dim"),
            Field("max_positions", "max_position_embeddings", int, 1024),
            Field("start_id", "decoder_start_token_id", int),
        ),
        fixed={
            "norm": "layernorm", "norm_place": "post", "final_norm": False, "positions": "sinusoidal",
            "qkv_bias": True, "out_bias": True, "gated": False, "ffn_bias": True, "head_bias": True,
        },
        only={
            "share_encoder_decoder_embeddings": (True,),
            "tie_word_embeddings": (True,),
            "static_position_embeddings": (True,),
        },
        read=_read_marian,
        write=_write_marian,
        fuse=_fuse_marian,
        split=_split_marian,
    ),
}  # fmt: skip
