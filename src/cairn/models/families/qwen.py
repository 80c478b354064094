"""Qwen 2 (Yang et al. 2024) and 3 (2025): Llama with biases of queries, keys and values, or with their norms."""

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

MAX_POSITIONS = 32768
HEAD_DIM = 128  # Qwen 3's, whatever the width


def _read_common(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    first = fields.take("max_window_layers", int, 28, minimum=0)
    window = fields.optional("sliding_window", int, 4096, minimum=1)
    if not fields.take("use_sliding_window", bool, False):
        window = None  # published files name a window that is not used
    sliding = [window is not None and layer >= first for layer in range(values["layers"])]
    read_windows(fields, values, window, sliding)


def _write_common(config: ModelConfig) -> dict[str, Any]:
    windows = write_windows(config)
    full = windows["layer_types"].count("full_attention")
    return write_rope(config) | windows | {"use_sliding_window": bool(config.window), "max_window_layers": full}


def _read_3(fields: Fields, values: Values) -> None:
    _read_common(fields, values)
    read_biases(fields, values)


def _write_3(config: ModelConfig) -> dict[str, Any]:
    return _write_common(config) | write_biases(config)


FAMILIES = {
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        names=NAMES,
        fields=shape(max_positions=MAX_POSITIONS),
        fixed={"qkv_bias": True},
        only={"hidden_act": ("silu",)},
        read=_read_common,
        write=_write_common,
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        names=NAMES
        | {
            "blocks.{}.attention.norm_q": "model.layers.{}.self_attn.q_norm",
            "blocks.{}.attention.norm_k": "model.layers.{}.self_attn.k_norm",
        },
        fields=shape(max_positions=MAX_POSITIONS, head_dim=HEAD_DIM),
        fixed={"qk_norm": "head"},
        only={"hidden_act": ("silu",)},
        read=_read_3,
        write=_write_3,
    ),
}
