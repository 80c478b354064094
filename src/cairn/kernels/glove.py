"""GloVe's two loops: pairs of words within a window, and one pass of AdaGrad over the pairs that were seen.

Twins: `plain_counts` in `cairn.embeddings.cooccurrence`, `plain_epoch` in `cairn.embeddings.glove`.
"""

import math
from typing import Any

from cairn.kernels.jit import kernel

# Not all of fastmath: NaN and infinity stay what they are. A division that could raise an error cannot be done for eight
# numbers at once: without that, a step took ten times as long.
relaxed: Any = kernel(fastmath={"reassoc", "contract", "arcp", "nsz", "afn"}, error_model="numpy")


@kernel
def count_pairs(ids, at, rows, window, history, seen, ends, offsets, dense, keys, values):
    """Add 1 / distance for every two words at most `window` apart, each pair once, as (smaller row, larger row).

    ids: int32 numbers of words, negative after a sentence; rows[id]: row of a word, negative for words that are left out
    before distances are taken. history, seen: the last `window` rows of the sentence and how many there were, of an
    earlier call. A pair (low, high) is added to dense[offsets[low] + high] where high < ends[low], and otherwise written
    to keys (low * len(ends) + high) and values. Returns (where to go on, words of the sentence, entries written); less
    than len(ids) means that keys is full.
    """
    used = 0
    for t in range(at, len(ids)):
        if ids[t] < 0:
            seen = 0
            continue
        row = rows[ids[t]]
        if row < 0:
            continue
        if used + window > len(keys):
            return t, seen, used
        for distance in range(1, min(window, seen) + 1):
            other = history[(seen - distance) % window]
            low, high = min(row, other), max(row, other)
            if high < ends[low]:
                dense[offsets[low] + high] += 1.0 / distance
            else:
                keys[used] = low * len(ends) + high
                values[used] = 1.0 / distance
                used += 1
        history[seen % window] = row
        seen += 1
    return len(ids), seen, used


@relaxed
def train_pairs(i_N, j_N, target_N, weight_N, rate, w_VD, c_VD, w_bias_V, c_bias_V, sums):
    """One step of AdaGrad for each of N pairs, in order. Changes the parameters and `sums`; returns the summed loss.

    The loss of a pair is weight / 2 (w_i . c_j + bias_i + bias_j - target)^2. sums: the sums of squares that belong to
    (w_VD, c_VD, w_bias_V, c_bias_V), of gradients times `rate`.
    """
    w_sums_VD, c_sums_VD, w_bias_sums_V, c_bias_sums_V = sums
    total = 0.0
    for n in range(len(i_N)):
        i, j = i_N[n], j_N[n]
        w_D, c_D, w_sums_D, c_sums_D = w_VD[i], c_VD[j], w_sums_VD[i], c_sums_VD[j]
        dot = w_D[0] * c_D[0]
        for d in range(1, len(w_D)):
            dot += w_D[d] * c_D[d]
        error = dot + w_bias_V[i] + c_bias_V[j] - target_N[n]
        slope = rate * weight_N[n] * error
        total += 0.5 * weight_N[n] * error * error
        for d in range(len(w_D)):
            w_step, c_step = slope * c_D[d], slope * w_D[d]
            w_sums_D[d] += w_step * w_step
            c_sums_D[d] += c_step * c_step
            w_D[d] -= w_step / math.sqrt(w_sums_D[d])
            c_D[d] -= c_step / math.sqrt(c_sums_D[d])
        w_bias_sums_V[i] += slope * slope
        c_bias_sums_V[j] += slope * slope
        w_bias_V[i] -= slope / math.sqrt(w_bias_sums_V[i])
        c_bias_V[j] -= slope / math.sqrt(c_bias_sums_V[j])
    return total
