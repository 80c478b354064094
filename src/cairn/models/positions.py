"""How positions enter: rotary (with its scalings), sinusoidal, ALiBi, and T5's relative biases.

Shapes: B batch, T queries, P positions attended to, H heads, K size of a head (or of its rotated part), D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from cairn.models.config import ModelConfig, RopeScaling

Tables = tuple[torch.Tensor, torch.Tensor]


# --- rotary positions (Su et al. 2021)


class Rope:
    """cos and sin of the angles by which positions turn queries and keys.

    Not a module: frequencies stay in float32 whatever type the model is moved to, and no state dict shows them.
    """

    def __init__(self, config: ModelConfig, theta: float):
        self.theta, self.dim, self.scaling = theta, config.rope_dim, config.rope_scaling
        self.original = config.rope_scaling.original_positions if config.rope_scaling else 0
        self.original = self.original or config.max_positions
        self.interleaved = config.rope_interleaved
        self.dynamic = config.rope_scaling is not None and config.rope_scaling.kind == "dynamic"
        self.inverse_K2, self.factor = rope_frequencies(self.dim, theta, self.scaling, self.original)

    def tables(self, positions: torch.Tensor, lengths: torch.Tensor | None = None) -> Tables:
        """cos and sin for positions (...): each (..., K), float32.

        lengths (...): how long the text of each position is, where several texts lie end to end; dynamic scaling goes by it.
        """
        inverse_K2 = self.inverse_K2
        if self.dynamic:
            if lengths is None:
                inverse_K2 = self.frequencies(int(positions.max()) + 1)
            else:
                inverse_K2 = torch.stack([self.frequencies(n) for n in lengths.flatten().tolist()])
                inverse_K2 = inverse_K2.view(*lengths.shape, -1)
        if inverse_K2.device != positions.device:
            inverse_K2 = inverse_K2.to(positions.device)
        angles = positions[..., None].float() * inverse_K2
        angles = angles.repeat_interleave(2, dim=-1) if self.interleaved else torch.cat([angles, angles], dim=-1)
        if self.factor == 1.0:
            return angles.cos(), angles.sin()
        return angles.cos() * self.factor, angles.sin() * self.factor

    def frequencies(self, length: int) -> torch.Tensor:
        """(K/2): the angle per position of each pair in a text of `length` tokens.

        Dynamic scaling makes the base grow with the length, so that the slowest pair covers it and the fastest is unchanged.
        Keys that a cache holds keep the angles of the length at which they came, as in transformers.
        """
        if self.scaling is None or not self.dynamic or length <= self.original:
            return self.inverse_K2
        growth = self.scaling.factor * length / self.original - (self.scaling.factor - 1)
        return _inverse(self.dim, self.theta * growth ** (self.dim / (self.dim - 2)))


def _inverse(dim: int, theta: float) -> torch.Tensor:
    # On the CPU whatever the default is: a model that is built on the meta device keeps its frequencies.
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.int64, device="cpu").float() / dim)


def rope_frequencies(dim: int, theta: float, scaling: RopeScaling | None, original: int) -> tuple[torch.Tensor, float]:
    """Angle per position of each pair (K/2), theta^(-2i/K) before scaling, and a factor on cos and sin.

    Equal to `transformers`' modeling_rope_utils for linear, dynamic (up to the original length), yarn and llama3.
    """
    inverse_K2 = _inverse(dim, theta)
    if scaling is None or scaling.kind == "dynamic":
        return inverse_K2, 1.0
    if scaling.kind == "linear":
        return inverse_K2 / scaling.factor, 1.0
    if scaling.kind == "llama3":
        # Short wavelengths stay, long ones are stretched, those between are mixed.
        wavelength = 2 * math.pi / inverse_K2
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = ((original / wavelength - low) / (high - low)).clamp(0, 1)
        return (1 - kept) * inverse_K2 / scaling.factor + kept * inverse_K2, 1.0
    return _yarn(inverse_K2, dim, theta, scaling, original)


def _yarn(
    inverse_K2: torch.Tensor, dim: int, theta: float, scaling: RopeScaling, original: int
) -> tuple[torch.Tensor, float]:
    def pair_that_turns(times: float) -> float:
        """The pair that makes this many turns over the original length."""
        return dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    stretched = ((torch.arange(dim // 2, device="cpu").float() - first) / max(last - first, 0.001)).clamp(0, 1)
    factor = scaling.attention_factor
    if not factor and scaling.mscale and scaling.mscale_all_dim:
        factor = yarn_mscale(scaling.factor, scaling.mscale) / yarn_mscale(scaling.factor, scaling.mscale_all_dim)
    factor = factor or yarn_mscale(scaling.factor)
    return stretched * inverse_K2 / scaling.factor + (1 - stretched) * inverse_K2, factor


def yarn_mscale(factor: float, strength: float = 1.0) -> float:
    """YaRN's temperature of the softmax: 0.1 strength ln(factor) + 1."""
    return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0


