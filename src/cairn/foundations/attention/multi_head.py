"""Multi-head attention: several small attentions side by side, each with its own view of the tokens.

One attention gives each token one mixture. With H heads the width D is cut into H pieces of K = D / H, and each piece looks
on its own: one head may look at the token before, another at the start of the word. It costs as much as one wide head.

    Q = X Wq^T + bq,  K = M Wk^T + bk,  V = M Wv^T + bv       cut into heads
    Z = attend(Q, K, V) in each head                          joined again
    Y = Z Wo^T + bo                                           mixes what the heads found

Queries come from X. Keys and values come from the memory M: X itself (self-attention), or another text that X reads (cross-
attention: a translation looks at its source).

**Backward** is the same way back. For Y = X W^T + b with G = dL/dY: dW = G^T X and db = sum of G, over all batches and tokens;
dX = G W. Cutting into heads moves numbers and changes none, so its backward is joining, and the other way round. In
self-attention X is used three times: its three gradients add up.

Shapes: B batch, T tokens, S tokens of the memory, H heads, K size of a head, D width = H K.

>>> from cairn.foundations.attention.masks import causal_mask
>>> rng = np.random.default_rng(0)
>>> layer = MultiHeadAttention.random(width=8, heads=2, rng=rng)
>>> x_BTD = rng.normal(size=(1, 5, 8))
>>> y_BTD, trace = layer.forward(x_BTD, mask=causal_mask(5, 5))
>>> y_BTD.shape, trace.weights_BHTS.shape
((1, 5, 8), (1, 2, 5, 5))
>>> grads, grad_x_BTD, _ = layer.backward(np.ones_like(y_BTD), trace)
>>> sorted(grads)
['bk', 'bo', 'bq', 'bv', 'wk', 'wo', 'wq', 'wv']
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cairn.foundations.attention.scaled_dot_product import attend, attend_backward


class Trace(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    x_BTD: np.ndarray
    memory_BSD: np.ndarray
    q_BHTK: np.ndarray
    k_BHSK: np.ndarray
    v_BHSK: np.ndarray
    weights_BHTS: np.ndarray
    z_BTD: np.ndarray


@dataclass
class MultiHeadAttention:
    """Weights w (D, D) as torch keeps them, rows are outputs; biases b (D)."""

    heads: int
    weights: dict[str, np.ndarray]  # wq wk wv wo, bq bk bv bo

    @classmethod
    def random(cls, width: int, heads: int, rng: np.random.Generator) -> "MultiHeadAttention":
        """Weights of variance 1 / width, so that projections are as large as their inputs; biases 0."""
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads cannot share a width of {width}: choose a divisor of it")
        weights = {f"w{part}": rng.normal(0, width**-0.5, (width, width)) for part in "qkvo"}
        return cls(heads, weights | {f"b{part}": np.zeros(width) for part in "qkvo"})

    def split(self, x_BTD: np.ndarray) -> np.ndarray:
        """(B, T, D) -> (B, H, T, K)"""
        B, T, D = x_BTD.shape
        return x_BTD.reshape(B, T, self.heads, D // self.heads).transpose(0, 2, 1, 3)

    def join(self, x_BHTK: np.ndarray) -> np.ndarray:
        """(B, H, T, K) -> (B, T, D)"""
        B, H, T, K = x_BHTK.shape
        return x_BHTK.transpose(0, 2, 1, 3).reshape(B, T, H * K)

    def forward(
        self, x_BTD: np.ndarray, memory_BSD: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, Trace]:
        """Output (B, T, D), and the trace that `backward` takes. mask: as `attend` takes it, for (B, H, T, S)."""
        w = self.weights
        memory_BSD = x_BTD if memory_BSD is None else memory_BSD
        q_BHTK = self.split(x_BTD @ w["wq"].T + w["bq"])
        k_BHSK = self.split(memory_BSD @ w["wk"].T + w["bk"])
        v_BHSK = self.split(memory_BSD @ w["wv"].T + w["bv"])
        z_BHTK, weights_BHTS = attend(q_BHTK, k_BHSK, v_BHSK, mask)
        z_BTD = self.join(z_BHTK)
        y_BTD = z_BTD @ w["wo"].T + w["bo"]
        return y_BTD, Trace(x_BTD, memory_BSD, q_BHTK, k_BHSK, v_BHSK, weights_BHTS, z_BTD)

    def backward(self, grad_BTD: np.ndarray, trace: Trace) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Gradients of the weights, of x and of the memory. In self-attention the gradient of x is the sum of the last two."""
        w, grads = self.weights, {}
        grad_z_BTD = self._linear_backward("o", grad_BTD, trace.z_BTD, grads)
        grad_heads = attend_backward(
            self.split(grad_z_BTD), trace.q_BHTK, trace.k_BHSK, trace.v_BHSK, trace.weights_BHTS
        )
        inputs = trace.x_BTD, trace.memory_BSD, trace.memory_BSD
        grad_x, grad_from_k, grad_from_v = (
            self._linear_backward(part, self.join(grad), x, grads) for part, grad, x in zip("qkv", grad_heads, inputs)
        )
        assert grads.keys() == w.keys()
        return grads, grad_x, grad_from_k + grad_from_v

    def _linear_backward(self, part: str, grad: np.ndarray, x: np.ndarray, grads: dict[str, np.ndarray]) -> np.ndarray:
        """Put down dW and db of y = x W^T + b, give dx."""
        grads[f"w{part}"] = np.einsum("bto,bti->oi", grad, x, optimize=True)
        grads[f"b{part}"] = grad.sum(axis=(0, 1))
        return grad @ self.weights[f"w{part}"]
