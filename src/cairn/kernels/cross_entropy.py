"""Softmax cross-entropy and its gradient, in place on a chunk of logits."""

import numpy as np

from cairn.kernels.attention import exponentials
from cairn.kernels.jit import kernel


# Not all of fastmath: without nnan and ninf, a logit that is not finite is seen below.
@kernel(fastmath={"reassoc", "contract", "arcp", "nsz", "afn"})
def softmax_gradient(logits_CV, target_C, smoothing, loss_C, first, last):
    """Turns rows first .. last of logits into d loss / d logits = softmax - target, and writes each row's loss.

    A negative target carries no loss. Twin: training/losses.py, the form in torch.
    """
    V = logits_CV.shape[1]
    rest = np.float32(smoothing / V)
    bits = np.empty(V, dtype=np.int32)
    powers = bits.view(np.float32)
    for c in range(first, last):
        row = logits_CV[c]
        target = target_C[c]
        if target < 0:
            row[:] = 0
            loss_C[c] = 0
            continue
        highest = row[0]
        for v in range(1, V):
            highest = max(highest, row[v])
        total = np.float64(0)
        if smoothing > 0:
            for v in range(V):
                total += row[v]
        at_target = row[target]
        for v in range(V):
            row[v] -= highest
        power = exponentials(row, bits, powers, V)
        if not (power >= np.float32(0.5)):  # the largest term is 1: a logit was not finite, and so is the loss
            row[:] = np.nan
            loss_C[c] = np.nan
            continue
        log_sum = highest + np.log(np.float64(power))
        loss_C[c] = log_sum - (1 - smoothing) * at_target
        if smoothing > 0:
            loss_C[c] -= rest * total
        scale = np.float32(1) / power
        for v in range(V):
            row[v] = row[v] * scale - rest
        row[target] -= np.float32(1 - smoothing)
