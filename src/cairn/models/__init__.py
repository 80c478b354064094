"""The Transformer, its families, and model directories."""

from cairn.models.cache import KVCache
from cairn.models.config import PRESETS, ModelConfig, preset
from cairn.models.directory import load, read_record, save, weights_hash
from cairn.models.transformer import Transformer

__all__ = [
    "PRESETS",
    "KVCache",
    "ModelConfig",
    "Transformer",
    "load",
    "preset",
    "read_record",
    "save",
    "weights_hash",
]
