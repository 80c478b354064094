"""A linear layer that is fast for a few rows, which is what generating one token at a time asks for, and in training on CPUs
for which torch's matrix products are not the fastest."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

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
        if not _plain(input, weight):
            return F.linear(input, weight, self.bias)
        few = input.numel() <= FEW_ROWS * weight.shape[1]
        if torch.is_grad_enabled():
            if few or not onednn_is_faster():
                return F.linear(input, weight, self.bias)
            return _OneDnnLinear.apply(input, weight, self.bias)  # type: ignore[return-value]
        return few_rows_linear(input, weight, self.bias) if few else F.linear(input, weight, self.bias)


def _plain(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether what follows is for these: float32 on a CPU."""
    return (
        weight.dtype == torch.float32
        and x.dtype == torch.float32
        and weight.device.type == "cpu"
        and type(x) is torch.Tensor  # not one that only traces shapes
        and type(weight) in (torch.Tensor, nn.Parameter)  # nor one divided over processes
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch._C._functorch.maybe_current_level() is None  # pyright: ignore[reportAttributeAccessIssue] (torch.func)
    )


@functools.cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 faster than the library torch takes, Intel's MKL: on CPUs of other makers.

    Measured on an AMD EPYC with AVX-512, one thread: 76 to 102 against 43 to 84 GFLOP/s for x @ W.T over ten shapes of
    training, 77 to 102 against 50 to 90 for dy @ W; but 48 to 91 against 72 to 94 for dy.T @ x, which stays with MKL.
    """
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()[:1000]
    except OSError:
        return False
    return amd and torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(x_MI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> torch.Tensor:
    """x @ weight.T + bias by oneDNN, float32 on the CPU, without gradients: (M, O)."""
    return torch.ops.mkldnn._linear_pointwise(x_MI, weight_OI, bias_O, "none", [], "")


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> torch.Tensor:
        x_MI = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(x_MI, weight_OI)
        ctx.shape = x.shape
        return onednn_linear(x_MI, weight_OI, bias_O).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor):  # type: ignore[override]
        x_MI, weight_OI = ctx.saved_tensors
        dy_MO = dy.reshape(-1, dy.shape[-1])
        want_x, want_weight, want_bias = ctx.needs_input_grad
        return (
            onednn_linear(dy_MO, weight_OI.t()).view(ctx.shape) if want_x else None,
            dy_MO.t() @ x_MI if want_weight else None,
            dy_MO.sum(0) if want_bias else None,
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
