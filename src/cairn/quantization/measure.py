"""What a directory's precision costs and gives: bytes, bits per byte, tokens a second."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cairn.models import PAGE, PagedCache, Segment, Transformer
from cairn.quantization.directory import load, weight_bytes
from cairn.tokenizers import Tokenizer


def measure_precision(
    path: Path | str,
    texts: Sequence[str],
    bits_per_byte: Callable[[Transformer, Tokenizer, Sequence[str]], Any],
    *,
    tokens: int = 64,
    runs: int = 5,
) -> dict[str, float]:
    """{"bytes": of the weight files, "bits_per_byte": over `texts`, "tokens_per_second": greedy decoding of one
    sequence}.

    `bits_per_byte` is evaluation's function of that name (this room is below it and must not have a second definition).
    """
    model, tokenizer = load(path)
    return {
        "bytes": weight_bytes(path),
        "bits_per_byte": float(bits_per_byte(model, tokenizer, texts).value),
        "tokens_per_second": decode_speed(model, tokens=tokens, runs=runs),
    }


@torch.inference_mode()
def decode_speed(model: Transformer, *, tokens: int = 64, runs: int = 5) -> float:
    """Tokens a second of greedy decoding at batch 1 from a prompt of 8 tokens: the median of `runs` after a warm-up."""
    tokens = min(tokens, model.config.max_positions - 8)
    parameter = model.embed.weight
    speeds = []
    for _ in range(runs + 1):
        pages = range((8 + tokens) // PAGE + 1)
        cache = PagedCache(model.config, len(pages), device=parameter.device, dtype=parameter.dtype)
        ids_BT = torch.arange(8, device=parameter.device)[None] % model.config.vocab_size
        start, seen = 0.0, 0
        for count in range(tokens + 1):
            step = cache.step([Segment(pages, seen, ids_BT.shape[1])])
            logits_BTV = model(ids_BT, step)
            seen += ids_BT.shape[1]
            ids_BT = logits_BTV[:, -1:].argmax(-1)
            int(ids_BT)  # waits for the device
            if count == 0:  # the prompt is read: from here on it is one token a step
                start = time.perf_counter()
        speeds.append(tokens / (time.perf_counter() - start))
    return statistics.median(speeds[1:])
