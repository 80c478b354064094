"""A step of AdamW on moments of 8 bits, one pass over memory: a block's moments are unpacked, updated, used and packed while
they are in the nearest cache. The twin in plain torch is `cairn.training.optimizers.adamw8bit.update_blocks`.

Shapes: N blocks, B values of a block.
"""

from math import sqrt

import numpy as np

from cairn.kernels.jit import inlined, kernel

SHIFT = 17  # bits of a float32 that a table of first guesses leaves out


def first_codes(borders: np.ndarray) -> np.ndarray:
    """For the leading bits of a number in 0 .. 1 the smallest code it may have, uint8."""
    last = int(np.float32(1.0).view(np.uint32)) >> SHIFT
    smallest = (np.arange(last + 1, dtype=np.uint32) << SHIFT).view(np.float32)
    return np.searchsorted(borders, smallest, side="left").astype(np.uint8)


@inlined
def _code(share, bits, borders, first):
    """The index of the number nearest to share, in 0 .. 1, whose bits are given."""
    code = first[bits >> SHIFT]
    while code < 255 and share > borders[code]:
        code += 1
    return code


@kernel
def adamw_blocks(
    weight_NB,
    grad_NB,
    m_NB,
    m_scale_N,
    v_NB,
    v_scale_N,
    m_numbers,
    m_borders,
    m_first,
    v_numbers,
    v_borders,
    v_first,
    settings,
    first,
    last,
):
    """Blocks first .. last, in place. settings, float32: beta1, beta2, rate, root, eps, keep (see `update_blocks`)."""
    beta1, beta2, rate, root, eps, keep = settings
    one = np.float32(1.0)
    size = weight_NB.shape[1]
    m, v, share = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    bits = share.view(np.uint32)
    for n in range(first, last):
        m_scale, v_scale = m_scale_N[n], v_scale_N[n]
        for i in range(size):
            grad = grad_NB[n, i]
            m[i] = beta1 * (m_numbers[m_NB[n, i]] * m_scale) + (one - beta1) * grad
            v[i] = beta2 * (v_numbers[v_NB[n, i]] * v_scale) + (one - beta2) * grad * grad
        m_scale = v_scale = np.float32(0.0)
        for i in range(size):
            weight_NB[n, i] = keep * weight_NB[n, i] - rate * m[i] / (sqrt(v[i]) / root + eps)
            m_scale = max(m_scale, abs(m[i]))
            v_scale = max(v_scale, v[i])
        m_scale_N[n], v_scale_N[n] = m_scale, v_scale
        if m_scale > 0:
            for i in range(size):
                share[i] = abs(m[i]) / m_scale
            for i in range(size):
                code = _code(share[i], bits[i], m_borders, m_first)
                # Numbers below 0 mirror those above it, but 1, which has no mirror.
                m_NB[n, i] = code if m[i] >= 0 else max(254 - code, 0)
        if v_scale > 0:
            for i in range(size):
                share[i] = v[i] / v_scale
            for i in range(size):
                code = _code(share[i], bits[i], v_borders, v_first)
                v_NB[n, i] = max(code, 1) if v[i] > 0 else 0
