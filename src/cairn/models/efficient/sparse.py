"""Attention between some pairs only, equal to exact attention under the same mask.

block_sparse     a layout says which blocks of queries see which blocks of keys: local, strided and global blocks
                 (Child et al. 2019; Beltagy et al. 2020; Zaheer et al. 2020); other blocks are never computed
sliding_window   each token sees the last `window` tokens; over layers, reach grows by a window a layer

Shapes: B batch, H heads, T tokens, K size of a head, N blocks, W window.
"""

import torch
import torch.nn.functional as F

from cairn.core.errors import UserError


def block_layout(blocks: int, *, local: int = 2, stride: int = 0, sinks: int = 1) -> torch.Tensor:
    """(N, N), true where a block of queries sees a block of keys: fewer than `local` blocks away, every `stride`-th block
    (0: none), and the first `sinks` blocks, which all see and which see all."""
    if blocks < 1 or local < 1 or stride < 0 or sinks < 0:
        raise UserError(
            f"a layout needs blocks and local >= 1, stride and sinks >= 0; got {blocks, local, stride, sinks}"
        )
    at = torch.arange(blocks)
    layout = (at[:, None] - at).abs() < local
    layout[:, :sinks] = layout[:sinks] = True
    if stride:
        layout[:, stride - 1 :: stride] = True
    return layout


def block_sparse_attention(
    q_BHTK: torch.Tensor, k_BHTK: torch.Tensor, v_BHTK: torch.Tensor, causal: bool, layout_NN: torch.Tensor, block: int
) -> torch.Tensor:
    """Block i of queries sees the blocks j of keys with layout[i, j]; with `causal`, none after its own token.

    N must be the number of blocks of T tokens, the last of which may be shorter. Every query must see something.
    """
    T = q_BHTK.shape[2]
    N = -(-T // block)
    if layout_NN.shape != (N, N):
        raise UserError(f"{T} tokens are {N} blocks of {block}; the layout is {tuple(layout_NN.shape)}")
    allowed_NN = layout_NN.tril() if causal else layout_NN
    # With causal the first query of a block sees earlier blocks and itself: an own block or an earlier one is enough.
    if not allowed_NN.any(1).all():
        raise UserError(f"the layout leaves block {int((~allowed_NN.any(1)).nonzero()[0])} of queries nothing to see")
    offsets = torch.arange(block, device=q_BHTK.device)
    out = []
    for row in range(N):
        queries = torch.arange(row * block, min((row + 1) * block, T), device=q_BHTK.device)
        columns = allowed_NN[row].nonzero().to(q_BHTK.device) * block
        keys = (columns + offsets).flatten()
        keys = keys[keys < T]
        mask = keys <= queries[:, None] if causal else None
        z = F.scaled_dot_product_attention(
            q_BHTK[:, :, queries[0] : queries[-1] + 1], k_BHTK[:, :, keys], v_BHTK[:, :, keys], attn_mask=mask
        )
        out.append(z)
    return torch.cat(out, dim=2)


def sliding_window_attention(
    q_BHTK: torch.Tensor, k_BHTK: torch.Tensor, v_BHTK: torch.Tensor, causal: bool, window: int
) -> torch.Tensor:
    """Query i sees keys j with 0 <= i - j < window when causal, else |i - j| < window. Memory T x window.

    Blocks are as long as the window, so that a block needs itself and its neighbours only; all blocks are one batch.
    """
    if window < 1:
        raise UserError(f"window must be at least 1, got {window}")
    B, H, T, K = q_BHTK.shape
    W = min(window, T)
    N = -(-T // W)
    tail = N * W - T
    after = 0 if causal else W

    def near(x_BHTK: torch.Tensor) -> torch.Tensor:
        """For each block the keys of its neighbourhood (B H, N, 2 W or 3 W, K)."""
        padded = F.pad(x_BHTK, (0, 0, W, tail + after))
        return padded.unfold(2, 2 * W + after, W).movedim(-1, -2).reshape(B * H, N, 2 * W + after, K)

    q = F.pad(q_BHTK, (0, 0, 0, tail)).reshape(B * H, N, W, K)
    i = torch.arange(W, device=q.device)[:, None]
    j = torch.arange(2 * W + after, device=q.device) - W  # relative to the block's first query
    allowed = ((i - j >= 0) if causal else (i - j > -window)) & (i - j < window)
    start = torch.arange(N, device=q.device)[:, None, None] * W
    # Padding is no key; queries of the padded tail see themselves, so that no row of the softmax is empty.
    allowed = allowed & (start + j >= 0) & ((start + j < T) | (i == j))
    # A mask of four dimensions takes torch's fast kernel; of three, one twice as slow.
    z = F.scaled_dot_product_attention(q, near(k_BHTK), near(v_BHTK), attn_mask=allowed[None])
    return z.reshape(B, H, N * W, K)[:, :, :T]
