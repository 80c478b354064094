"""cairn: a language model, stone by stone.

import cairn
model, tokenizer = cairn.load("path/to/model-directory")
logits_BTV = model(ids_BT)
engine = cairn.Engine(model, tokenizer)
outputs = engine.generate(["Once"], cairn.SamplingParams(max_tokens=64, temperature=0.7))
cairn.save("path/to/other", model, tokenizer)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cairn.inference import Engine, SamplingParams
    from cairn.models import save
    from cairn.quantization import load

__all__ = ["Engine", "SamplingParams", "load", "save"]

# Imported on first use: `cairn --help` must not wait for torch.
_HOME = {
    "Engine": "cairn.inference",
    "SamplingParams": "cairn.inference",
    "load": "cairn.quantization",  # the room that opens plain and quantized directories alike
    "save": "cairn.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cairn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
