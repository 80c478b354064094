"""Mistral (Jiang et al. 2023): Llama with grouped queries and a window."""

from typing import Any

from cairn.core.errors import UserError
from cairn.models.config import ModelConfig
from cairn.models.families.base import Family, Fields, Values, read_rope, write_rope
from cairn.models.families.llama import NAMES, shape


def _read(fields: Fields, values: Values) -> None:
    read_rope(fields, values)
    # Absent, the window is the first release's; null says that there is none.
    values["window"] = fields.optional("sliding_window", int, 4096, minimum=1) or 0


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.window_layers:
        raise UserError("a mistral has its window in all layers or in none: window_layers must be empty")
    return write_rope(config) | {"sliding_window": config.window or None}


_DEFAULTS = {"kv_heads": 8, "max_positions": 131072}

FAMILIES = {
    "mistral": Family(
        architecture="MistralForCausalLM",
        names=NAMES,
        fields=shape(**_DEFAULTS),
        only={"hidden_act": ("silu",)},
        read=_read,
        write=_write,
    ),
}
