"""Attention that does not cost T x T: each a function (q_BHTK, k_BHTK, v_BHTK, causal, ...) -> z_BHTK.

flash              the exact result, tile by tile, without the T x T matrix
sparse             only some pairs: blocks by a layout, or a sliding window
performer          all pairs, approximately: softmax as a product of random features
linformer          all pairs, approximately: keys and values projected to fewer rows
"""

from cairn.models.efficient.flash import flash_attention
from cairn.models.efficient.linformer import linformer_attention, random_projection
from cairn.models.efficient.performer import orthogonal_features, performer_attention
from cairn.models.efficient.sparse import block_layout, block_sparse_attention, sliding_window_attention

__all__ = [
    "block_layout",
    "block_sparse_attention",
    "flash_attention",
    "linformer_attention",
    "orthogonal_features",
    "performer_attention",
    "random_projection",
    "sliding_window_attention",
]
