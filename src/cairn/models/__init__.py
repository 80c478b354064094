"""The Transformer, its families, and model directories."""

from cairn.models.cache import PAGE, PagedCache, Segment
from cairn.models.config import PRESETS, ModelConfig, preset
from cairn.models.directory import load, read_record, save, weights_hash
from cairn.models.transformer import Transformer

__all__ = [
    "PAGE",
    "PRESETS",
    "ModelConfig",
    "PagedCache",
    "Segment",
    "Transformer",
    "load",
    "preset",
    "read_record",
    "save",
    "weights_hash",
]
