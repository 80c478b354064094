"""Numbers of 8 bits for an optimizer's state: block-wise dynamic quantization (Dettmers et al. 2021).

A block of values shares a scale, its largest magnitude; each value is the nearest of 256 numbers of [-1, 1] or [0, 1] that
lie densely about 0, because moments of one block differ by orders of magnitude. Equal to bitsandbytes'.

Shapes: N blocks, B values of a block.
"""

import functools

import torch

DECADES = 7  # the powers of ten that the numbers span


@functools.cache
def dynamic_map(signed: bool) -> torch.Tensor:
    """The 256 numbers, ascending, float32.

    The decade below 10^-k holds half as many as the one above it: 64 (unsigned: 128) in 0.1 .. 1, one (two) in the lowest.
    In each they are the centres of equal steps; 0 and 1 come besides.

    >>> [round(value, 8) for value in dynamic_map(True)[[0, 127, 128, 255]].tolist()]
    [-0.99296874, 0.0, 5.5e-07, 1.0]
    """
    positive = []
    for decade in range(DECADES):
        steps = 2**decade * (1 if signed else 2)
        borders = torch.linspace(0.1, 1, steps + 1)
        positive.append((borders[:-1] + borders[1:]) / 2 * 10.0 ** (decade + 1 - DECADES))
    values = torch.cat(positive)
    parts = [-values] if signed else []
    return torch.cat([*parts, torch.tensor([0.0, 1.0]), values]).sort().values


@functools.cache
def _on(device: torch.device, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers and the borders between them."""
    numbers = dynamic_map(signed)
    return numbers.to(device), ((numbers[1:] + numbers[:-1]) / 2).to(device)


def quantize(x_NB: torch.Tensor, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (N, B) uint8 and scales (N,) float32. A code is the index of the nearest number; a block of zeros has scale 0."""
    scale_N = x_NB.abs().amax(1)
    _, borders = _on(x_NB.device, signed)
    share_NB = x_NB / scale_N.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return torch.bucketize(share_NB, borders, out_int32=True).to(torch.uint8), scale_N


def dequantize(code_NB: torch.Tensor, scale_N: torch.Tensor, signed: bool) -> torch.Tensor:
    """The values (N, B), float32."""
    numbers, _ = _on(code_NB.device, signed)
    return numbers[code_NB.int()] * scale_N[:, None]
