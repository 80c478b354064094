"""Efficient attention: exact where it claims to be, unbiased where it estimates, and never by the size of a block."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.models.efficient import (
    block_layout,
    block_sparse_attention,
    flash_attention,
    linformer_attention,
    orthogonal_features,
    performer_attention,
    random_projection,
    sliding_window_attention,
)


def qkv(T, seed=0, K=8, B=2, H=3, scale=1.0):
    torch.manual_seed(seed)
    return [torch.randn(B, H, T, K) * s for s in (scale, scale, 1.0)]


def masked(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def relative(x, y):
    return float(((x - y).norm() / y.norm()).detach())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 80), st.booleans(), st.booleans())
def test_flash_is_exact_for_any_block(T, block, causal, huge):
    q, k, v = qkv(T)
    if (
        huge
    ):  # scores beyond what exp can hold; doubles, since the rounding of such scores in float32 is no error of tiles
        q, k, v = q.double() * 50, k.double() * 50, v.double()
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(flash_attention(q, k, v, causal, block), expected, atol=1e-5, rtol=1e-5)


def test_flash_with_other_keys_and_its_gradients():
    q, k, v = (t.requires_grad_() for t in (qkv(9)[0], *qkv(31, seed=1)[1:]))
    weight = torch.randn(q.shape)
    ours = torch.autograd.grad((flash_attention(q, k, v, False, 8) * weight).sum(), (q, k, v))
    exact = torch.autograd.grad((F.scaled_dot_product_attention(q, k, v) * weight).sum(), (q, k, v))
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="as many keys"):
        flash_attention(q, k, v, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_sliding_window_is_masked_attention(T, window, causal):
    q, k, v = qkv(T)
    i = torch.arange(T)
    away = i[:, None] - i
    mask = (away >= 0) & (away < window) if causal else away.abs() < window
    torch.testing.assert_close(sliding_window_attention(q, k, v, causal, window), masked(q, k, v, mask))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 1000))
def test_block_sparse_is_masked_attention(T, block, causal, seed):
    q, k, v = qkv(T)
    N = -(-T // block)
    layout = torch.rand(N, N, generator=torch.Generator().manual_seed(seed)) < 0.4
    layout.fill_diagonal_(True)
    mask = layout.repeat_interleave(block, 0).repeat_interleave(block, 1)[:T, :T]
    mask = mask.tril() if causal else mask
    torch.testing.assert_close(block_sparse_attention(q, k, v, causal, layout, block), masked(q, k, v, mask))


def test_the_same_pairs_in_smaller_blocks_are_the_same():
    q, k, v = qkv(64)
    coarse = block_layout(4, local=1, sinks=1)
    fine = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)
    for causal in (True, False):
        one = block_sparse_attention(q, k, v, causal, coarse, 16)
        torch.testing.assert_close(block_sparse_attention(q, k, v, causal, fine, 4), one)


def test_missing_blocks_are_never_touched():
    q, k, v = qkv(64)
    layout = block_layout(8, local=2, sinks=0)
    poisoned = k.clone()
    poisoned[:, :, :8] = float("nan")  # block 0, which blocks 2.. do not see
    z = block_sparse_attention(q, poisoned, v, True, layout, 8)
    assert z[:, :, :16].isnan().any()
    assert not z[:, :, 16:].isnan().any()


def test_the_layout_is_what_it_says():
    layout = block_layout(8, local=2, stride=4, sinks=1)
    expected = [[abs(i - j) < 2 or j % 4 == 3 or j == 0 or i == 0 for j in range(8)] for i in range(8)]
    assert layout.tolist() == expected
    q, k, v = qkv(16)
    with pytest.raises(UserError, match="16 tokens are 4 blocks of 4"):
        block_sparse_attention(q, k, v, True, layout, 4)
    with pytest.raises(UserError, match="block 0 of queries nothing to see"):
        block_sparse_attention(q, k, v, True, torch.ones(4, 4).triu(1) > 0, 4)


def test_features_are_orthogonal_and_estimate_without_bias():
    w = orthogonal_features(16, 8)
    gram = w @ w.T
    assert gram[:8, :8].fill_diagonal_(0).abs().max() < 1e-4
    torch.manual_seed(0)
    q, k = torch.randn(2, 8) * 0.3
    draws = torch.cat([orthogonal_features(8, 8, seed) for seed in range(4000)])
    estimates = torch.exp(draws @ q - q @ q / 2) * torch.exp(draws @ k - k @ k / 2)
    means = estimates.view(4000, 8).mean(1)  # one estimate a draw of orthogonal directions; draws are independent
    error = float(means.std() / math.sqrt(4000))
    assert abs(float(means.mean()) - math.exp(q @ k)) < 4 * error
    assert error < 0.02 * math.exp(q @ k)


@pytest.mark.parametrize("causal", [False, True])
def test_performers_error_falls_with_features(causal):
    q, k, v = qkv(96, scale=0.5)
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    errors = [
        sum(relative(performer_attention(q, k, v, causal, orthogonal_features(f, 8, s)), exact) for s in range(8)) / 8
        for f in (8, 64, 512)
    ]
    # Variance falls as 1 / features: eight times the features, 2.8 times less error once there are many.
    assert errors[0] > 1.8 * errors[1] > 1.8 * 1.8 * errors[2]
    assert errors[2] < 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60), st.sampled_from([1.0, 2.5]))
def test_performers_chunks_are_its_definition(T, chunk, scale):
    q, k, v = qkv(T, scale=scale)
    w = orthogonal_features(16, 8)
    phi = [torch.exp((x.double() * 8**-0.25) @ w.double().T - x.double().square().sum(-1, keepdim=True) / 2 / 8**0.5)
           for x in (q, k)]  # fmt: skip
    weights = (phi[0] @ phi[1].mT).tril()
    expected = (weights / weights.sum(-1, keepdim=True)) @ v.double()
    ours = performer_attention(q, k, v, True, w, chunk)
    torch.testing.assert_close(ours.double(), expected, atol=2e-4, rtol=2e-3)


def test_the_future_changes_nothing():
    q, k, v = qkv(64)
    k2, v2 = k.clone(), v.clone()
    k2[:, :, 40:] *= 20
    v2[:, :, 40:] += 5
    layout = block_layout(8, local=2, stride=4)
    w = orthogonal_features(32, 8)
    for attend in (
        lambda *x: flash_attention(*x, True, 16),
        lambda *x: sliding_window_attention(*x, True, 9),
        lambda *x: block_sparse_attention(*x, True, layout, 8),
        lambda *x: performer_attention(*x, True, w, 8),
    ):
        torch.testing.assert_close(attend(q, k, v)[:, :, :40], attend(q, k2, v2)[:, :, :40])
        assert not torch.allclose(attend(q, k, v)[:, :, 41:], attend(q, k2, v2)[:, :, 41:])


def test_linformer_with_all_rows_is_exact_and_learning_helps():
    q, k, v = qkv(32)
    exact = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(linformer_attention(q, k, v, False, torch.eye(32)), exact)
    keys, values = (random_projection(8, 32, seed).requires_grad_() for seed in (0, 1))
    before = relative(linformer_attention(q, k, v, False, keys, values), exact)
    optimizer = torch.optim.Adam([keys, values], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (linformer_attention(q, k, v, False, keys, values) - exact).square().mean().backward()
        optimizer.step()
    assert relative(linformer_attention(q, k, v, False, keys, values), exact) < 0.8 * before


def test_linformer_refuses_what_it_cannot_do():
    q, k, v = qkv(16)
    with pytest.raises(UserError, match="cannot be causal: each projected key mixes"):
        linformer_attention(q, k, v, True, random_projection(4, 16))
    with pytest.raises(UserError, match=r"shape \(P, 16\)"):
        linformer_attention(q, k, v, False, random_projection(4, 12))
    with pytest.raises(UserError, match="1 to 16"):
        random_projection(17, 16)
