"""What quantized weights give: bytes, decoding speed, and the error of INT4 scales, each against a peer in the same
run.

    python benchmarks/quantize.py [--quick] [--json FILE]

Speeds are medians of interleaved runs on one thread. ratio > 1 means better than the peer; a model whose weights fit
the processor's cache gets smaller and not faster, which is why its goal is only not to lose.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from measure import Row, interleaved, main, row

from cairn.models import Transformer, preset, save
from cairn.quantization import QuantizedLinear, decode_speed, dequantize, load, quantize, quantize_directory
from cairn.quantization.formats import GROUP
from cairn.tokenizers import train_tokenizer


def models(folder: Path, quick: bool) -> list[Row]:
    """A whole model of the journey's size (or a test's, when quick): bytes on disk, tokens a second at batch 1."""
    name = "pebble" if quick else "stone"
    tokenizer = train_tokenizer(["the stones mark the trail over the hill. " * 20], 400)
    save(folder / "plain", Transformer(preset(name)).initialize(1), tokenizer)
    plain, _ = load(folder / "plain")
    rows = []
    for bits in (8, 4):
        sizes = quantize_directory(folder / "plain", folder / f"int{bits}", bits)
        rows.append(
            row(
                f"{name} INT{bits} on disk",
                "float32 directory",
                sizes["bytes_after"],
                sizes["bytes_before"],
                "bytes",
                2.0 if quick else 3.0,
                less_is_better=True,
            )
        )
        model, _ = load(folder / f"int{bits}")
        pairs = range(3 if quick else 15)
        speeds = [(decode_speed(model, tokens=32, runs=1), decode_speed(plain, tokens=32, runs=1)) for _ in pairs]
        ours, theirs = (statistics.median(column) for column in zip(*speeds))
        rows.append(
            row(f"{name} INT{bits} decode", "float32 model", ours, theirs, "tokens/s", 0.9, less_is_better=False)
        )
    return rows


def layers(quick: bool) -> list[Row]:
    """One large linear layer on one row (decoding) and on 128 (reading a prompt)."""
    size = 2048 if quick else 4096
    weight = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) * 0.02
    rows = []
    with torch.inference_mode():
        plain = torch.nn.Linear(size, size, bias=False)
        plain.weight.copy_(weight)
        for bits in (8, 4):
            layer = QuantizedLinear(*quantize(weight, bits), bits)
            for count in (1, 128):
                x = torch.randn(count, size)
                runs = 10 if quick or count > 1 else 30
                ours, theirs = interleaved([lambda: layer(x), lambda: plain(x)], runs)  # noqa: B023 (called at once)
                rows.append(
                    row(
                        f"INT{bits} linear {size} x {size}, rows: {count}",
                        "torch float32 linear",
                        ours * 1e6,
                        theirs * 1e6,
                        "us",
                        (1.3 if quick else 2.0) if count == 1 else 0.8,
                        less_is_better=True,
                    )
                )
    return rows


def errors() -> list[Row]:
    """Relative error of INT4 on normal weights, against the scales of compressed-tensors' default observer."""
    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    groups = weight.unflatten(1, (-1, GROUP))
    step = groups.abs().amax(-1, keepdim=True) / 7.5
    extremes = ((groups / step).round().clamp(-8, 7) * step).flatten(1)
    ours = float((dequantize(*quantize(weight, 4)) - weight).norm() / weight.norm())
    theirs = float((extremes - weight).norm() / weight.norm())
    return [row("INT4 relative error", "scales of the extremes", ours, theirs, "of |w|", 1.05, less_is_better=True)]


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return errors() + layers(quick) + models(Path(folder), quick)


if __name__ == "__main__":
    main(__doc__ or "", measure)
