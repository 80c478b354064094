"""Reverse-mode differentiation of NumPy arrays: a tensor library that can be read in an evening.

>>> from cairn.foundations.tensor import Tensor, softmax
>>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> softmax(x)[2].backward()
>>> x.grad.round(4)
array([-0.0599, -0.1628,  0.2227])
"""

from cairn.foundations.tensor.activations import gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from cairn.foundations.tensor.arithmetic import abs, add, clip, div, maximum, minimum, mul, neg, pow, sub, where
from cairn.foundations.tensor.attention import attention_weights, scaled_dot_product_attention
from cairn.foundations.tensor.convolution import conv2d
from cairn.foundations.tensor.derivatives import gradcheck, gradgradcheck, hessian, jacobian
from cairn.foundations.tensor.dropout import dropout
from cairn.foundations.tensor.einsum import einsum
from cairn.foundations.tensor.elementary import cos, exp, log, sin, sqrt
from cairn.foundations.tensor.error_function import erf, normal_cdf
from cairn.foundations.tensor.graph import no_grad
from cairn.foundations.tensor.indexing import embedding, getitem, take
from cairn.foundations.tensor.normalization import batch_norm, layer_norm, rms_norm
from cairn.foundations.tensor.pooling import avg_pool2d, max_pool2d
from cairn.foundations.tensor.products import matmul
from cairn.foundations.tensor.reductions import cumsum, max, mean, min, sum, var
from cairn.foundations.tensor.shapes import concatenate, expand, pad, reshape, stack, swapaxes, transpose
from cairn.foundations.tensor.softmaxes import log_softmax, logsumexp, softmax
from cairn.foundations.tensor.tensor import Tensor, grad

__all__ = [
    "Tensor",
    "abs",
    "add",
    "attention_weights",
    "avg_pool2d",
    "batch_norm",
    "clip",
    "concatenate",
    "conv2d",
    "cos",
    "cumsum",
    "div",
    "dropout",
    "einsum",
    "embedding",
    "erf",
    "exp",
    "expand",
    "gelu",
    "getitem",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "hessian",
    "jacobian",
    "layer_norm",
    "leaky_relu",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mul",
    "neg",
    "no_grad",
    "normal_cdf",
    "pad",
    "pow",
    "relu",
    "reshape",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "stack",
    "sub",
    "sum",
    "swapaxes",
    "take",
    "tanh",
    "transpose",
    "var",
    "where",
]
