"""The matrix product, in which networks spend nearly all of their time.

y_ik = sum_j a_ij b_jk. A change of a_ij reaches row i of y with the weights of row j of b, so dL/da = g b^T; in the same way
dL/db = a^T g. Both are matrix products again, which is why training costs three times what using a network does.

>>> from cairn.foundations.tensor import Tensor
>>> a, b = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[3.0], [4.0]], requires_grad=True)
>>> matmul(a, b).backward()
>>> a.grad, b.grad
(array([[3., 4.]]), array([[1.],
       [2.]]))
"""

from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import Variable, apply, plain
from cairn.foundations.tensor.shapes import reshape


def matmul(a: Any, b: Any) -> Any:
    """a @ b as in NumPy: vectors, matrices, and stacks of matrices whose first axes are broadcast.

    (M, K) @ (K, N) gives (M, N). A vector is one row (a) or one column (b), and that axis is left out of the result.
    """
    a, b = (x if isinstance(x, Variable) else np.asarray(x) for x in (a, b))
    a_shape, b_shape = plain(a).shape, plain(b).shape
    if not a_shape or not b_shape:
        raise ValueError("matmul of a single number: use * to multiply with numbers")
    if a_shape[-1] != b_shape[-2 if len(b_shape) > 1 else 0]:
        raise ValueError(
            f"matmul of shapes {a_shape} and {b_shape}: the last axis of the first, {a_shape[-1]}, must be as long as the "
            f"{'last but one' if len(b_shape) > 1 else 'only'} axis of the second, {b_shape[-2 if len(b_shape) > 1 else 0]}"
        )
    if len(a_shape) == 1:
        y = matmul(reshape(a, (1, -1)), b)
        return reshape(y, y.shape[:-2] + y.shape[-1:] if len(b_shape) > 1 else y.shape[:-1])
    if len(b_shape) == 1:
        return reshape(matmul(a, reshape(b, (-1, 1))), a_shape[:-1])
    if len(a_shape) > 2 and len(b_shape) == 2:
        # One large product is faster than many small ones, and b's gradient needs no sum over them.
        return reshape(matmul(reshape(a, (-1, a_shape[-1])), b), (*a_shape[:-1], b_shape[-1]))
    return apply("matmul", (a, b), np.matmul, lambda g, y, a, b: g @ b.mT, lambda g, y, a, b: a.mT @ g)
