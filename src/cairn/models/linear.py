"""A linear layer that is fast for a few rows, which is what generating one token at a time asks for."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FEW_ROWS = 16  # above it torch's matrix product is at least as fast (measured on AVX2)
THREADED = 1 << 19  # weights from which a second thread repays its start of about 30 microseconds


class Linear(nn.Linear):
    """torch.nn.Linear; without gradients, on a CPU and in float32, up to FEW_ROWS rows go through a kernel of ours.

    torch reads a weight matrix at 11 GB/s for one row and computes two rows more slowly than one after the other; the
    kernel reads at what the memory gives. It also computes a row the same way whatever rows stand beside it, so that an
    answer does not depend on the batch it was made in.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if torch.is_grad_enabled() or weight.dtype != torch.float32 or not _few(input, weight):
            return F.linear(input, weight, self.bias)
        return few_rows_linear(input, weight, self.bias)


def _few(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.numel() <= FEW_ROWS * weight.shape[1]
        and type(x) is torch.Tensor  # not one that only traces shapes
        and x.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def few_rows_linear(x: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> torch.Tensor:
    """x (..., I) @ weight.T + bias for a few rows, float32 on the CPU, without gradients: (..., O)."""
    from cairn.kernels.linear import multiply_rows
    from cairn.kernels.threads import in_parts

    rows, width = weight_OI.shape
    x_MI = x.reshape(-1, width).contiguous()
    out_MO = torch.empty((x_MI.shape[0], rows))
    bias = _NO_BIAS if bias_O is None else bias_O.detach().numpy()
    arrays = x_MI.numpy(), weight_OI.detach().numpy(), bias, out_MO.numpy()
    threads = torch.get_num_threads() if weight_OI.numel() >= THREADED else 1
    if threads == 1:
        multiply_rows(*arrays, 0, rows)
    else:
        in_parts(lambda first, last: multiply_rows(*arrays, first, last), rows, threads)
    return out_MO.view(*x.shape[:-1], rows)


_NO_BIAS = np.zeros(0, dtype=np.float32)
