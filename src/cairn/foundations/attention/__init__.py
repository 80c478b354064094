"""Attention by hand, in plain NumPy: forward and backward of each step derived and written out, no autograd.

Read in this order: `softmax` (shares, and their Jacobian), `masks` (who sees whom), `scaled_dot_product` (one look-up),
`multi_head` (several side by side), `online` (the same without ever holding all scores), `reverse` (a head that learns),
`heatmap` (seeing it).

>>> import numpy as np
>>> from cairn.foundations.attention import attend, causal_mask
>>> x_TK = np.eye(4) * 3
>>> attend(x_TK, x_TK, x_TK, causal_mask(4, 4))[1].round(2)
array([[1.  , 0.  , 0.  , 0.  ],
       [0.01, 0.99, 0.  , 0.  ],
       [0.01, 0.01, 0.98, 0.  ],
       [0.01, 0.01, 0.01, 0.97]])
"""

from cairn.foundations.attention.heatmap import draw_heads, draw_heatmap
from cairn.foundations.attention.masks import causal_mask, padding_mask
from cairn.foundations.attention.multi_head import MultiHeadAttention, Trace
from cairn.foundations.attention.online import flash_attend, flash_attend_backward
from cairn.foundations.attention.scaled_dot_product import attend, attend_backward
from cairn.foundations.attention.softmax import softmax, softmax_backward, softmax_jacobian

__all__ = [
    "MultiHeadAttention",
    "Trace",
    "attend",
    "attend_backward",
    "causal_mask",
    "draw_heads",
    "draw_heatmap",
    "flash_attend",
    "flash_attend_backward",
    "padding_mask",
    "softmax",
    "softmax_backward",
    "softmax_jacobian",
]
