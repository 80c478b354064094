"""What decoding computes on one row, and how it reads weights where they lie.

A model has hundreds of weights; passing each as an array costs more than a small model's arithmetic, so a kernel takes
their addresses. Whoever gives an address vouches that float32 values in C order lie there until the call returns.
"""

import functools
import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from cairn.kernels.jit import inlined

# A part of a kernel, compiled with it and never called from Python.
_INNER: dict[str, Any] = {"nogil": True, "fastmath": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
helper: Any = functools.partial(njit, **_INNER)

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
SILU, GELU, GELU_TANH, RELU = range(4)
ONE, HALF, MOST = np.float32(1), np.float32(0.5), np.float32(80)  # e^80 is a float32 still


# --- weights where they lie


def _to_pointer(typing, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


pointer: Any = intrinsic(_to_pointer)  # an integer as a pointer to float32


@inlined
def vector_at(address, size):
    """The float32 vector at an address; empty at 0, which says that a module is not there."""
    return carray(pointer(address), (size if address != 0 else 0,))


@inlined
def matrix_at(address, rows, columns):
    return carray(pointer(address), (rows, columns))


@inlined
def tensor_at(address, first, second, third):
    return carray(pointer(address), (first, second, third))


# --- rows. Written as loops: numba takes a second to compile every array expression.


@helper
def rms_norm_row(x_D, weight_D, eps, offset, out_D):
    """Twin: models/norms.py, RMSNorm."""
    squares = np.float32(0)
    for d in range(x_D.shape[0]):
        squares += x_D[d] * x_D[d]
    scale = np.float32(1 / math.sqrt(squares / x_D.shape[0] + eps))
    for d in range(x_D.shape[0]):
        out_D[d] = x_D[d] * scale * (weight_D[d] + np.float32(offset))


@helper
def layer_norm_row(x_D, weight_D, bias_D, eps, out_D):
    """Twin: torch.nn.LayerNorm. bias_D is empty where there is none."""
    total = np.float32(0)
    for d in range(x_D.shape[0]):
        total += x_D[d]
    mean = np.float32(total / x_D.shape[0])
    squares = np.float32(0)
    for d in range(x_D.shape[0]):
        squares += (x_D[d] - mean) * (x_D[d] - mean)
    scale = np.float32(1 / math.sqrt(squares / x_D.shape[0] + eps))
    for d in range(x_D.shape[0]):
        out_D[d] = (x_D[d] - mean) * scale * weight_D[d]
    for d in range(bias_D.shape[0]):
        out_D[d] += bias_D[d]


@inlined
def activate(kind, x):
    """Twin: models/feedforward.py, ACTIVATIONS. (1 + tanh(u)) / 2 is 1 / (1 + exp(-2u))."""
    if kind == RELU:
        return max(x, np.float32(0))
    if kind == GELU:
        return HALF * x * (ONE + math.erf(x * np.float32(0.7071067811865476)))
    slope = x
    if kind == GELU_TANH:
        slope = np.float32(1.5957691216057308) * (x + np.float32(0.044715) * x * x * x)
    return x / (ONE + math.exp(min(-slope, MOST)))
