"""A linear layer whose weights are integers.

What was measured (one thread of an AVX-512 server core, torch 2.13, microseconds for one row / 128 rows):

    weight            float32        float32 unpacked each call    int8 kernel     int4 kernel
    128 x 128         5 / 56         12 / 68  (INT4 86 / 150)      8 / 110         6 / 64
    3072 x 768        168 / 7170     310 / 7550 (INT4 12872)       129 / 8278      131 / 7245
    4096 x 4096       4566 / 54391   34080 / 115748 (INT4 252446)  1043 / 72437    918 / 57386

The kernels are torch's `_weight_int8pack_mm` and `_weight_int4pack_mm_for_cpu` on bfloat16 activations. So:
- small matrices (below `KERNEL_FROM` weights) are unpacked once: they fit the processor's cache either way, a small
  model gets smaller on disk and not faster, and its logits are those of the dequantized weights exactly;
- large matrices stay integers: reading them is what one row costs, and fewer bytes are three to five times faster. The
  activations are rounded to bfloat16 on the way in, which moves an output by up to about 0.4 % of its size;
- many rows against a large INT8 matrix: the kernel loses to unpacking into bfloat16 each call (42102 at 4096 x 4096);
- on a GPU, where torch's kernels want another layout, integers stay in memory and are unpacked each call.

Shapes: O outputs, I inputs, G groups of inputs with a scale each, R rows.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cairn.quantization.formats import dequantize, pack, unpack

KERNEL_FROM = 1 << 20  # weights of a matrix
KERNEL_ROWS = 16  # more rows than this: an INT8 matrix is unpacked
KERNEL_GROUPS = (32, 64, 128, 256)  # sizes of a group that torch's INT4 kernel takes


class QuantizedLinear(nn.Module):
    """y = x @ (values * scale).T + bias, for values (O, I) int8 of 8 or 4 bits and scales (O, G). `dtype` is that of x.

    Answers in the type of its input. `route` says how it computes: float, int8, int4 (kernels) or unpack; it fits the
    device that the values are on, so load a model onto its device instead of moving it there. The state dict shows one
    plain `weight`: `cairn.save` of a quantized model writes the dequantized one. Not for training.
    """

    ready: torch.Tensor
    scale_OG: torch.Tensor
    scale_zero_GO2: torch.Tensor

    def __init__(
        self,
        values_OI: torch.Tensor,
        scale_OG: torch.Tensor,
        bits: int,
        bias_O: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.out_features, self.in_features = values_OI.shape
        self.bits, self.group = bits, self.in_features // scale_OG.shape[1]
        self.route = self._choose_route(values_OI.device)
        self.register_buffer("scale_OG", scale_OG, persistent=False)
        if self.route == "float":
            ready = dequantize(values_OI, scale_OG, dtype)
        elif self.route == "int8":
            ready = values_OI.contiguous()
        elif self.route == "int4":
            ready = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values_OI.int() + 8, 1)
            self.register_buffer("scale_zero_GO2", _with_zero(scale_OG), persistent=False)
        else:
            ready = pack(values_OI, bits)
        self.register_buffer("ready", ready, persistent=False)  # what the route multiplies by
        self.bias = None if bias_O is None else nn.Parameter(bias_O, requires_grad=False)

    def _choose_route(self, device: torch.device) -> str:
        if device.type != "cpu":
            return "unpack"
        if self.out_features * self.in_features >= KERNEL_FROM:
            if self.bits == 8 and self.group == self.in_features:
                return "int8"
            if self.bits == 4 and self.group in KERNEL_GROUPS and self.out_features % 16 == 0:
                return "int4"
        return "float"

    @property
    def weight(self) -> torch.Tensor:
        """The float weights (O, I) that the integers stand for."""
        if self.route == "float":
            return self.ready
        if self.route == "int8":
            return dequantize(self.ready, self.scale_OG)
        if self.route == "int4":
            # The layout is the kernel's own: ask the kernel for it, times the identity with scales of one. Integers
            # from -8 to 7 are exact in bfloat16.
            identity_II = torch.eye(self.in_features, dtype=torch.bfloat16)
            values_IO = self._kernel4(identity_II, _with_zero(torch.ones_like(self.scale_OG)))
            return dequantize(values_IO.T.to(torch.int8), self.scale_OG)
        return dequantize(unpack(self.ready, self.bits, self.in_features), self.scale_OG)

    def _kernel4(self, x_RI: torch.Tensor, scale_zero_GO2: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x_RI, self.ready, self.group, scale_zero_GO2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) to (..., O)."""
        if self.route == "float":
            return F.linear(x, self.ready, self.bias)
        if self.route == "unpack":
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        x_RI = x.reshape(-1, self.in_features).bfloat16()
        if self.route == "int4":
            y_RO = self._kernel4(x_RI, self.scale_zero_GO2.bfloat16())
        elif len(x_RI) <= KERNEL_ROWS:
            y_RO = torch.ops.aten._weight_int8pack_mm(x_RI, self.ready, self.scale_OG.flatten().bfloat16())
        else:
            y_RO = F.linear(x_RI, self.ready.bfloat16()) * self.scale_OG.flatten().bfloat16()
        y = y_RO.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group={self.group}, route={self.route}"


def _with_zero(scale_OG: torch.Tensor) -> torch.Tensor:
    """The INT4 kernel's scales: (G, O, 2) bfloat16 of scale and zero point; it takes the offset of 8 off by itself."""
    return torch.stack([scale_OG.T, torch.zeros_like(scale_OG.T)], dim=-1).bfloat16().contiguous()
