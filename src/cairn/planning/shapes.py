"""Models to plan for: presets, published shapes by name, a file of settings, or a model directory (its config.json alone)."""

from pathlib import Path
from typing import Any

from cairn.core.config import from_dict, read_toml
from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.models import PRESETS, ModelConfig, preset
from cairn.models.directory import read_model_config
from cairn.models.families import read_config
from cairn.models.families.base import MOST_LAYERS

_GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024}
_LLAMA3 = {
    "model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "num_key_value_heads": 8,
}  # fmt: skip
_QWEN = {"model_type": "qwen2", "vocab_size": 152064, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6}


def _size(dim: int, layers: int, heads: int, inner: int) -> dict[str, int]:
    """Llama's names of the four numbers that shapes of a family differ in."""
    return {
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


# config.json of the makers' releases, as far as it decides sizes; the tests hold the parameters that the makers count.
PUBLISHED: dict[str, dict[str, Any]] = {
    "gpt2-medium": _GPT2 | {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": _GPT2 | {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": _GPT2 | {"n_embd": 1600, "n_layer": 48, "n_head": 25},
    "llama-3.2-1b": _LLAMA3 | _size(2048, 16, 32, 8192) | {"tie_word_embeddings": True},
    "llama-3.2-3b": _LLAMA3 | _size(3072, 28, 24, 8192) | {"tie_word_embeddings": True},
    "llama-3.1-8b": _LLAMA3 | _size(4096, 32, 32, 14336),
    "llama-3.1-70b": _LLAMA3 | _size(8192, 80, 64, 28672),
    "llama-3.1-405b": _LLAMA3 | _size(16384, 126, 128, 53248),
    "qwen2.5-0.5b": _QWEN
    | _size(896, 24, 14, 4864)
    | {"vocab_size": 151936, "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 32768},
    "qwen2.5-7b": _QWEN | _size(3584, 28, 28, 18944) | {"num_key_value_heads": 4},
    "mixtral-8x7b": {
        "model_type": "mixtral", "vocab_size": 32000, "max_position_embeddings": 32768, "num_key_value_heads": 8,
        "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1e6,
    } | _size(4096, 32, 32, 14336),
    "deepseek-v3": {
        "model_type": "deepseek_v3", "vocab_size": 129280, "max_position_embeddings": 163840, "q_lora_rank": 1536,
        "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
        "num_key_value_heads": 128, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1,
        "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4,
        "routed_scaling_factor": 2.5,
    } | _size(7168, 61, 128, 18432),
}  # fmt: skip


def read_shape(name: str) -> ModelConfig:
    """The configuration that `name` stands for. No weight is read, and a directory needs none.

    name: a preset, a published shape, a .toml or .json file (settings of `ModelConfig`, or a config.json), a directory.
    Raises UserError for anything else, and for a stack of more than MOST_LAYERS.
    """
    config = _read(name)
    if config.layers > MOST_LAYERS:
        raise UserError(f"--model {name}: {config.layers} layers are more than the {MOST_LAYERS} that are planned for")
    return config


def _read(name: str) -> ModelConfig:
    if name in PRESETS:
        return preset(name)
    if name in PUBLISHED:
        return read_config(PUBLISHED[name])
    path = Path(name)
    if path.is_dir():
        return read_model_config(path)[0]
    if path.suffix == ".toml":
        return from_dict(ModelConfig, read_toml(path), where=str(path))
    if path.is_file():
        data = read_json(path)
        if isinstance(data, dict) and "model_type" in data:
            return read_config(data)
        return from_dict(ModelConfig, data, where=str(path))
    raise UserError(
        f"--model {name!r} is no preset, published shape, file or directory; known: {', '.join((*PRESETS, *PUBLISHED))}"
    )