def rotate(x_BTHK: torch.Tensor, tables: Tables, interleaved: bool = False) -> torch.Tensor:
    """Turn every pair of the first dimensions of x by its position's angle; the rest of the head stays.

    A pair is (i, i + K/2), Hugging Face's layout, or neighbours with `interleaved`. tables: (T, K) or (B, T, K).
    """
    cos, sin = tables[0][..., None, :].to(x_BTHK.dtype), tables[1][..., None, :].to(x_BTHK.dtype)
    size = cos.shape[-1]
    part = x_BTHK if size == x_BTHK.shape[-1] else x_BTHK[..., :size]
    if interleaved:
        turned = torch.stack([-part[..., 1::2], part[..., ::2]], dim=-1).flatten(-2)
    else:
        first, second = part.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    part = part * cos + turned * sin
    return part if size == x_BTHK.shape[-1] else torch.cat([part, x_BTHK[..., size:]], dim=-1)


# --- added to the embedding


def sinusoids(positions: torch.Tensor, dim: int) -> torch.Tensor:
    """Sines, then cosines, of positions (...) at wavelengths from 2 pi to 10000 * 2 pi: (..., dim).

    Vaswani et al. 2017 interleave the two; the order of Marian and of tensor2tensor is a permutation of it.
    """
    exponent = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float64) / dim
    angles = positions[..., None].double() / 10000**exponent
    return torch.cat([angles.sin(), angles.cos()[..., : dim // 2]], dim=-1).float()


# --- added to the scores


def alibi_slopes(heads: int) -> torch.Tensor:
    """The slope of each head (Press et al. 2022): powers of 2^(-8/n) for the nearest power of two n below, the gaps
    between them for the heads beyond."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


@dataclass(frozen=True)
class Alibi:
    """A bias that falls with distance. Written as slope * key position: the rest is the same for all keys of a query.

    Falcon rounds the bias to bfloat16 and scales it with the scores; its weights were trained with that.
    """

    heads: int
    scale: float

    def of_keys(self, positions: int) -> torch.Tensor:
        """(H, positions), float32."""
        slopes_H1 = alibi_slopes(self.heads)[:, None].bfloat16()
        return (slopes_H1 * torch.arange(positions)).float() * self.scale


class RelativeBias(nn.Module):
    """T5's bias by distance: exact for near keys, in logarithmic buckets for far ones (Raffel et al. 2020)."""

    def __init__(self, heads: int, buckets: int, distance: int, bidirectional: bool):
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.buckets, self.distance, self.bidirectional = buckets, distance, bidirectional

    def bucket(self, relative: torch.Tensor) -> torch.Tensor:
        """Bucket of key position - query position."""
        buckets, offset = self.buckets, torch.zeros_like(relative)
        if self.bidirectional:
            buckets //= 2
            offset = (relative > 0).long() * buckets
            relative = relative.abs()
        else:
            relative = (-relative).clamp(min=0)
        exact = buckets // 2
        far = exact + (
            torch.log(relative.clamp(min=1).float() / exact) / math.log(self.distance / exact) * (buckets - exact)
        ).long().clamp(max=buckets - 1 - exact)
        return offset + torch.where(relative < exact, relative, far)

    def forward(self, query_T: torch.Tensor, key_P: torch.Tensor) -> torch.Tensor:
        """(H, T, P)."""
        return self.table(self.bucket(key_P[None, :] - query_T[:, None])).permute(2, 0, 1)
