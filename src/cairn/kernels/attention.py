"""Attention of single tokens over a paged cache."""

import math

import numpy as np

from cairn.kernels.jit import inlined, kernel

LOWEST = np.float32(-87)  # e to this is the smallest normal number
TURNED = np.float32(1.44269504)  # 1 / ln 2
LN2, LN2_REST = np.float32(0.693359375), np.float32(2.12194440e-4)  # ln 2 = LN2 - LN2_REST; LN2 has few bits


@inlined
def exponentials(x, bits, powers, count):
    """x[:count] = e ** x for x <= 0, to 1e-6; returns their sum.

    2 ** k * e ** r with |r| <= ln 2 / 2, a polynomial for e ** r (Cephes' expf) and 2 ** k by its bits: a loop without calls,
    which a compiler turns into one over eight numbers at a time. powers is `bits` read as float32.
    """
    for c in range(count):
        low = max(x[c], LOWEST)
        k = np.floor(low * TURNED + np.float32(0.5))
        r = low - k * LN2 + k * LN2_REST
        y = np.float32(1.9875691500e-4)
        y = y * r + np.float32(1.3981999507e-3)
        y = y * r + np.float32(8.3334519073e-3)
        y = y * r + np.float32(4.1665795894e-2)
        y = y * r + np.float32(1.6666665459e-1)
        y = y * r + np.float32(5.0000001201e-1)
        x[c] = y * r * r + r + np.float32(1)
        bits[c] = (np.int32(k) + np.int32(127)) << np.int32(23)
    total = np.float32(0)
    for c in range(count):
        x[c] *= powers[c]
        total += x[c]
    return total


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
        bits = np.empty(count, dtype=np.int32)
        powers = bits.view(np.float32)
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
            for c in range(count):
                scores[c] -= highest
            total = exponentials(scores, bits, powers, count)
            z = z_NHK[n, head]
            for i in range(values):
                z[i] = 0
            fours = count - count % 4  # four positions at a time: z is read and written a quarter as often
            for c in range(0, fours, 4):
                wa, wb, wc, wd = scores[c] / total, scores[c + 1] / total, scores[c + 2] / total, scores[c + 3] / total
                va, vb = v_SGK[places[c], g], v_SGK[places[c + 1], g]
                vc, vd = v_SGK[places[c + 2], g], v_SGK[places[c + 3], g]
                for i in range(values):
                    z[i] += wa * va[i] + wb * vb[i] + wc * vc[i] + wd * vd[i]
            for c in range(fours, count):
                weight = scores[c] / total
                v = v_SGK[places[c], g]
                for i in range(values):
                    z[i] += weight * v[i]
