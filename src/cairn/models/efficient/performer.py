"""FAVOR+ of the Performer: softmax attention in linear time by random features (Choromanski et al. 2021).

For w drawn from N(0, I), E[exp(w.q - |q|^2/2) exp(w.k - |k|^2/2)] = exp(q.k). So with F such features, phi(q).phi(k) estimates
the kernel of softmax without bias, always positive, and

    z_t = phi(q_t) (sum_s phi(k_s) v_s^T) / phi(q_t) (sum_s phi(k_s))

needs only the sums: T x F instead of T x T. Directions w that are orthogonal (lengths as of a normal vector) have smaller error.
Causal sums run from chunk to chunk; within one, pairs are computed exactly as features, chunk x chunk at a time.

Shapes: B batch, H heads, T tokens, C tokens of a chunk, K size of a head, F features.
"""

import torch

from cairn.core.errors import UserError


def orthogonal_features(features: int, size: int, seed: int = 0) -> torch.Tensor:
    """Directions w (F, K) for heads of `size`: orthogonal within each K rows, lengths as of vectors from N(0, I)."""
    if features < 1:
        raise UserError(f"features must be at least 1, got {features}")
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(-(-features // size)):
        normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
        basis, triangle = torch.linalg.qr(normal)
        # Signs of the triangle's diagonal make the basis uniform over rotations (Mezzadri 2007).
        rows = (basis * triangle.diagonal().sign()).T
        blocks.append(
            rows * torch.randn(size, size, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
        )
    return torch.cat(blocks)[:features].float()


def performer_attention(
    q_BHTK: torch.Tensor,
    k_BHTK: torch.Tensor,
    v_BHTK: torch.Tensor,
    causal: bool,
    directions_FK: torch.Tensor,
    chunk: int = 128,
) -> torch.Tensor:
    """An estimate of softmax(q k^T / sqrt(K)) v. Exponents are taken relative to their largest value, which cancels."""
    if chunk < 1:
        raise UserError(f"chunk must be at least 1, got {chunk}")
    q, k = _exponents(q_BHTK, directions_FK), _exponents(k_BHTK, directions_FK)
    q_BHTF = torch.exp(q - q.amax(-1, keepdim=True))  # a factor of the row, in numerator and denominator
    if not causal:
        k_BHTF = torch.exp(k - k.amax((-2, -1), keepdim=True))
        sums_BHF1 = k_BHTF.sum(2)[..., None]
        return (q_BHTF @ (k_BHTF.mT @ v_BHTK)) / _positive(q_BHTF @ sums_BHF1)
    B, H, T, F = q_BHTF.shape
    values_BHFK = v_BHTK.new_zeros(B, H, F, v_BHTK.shape[-1])
    sums_BHF1 = v_BHTK.new_zeros(B, H, F, 1)
    most_BH11 = k.new_full((B, H, 1, 1), float("-inf"))
    out = []
    for start in range(0, T, chunk):
        here = slice(start, start + chunk)
        # The largest exponent so far, as in flash attention: the future must not decide what underflows.
        larger = torch.maximum(most_BH11, k[:, :, here].amax((-2, -1), keepdim=True))
        shrink = torch.exp(most_BH11 - larger)
        values_BHFK, sums_BHF1, most_BH11 = values_BHFK * shrink, sums_BHF1 * shrink, larger
        q_BHCF, k_BHCF, v_BHCK = q_BHTF[:, :, here], torch.exp(k[:, :, here] - larger), v_BHTK[:, :, here]
        weights_BHCC = (q_BHCF @ k_BHCF.mT).tril()
        z_BHCK = q_BHCF @ values_BHFK + weights_BHCC @ v_BHCK
        out.append(z_BHCK / _positive(q_BHCF @ sums_BHF1 + weights_BHCC.sum(-1, keepdim=True)))
        values_BHFK = values_BHFK + k_BHCF.mT @ v_BHCK
        sums_BHF1 = sums_BHF1 + k_BHCF.sum(2)[..., None]
    return torch.cat(out, dim=2)


def _exponents(x_BHTK: torch.Tensor, directions_FK: torch.Tensor) -> torch.Tensor:
    """Logarithms of the features (B, H, T, F); q and k each carry half of the division by sqrt(K)."""
    x = x_BHTK * x_BHTK.shape[-1] ** -0.25
    return x @ directions_FK.to(x).T - x.square().sum(-1, keepdim=True) / 2


def _positive(x: torch.Tensor) -> torch.Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)  # 0 / 0 where all features underflow
