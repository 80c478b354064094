"""Weights in fewer bits, and opening any model directory, plain or quantized."""

from cairn.quantization.directory import load, load_quantized, quantize_directory
from cairn.quantization.formats import dequantize, pack, quantize, unpack
from cairn.quantization.linear import QuantizedLinear
from cairn.quantization.measure import decode_speed, measure_precision

__all__ = [
    "QuantizedLinear",
    "decode_speed",
    "dequantize",
    "load",
    "load_quantized",
    "measure_precision",
    "pack",
    "quantize",
    "quantize_directory",
    "unpack",
]
