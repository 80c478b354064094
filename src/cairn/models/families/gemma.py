"""Gemma (2024) and Gemma 2: norms stored as distances from 1, a scaled embedding, GeGLU; in the second norms on both sides
of a layer, capped scores and logits, and a window in every other layer."""

from typing import Any

from cairn.models.config import ModelConfig
from cairn.models.families.base import (
    Family,
    Fields,
    Values,
    read_rope,
    read_windows,
    write_rope,
    write_windows,
)
from cairn.models.families.llama import NAMES, read_biases, shape, write_biases

HEAD_DIM = 256
SMALLEST_CAP = 1e-3  # a cap of 0 would divide by it; null is no cap

_DEFAULTS = {"head_dim": HEAD_DIM, "max_positions": 8192, "tie_embeddings": True}
FIELDS = shape(**_DEFAULTS)
FIXED = {"norm_offset": True, "activation": "gelu_tanh"}
TANH = ("gelu_pytorch_tanh", "gelu", "gelu_new")  # the first release says gelu and means its approximation


def _read(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    values["embed_scale"] = values["dim"] ** 0.5
    read_biases(fields, values)


def _write(config: ModelConfig) -> dict[str, Any]:
    return write_rope(config) | write_biases(config)


def _read_2(fields: Fields, values: Values) -> None:
    _read(fields, values)
    scalar = fields.take("query_pre_attn_scalar", int, 256, minimum=1)
    values["score_scale"] = 0.0 if scalar == values["head_dim"] else scalar**-0.5
    values["score_cap"] = fields.optional("attn_logit_softcapping", float, 50.0, minimum=SMALLEST_CAP) or 0.0
    values["logit_cap"] = fields.optional("final_logit_softcapping", float, 30.0, minimum=SMALLEST_CAP) or 0.0
    window = fields.optional("sliding_window", int, 4096, minimum=1)
    read_windows(fields, values, window, [layer % 2 == 0 for layer in range(values["layers"])])


def _write_2(config: ModelConfig) -> dict[str, Any]:
    scalar = round(config.score_scale**-2) if config.score_scale else config.head_dim
    return (
        _write(config)
        | write_windows(config)
        | {
            "query_pre_attn_scalar": scalar,
            "attn_logit_softcapping": config.score_cap or None,
            "final_logit_softcapping": config.logit_cap or None,
        }
    )


FAMILIES = {
    "gemma": Family(
        architecture="GemmaForCausalLM",
        names=NAMES,
        fields=FIELDS,
        fixed=FIXED,
        only={"hidden_act": TANH, "hidden_activation": (None, *TANH), "use_bidirectional_attention": (None, False)},
        read=_read,
        write=_write,
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM",
        names=NAMES
        | {
            "blocks.{}.norm_attention_out": "model.layers.{}.post_attention_layernorm",
            "blocks.{}.norm_feed_forward": "model.layers.{}.pre_feedforward_layernorm",
            "blocks.{}.norm_feed_forward_out": "model.layers.{}.post_feedforward_layernorm",
        },
        fields=FIELDS,
        fixed=FIXED | {"norm_place": "sandwich"},
        only={
            "hidden_activation": ("gelu_pytorch_tanh", "gelu_new"),
            "hidden_act": (None, *TANH),  # written beside hidden_activation and not read
            "use_bidirectional_attention": (None, False),
        },
        read=_read_2,
        write=_write_2,
    ),
}
