"""Integers instead of floats: how a weight matrix becomes small whole numbers and scales, and how those lie in a file.

A weight is kept as q * scale with q an integer of 8 or 4 bits. The scale belongs to a group of neighbouring inputs of
one output: in INT8 the whole row is one group, in INT4 32 weights are. Packing is that of compressed-tensors'
`pack-quantized` format, so that other tools read the files.

Shapes: O outputs, I inputs, G groups of I / G inputs each, W words of 32 bits.
"""

import torch
import torch.nn.functional as F

GROUP = 32  # inputs that share a scale in INT4
SCALE_DTYPE = torch.bfloat16  # the range of float32 in two bytes: half a bit a weight in INT4

# INT4 scales tried: largest magnitude of the group / d. d = 7 clips nothing; a larger d cuts the group's extremes off
# and gives all others a finer grid. On the trained weights of a million-parameter model the best d of each group lowers
# the relative error from 0.090 to 0.080 (and asymmetric INT4, at an eighth of a bit more a weight, would reach 0.072).
CLIP_DIVISORS = tuple(7 + step / 4 for step in range(21))


def quantize(weight_OI: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers (O, I) int8 and scales (O, G) bfloat16 that stand for `weight_OI` in `bits` = 8 or 4 bits.

    INT8 is symmetric with one scale a row: no weight moves by more than half a scale. INT4 is symmetric with a scale
    for every `GROUP` inputs, the one of `CLIP_DIVISORS` with the smallest squared error: within -8.5 .. 7.5 scales no
    weight moves by more than half a scale, those outside become the nearest end. Scales are rounded to their stored
    format before the integers are chosen, so what is measured here is what a reader gets.
    """
    weight_OI = weight_OI.float()
    if bits == 8:
        scale_O1 = _stored(weight_OI.abs().amax(1, keepdim=True) / 127)
        return (weight_OI / scale_O1).round().clamp(-127, 127).to(torch.int8), scale_O1.to(SCALE_DTYPE)
    assert bits == 4
    assert weight_OI.shape[1] % GROUP == 0
    weight_OGI = weight_OI.unflatten(1, (-1, GROUP))
    largest_OG1 = weight_OGI.abs().amax(-1, keepdim=True)
    best_OG1, least_OG1 = torch.empty_like(largest_OG1), torch.full_like(largest_OG1, float("inf"))
    for divisor in CLIP_DIVISORS:
        scale_OG1 = _stored(largest_OG1 / divisor)
        error_OG1 = (_round4(weight_OGI, scale_OG1) * scale_OG1 - weight_OGI).square().sum(-1, keepdim=True)
        better = error_OG1 < least_OG1
        best_OG1, least_OG1 = torch.where(better, scale_OG1, best_OG1), torch.where(better, error_OG1, least_OG1)
    values_OGI = _round4(weight_OGI, best_OG1)
    return values_OGI.to(torch.int8).flatten(1), best_OG1.squeeze(-1).to(SCALE_DTYPE)


def _round4(weight_OGI: torch.Tensor, scale_OG1: torch.Tensor) -> torch.Tensor:
    return (weight_OGI / scale_OG1).round().clamp(-8, 7)


def _stored(scale: torch.Tensor) -> torch.Tensor:
    """The scale as a reader will see it; never 0, so that a row of zeros divides."""
    return scale.to(SCALE_DTYPE).float().clamp(min=torch.finfo(SCALE_DTYPE).tiny)


def dequantize(values_OI: torch.Tensor, scale_OG: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The weights (O, I) that integers and scales stand for. Multiplied in float32, then rounded to `dtype`."""
    grouped = values_OI.unflatten(1, (scale_OG.shape[1], -1)).float() * scale_OG.float().unsqueeze(-1)
    return grouped.flatten(1).to(dtype)


def pack(values_OI: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers (O, I) int8 as words (O, W) int32, each row padded with zero bits to whole words.

    compressed-tensors' dense packing: 2^(bits-1) is added, and input i of a row takes the bits from i * bits on,
    counted from the least significant bit of the first word. On a little-endian machine that is the order of the bytes
    themselves.
    """
    bytes_OI = (values_OI.to(torch.int16) + (1 << bits - 1)).to(torch.uint8)
    bytes_OI = F.pad(bytes_OI, (0, -values_OI.shape[1] % (32 // bits)))
    if bits == 4:
        bytes_OI = bytes_OI[:, 0::2] | bytes_OI[:, 1::2] << 4
    return bytes_OI.contiguous().view(torch.int32)


def unpack(packed_OW: torch.Tensor, bits: int, inputs: int) -> torch.Tensor:
    """The integers (O, I) int8 of `pack`; `inputs` is I."""
    bytes_OI = packed_OW.contiguous().view(torch.uint8)
    if bits == 4:
        bytes_OI = torch.stack([bytes_OI & 15, bytes_OI >> 4], dim=-1).flatten(1)
    return (bytes_OI[:, :inputs].to(torch.int16) - (1 << bits - 1)).to(torch.int8)
