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
        pages = table_RP[row_N[n]]
        kept = min(sinks, begin)  # positions 0 .. kept stay in sight before the window
        count = kept + end - begin
        scores = np.empty((size, count), dtype=np.float32)
        for c in range(count):
            p = c if c < kept else begin + c - kept
            place = pages[p // page] * page + p % page
            for h in range(size):
                total = np.float32(0)
                for i in range(width):
                    total += q_NHK[n, g * size + h, i] * k_SGK[place, g, i]
                score = total * np.float32(scale)
                if cap > 0:
                    score = np.float32(cap * math.tanh(score / cap))
                if bias_HP.shape[0] > 0:
                    score += bias_HP[g * size + h, p]
                scores[h, c] = score
        for h in range(size):
            highest = scores[h].max()
            total = np.float32(0)
            for c in range(count):
                weight = np.float32(math.exp(scores[h, c] - highest))
                scores[h, c] = weight
                total += weight
            for i in range(values):
                z_NHK[n, g * size + h, i] = 0
            scores[h] /= total
        for c in range(count):
            p = c if c < kept else begin + c - kept
            place = pages[p // page] * page + p % page
            for h in range(size):
                weight = scores[h, c]
                for i in range(values):
                    z_NHK[n, g * size + h, i] += weight * v_SGK[place, g, i]
