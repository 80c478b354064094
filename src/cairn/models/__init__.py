"""The Transformer, its families, and model directories."""

from cairn.models.cache import PAGE, PagedCache, Segment
from cairn.models.config import PRESETS, ModelConfig, preset
from cairn.models.directory import load, read_record, save, weights_hash
from cairn.models.seq2seq import EncoderDecoder, build_model, check_decoder
from cairn.models.transformer import Transformer

__all__ = [
    "PAGE",
    "PRESETS",
    "EncoderDecoder",
    "ModelConfig",
    "PagedCache",
    "Segment",
    "Transformer",
    "build_model",
    "check_decoder",
    "load",
    "preset",
    "read_record",
    "save",
    "weights_hash",
]
