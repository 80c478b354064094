"""Weights in fewer bits, and opening any model directory, plain or quantized."""

from cairn.models import load

__all__ = ["load"]
