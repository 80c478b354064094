"""A step of AdamW on moments of 8 bits, one pass over memory: a block's moments are unpacked, updated, used and packed while
they are in the nearest cache. The twin in plain torch is `cairn.training.optimizers.adamw8bit.update_blocks`.

Shapes: N blocks, B values of a block.
"""

import numpy as np

from cairn.kernels.jit import kernel

SHIFT = 16  # bits of a float32 that the table of first guesses leaves out: no two borders have the others in common
MAGNITUDE = np.uint32(0x7FFFFFFF)  # all bits but the sign: of numbers above 0, larger bits are larger numbers


def first_codes(borders: np.ndarray) -> np.ndarray:
    """For the leading bits of a number in 0 .. 1 the smallest code it may have, uint8; the other is the one after it."""
    last = int(np.float32(1.0).view(np.uint32)) >> SHIFT
    smallest = (np.arange(last + 1, dtype=np.uint32) << SHIFT).view(np.float32)
    return np.searchsorted(borders, smallest, side="left").astype(np.uint8)


# Loops without branches and without a check for division by 0 become vector code; a largest value is sought in bits
# because that of floats would have to mind NaN.
@kernel(error_model="numpy")
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
    """Blocks first .. last, in place. settings, float32: beta1, beta2, rate, root, eps, keep (see `update_blocks`).

    numbers: the 256 of a moment; borders: those between them, and one above all; first: see `first_codes`.
    """
    beta1, beta2, rate, root, eps, keep = settings
    one, zero = np.float32(1.0), np.float32(0.0)
    size = weight_NB.shape[1]
    m, v, share = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    m_bits, v_bits, bits = m.view(np.uint32), v.view(np.uint32), share.view(np.uint32)
    largest = np.empty(2, np.float32)
    largest_bits = largest.view(np.uint32)
    for n in range(first, last):
        m_scale, v_scale = m_scale_N[n], v_scale_N[n]
        for i in range(size):
            m[i] = m_numbers[m_NB[n, i]] * m_scale
            v[i] = v_numbers[v_NB[n, i]] * v_scale
        for i in range(size):
            grad = grad_NB[n, i]
            m[i] = beta1 * m[i] + (one - beta1) * grad
            v[i] = beta2 * v[i] + (one - beta2) * grad * grad
        for i in range(size):
            weight_NB[n, i] = keep * weight_NB[n, i] - rate * m[i] / (np.sqrt(v[i]) / root + eps)
        m_most = v_most = np.uint32(0)
        for i in range(size):
            m_most = max(m_most, m_bits[i] & MAGNITUDE)
            v_most = max(v_most, v_bits[i])
        largest_bits[0], largest_bits[1] = m_most, v_most
        m_scale, v_scale = largest
        m_scale_N[n], v_scale_N[n] = m_scale, v_scale
        # A block of zeros keeps whatever codes it has: its scale is 0.
        if m_scale > zero:
            for i in range(size):
                share[i] = abs(m[i]) / m_scale
            for i in range(size):
                code = m_first[bits[i] >> SHIFT]
                code += np.uint8(share[i] > m_borders[code])
                # Numbers below 0 mirror those above it, but 1, which has no mirror.
                m_NB[n, i] = code if m[i] >= zero else max(254 - code, 0)
        if v_scale > zero:
            for i in range(size):
                share[i] = v[i] / v_scale
            for i in range(size):
                code = v_first[bits[i] >> SHIFT]
                code += np.uint8(share[i] > v_borders[code])
                v_NB[n, i] = max(code, 1) if v[i] > zero else 0
