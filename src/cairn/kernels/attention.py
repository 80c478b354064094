"""Attention of single tokens over a paged cache."""

import math

import numpy as np

from cairn.kernels.jit import kernel


@kernel(fastmath=True)
def attend_pages(
    q_NHK, k_SGK, v_SGK, row_N, position_N, table_RP, page, scale, window, sinks, cap, bias_HP, z_NHK, first, last
):
    """softmax(scale q k + bias) v of token n over positions 0 .. position_N[n] of its sequence, whose pages are row
    row_N[n] of the table. Work items first .. last of N * G: one is a token and a key/value head with its query heads.

    A token's result does not depend on the others. bias_HP is empty where there is none. Twin: models/cache.py, the
    gathered form of `_attend_short`.
    """
    heads, width, values = q_NHK.shape[1], q_NHK.shape[2], v_SGK.shape[2]
    groups = k_SGK.shape[1]
    size = heads // groups
    for item in range(first, last):
        n, g = item // groups, item % groups
        end = position_N[n] + 1
        begin = max(0, end - window) if window > 0 else 0
        kept = min(sinks, begin)  # positions 0 .. kept stay in sight before the window
        count = kept + end - begin
        places = np.empty(count, dtype=np.int64)
        scores = np.empty(count, dtype=np.float32)
        for c in range(count):
            p = c if c < kept else begin + c - kept
            places[c] = table_RP[row_N[n], p // page] * page + p % page
        for head in range(g * size, (g + 1) * size):
            q = q_NHK[n, head]
            for c in range(count):
                k = k_SGK[places[c], g]
                total = np.float32(0)
                for i in range(width):
                    total += q[i] * k[i]
                scores[c] = total * np.float32(scale)
            if cap > 0:
                for c in range(count):
                    scores[c] = np.float32(cap * math.tanh(scores[c] / cap))
            if bias_HP.shape[0] > 0:
                for c in range(count):
                    scores[c] += bias_HP[head, c if c < kept else begin + c - kept]
            highest = scores[0]
            for c in range(count):
                highest = max(highest, scores[c])
            total = np.float32(0)
            for c in range(count):
                scores[c] = np.float32(math.exp(scores[c] - highest))
                total += scores[c]
            z = z_NHK[n, head]
            for i in range(values):
                z[i] = 0
            for c in range(count):
                weight = scores[c] / total
                v = v_SGK[places[c], g]
                for i in range(values):
                    z[i] += weight * v[i]
