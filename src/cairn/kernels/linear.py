"""Matrix products of a few rows, bound by how fast the weights are read."""

import numpy as np

from cairn.kernels.jit import kernel

BLOCK = 4  # outputs computed together
IN_CACHE = 1 << 19  # weights of a matrix that the processor's cache may hold from one step to the next


@kernel(fastmath=True)
def multiply_rows(x_MI, weight_OI, bias_O, out_MO, first, last):
    """out[:, first:last] = x @ weight[first:last].T + bias[first:last]; bias_O is empty where there is none.

    A weight row is read from memory once and stays in the cache for all rows of x. Every sum runs over the inputs alone,
    in the same order whatever M is (and, with `first` a multiple of BLOCK, whatever part is asked for). Twin:
    torch.nn.functional.linear.
    """
    rows, width = x_MI.shape
    # Outputs side by side read x once for all of them: 1.4 times the products of many rows. From memory, where the
    # weights alone count, one row after the other is read faster.
    blocks = first
    if weight_OI.size < IN_CACHE:
        blocks = last - (last - first) % BLOCK
    for o in range(first, blocks, BLOCK):
        for m in range(rows):
            a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(width):
                x = x_MI[m, i]
                a += weight_OI[o, i] * x
                b += weight_OI[o + 1, i] * x
                c += weight_OI[o + 2, i] * x
                d += weight_OI[o + 3, i] * x
            out_MO[m, o], out_MO[m, o + 1], out_MO[m, o + 2], out_MO[m, o + 3] = a, b, c, d
    for o in range(blocks, last):
        for m in range(rows):
            total = np.float32(0)
            for i in range(width):
                total += weight_OI[o, i] * x_MI[m, i]
            out_MO[m, o] = total
    if bias_O.shape[0] > 0:
        for m in range(rows):
            for o in range(first, last):
                out_MO[m, o] += bias_O[o]
