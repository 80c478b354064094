"""Matrix products of a few rows, bound by how fast the weights are read."""

import numpy as np

from cairn.kernels.jit import kernel


@kernel(fastmath=True)
def multiply_rows(x_MI, weight_OI, out_MO, first, last):
    """out[:, first:last] = x @ weight[first:last].T.

    A weight row is read from memory once and stays in the cache for all rows of x. Every sum runs over the inputs alone,
    in the same order whatever M is.
    """
    for o in range(first, last):
        for m in range(x_MI.shape[0]):
            total = np.float32(0)
            for i in range(x_MI.shape[1]):
                total += weight_OI[o, i] * x_MI[m, i]
            out_MO[m, o] = total
