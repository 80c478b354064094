"""OLMo 2 (2024): norms on the outputs of the layers, and of queries and keys over their whole width."""

from typing import Any

from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Fields, Values, read_rope, write_rope
from cairn.models.families.llama import NAMES, read_biases, shape, write_biases

_DEFAULTS = {"norm_eps": 1e-5}


def _read(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    read_biases(fields, values)


def _write(config: ModelConfig) -> dict[str, Any]:
    return write_rope(config) | write_biases(config)


FAMILIES = {
    "olmo2": Family(
        architecture="Olmo2ForCausalLM",
        names={ours: theirs for ours, theirs in NAMES.items() if "norm_" not in ours}
        | {
            "blocks.{}.attention.norm_q": "model.layers.{}.self_attn.q_norm",
            "blocks.{}.attention.norm_k": "model.layers.{}.self_attn.k_norm",
            "blocks.{}.norm_attention_out": "model.layers.{}.post_attention_layernorm",
            "blocks.{}.norm_feed_forward_out": "model.layers.{}.post_feedforward_layernorm",
        },
        fields=shape(**_DEFAULTS),
        fixed={"norm_place": "output", "qk_norm": "width"},
        only={"hidden_act": ("silu",)},
        read=_read,
        write=_write,
    ),
}
