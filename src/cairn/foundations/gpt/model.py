"""A whole GPT-2 (Radford et al. 2019) in NumPy: ids go in, for every place the scores of the character that follows come out.

    x = token embedding + position embedding                  (B, T, D)
    in each block:
        x = x + attention(norm(x))                            tokens look at those before them
        x = x + mlp(norm(x))                                  each token thinks for itself
    logits = norm(x) @ token embedding^T                      (B, T, V)

Blocks only add to x: it is a stream that every block reads and writes, and gradients flow down it unhindered. The norm stands
before each part (pre-norm), so the stream itself is never squeezed. The table that turns tokens into vectors also turns
vectors back into scores of tokens (tied head).

**Initialisation.** Weights are drawn with deviation 0.02, biases are 0. The two matrices of a block that write into the stream
get 0.02 / sqrt(2 L): L blocks add 2 L independent things, whose variances add up, and so the stream's size does not depend on
the depth.

The weights have the names and shapes of the published GPT-2 (matrices are (inputs, outputs)): its files would fit.

Shapes: B batch, T tokens, D width, H heads, K = D / H, L blocks, V characters.

>>> from cairn.foundations.network import cross_entropy
>>> model = GPT(GPTConfig(symbols=27, context=8, width=16, blocks=2, heads=4))
>>> logits_BTV = model(np.array([[1, 4, 1, 0]]))
>>> logits_BTV.shape, sum(weight.size for weight in model.parameters().values())
((1, 4, 27), 7152)
>>> loss = cross_entropy(logits_BTV, np.array([[4, 1, 0, 3]]))     # before any training every character is as likely:
>>> round(loss.item(), 1), round(float(np.log(27)), 1)
(3.3, 3.3)
>>> loss.backward()
>>> model.parameters()["h.0.attn.c_attn.weight"].grad.shape
(16, 48)
"""

from dataclasses import dataclass

import numpy as np

from cairn.foundations import tensor as tt
from cairn.foundations.tensor import Tensor

DEVIATION = 0.02  # of fresh weights, as in GPT-2
EPSILON = 1e-5  # of the norms, as in GPT-2


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a model. GPT-2 small is 50257 symbols, context 1024, width 768, 12 blocks, 12 heads."""

    symbols: int  # different tokens, V
    context: int = 32  # longest text it sees at once
    width: int = 64  # of the stream, D
    blocks: int = 3  # L
    heads: int = 4  # each of size width / heads
    seed: int = 0  # of the fresh weights
    dtype: str = "float32"  # float64 for proofs; float32 is twice as fast

    def __post_init__(self) -> None:
        if min(self.symbols, self.context, self.width, self.blocks, self.heads) < 1:
            raise ValueError(f"{self}: every size must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: give at least 0")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads cannot share a width of {self.width}: choose a divisor of it")


class GPT:
    """The model: called with ids (B, T) it gives logits (B, T, V)."""

    def __init__(self, config: GPTConfig):
        self.config = config
        rng, D = np.random.default_rng(config.seed), config.width
        into_stream = DEVIATION / (2 * config.blocks) ** 0.5
        weights = {
            "wte.weight": rng.normal(0, DEVIATION, (config.symbols, D)),
            "wpe.weight": rng.normal(0, DEVIATION, (config.context, D)),
        }
        for block in range(config.blocks):
            name = f"h.{block}"
            weights |= {
                **_norm(f"{name}.ln_1", D),
                **_linear(f"{name}.attn.c_attn", D, 3 * D, DEVIATION, rng),
                **_linear(f"{name}.attn.c_proj", D, D, into_stream, rng),
                **_norm(f"{name}.ln_2", D),
                **_linear(f"{name}.mlp.c_fc", D, 4 * D, DEVIATION, rng),
                **_linear(f"{name}.mlp.c_proj", 4 * D, D, into_stream, rng),
            }
        weights |= _norm("ln_f", D)
        self.weights = {name: Tensor(array.astype(config.dtype), requires_grad=True) for name, array in weights.items()}

    def parameters(self) -> dict[str, Tensor]:
        return self.weights

    def __call__(self, ids_BT: np.ndarray, looks: list[np.ndarray] | None = None) -> Tensor:
        """Logits (B, T, V). looks: gathers the weights of attention (B, H, T, T) of every block."""
        if ids_BT.ndim != 2 or not ids_BT.shape[1]:
            raise ValueError(f"ids {ids_BT.shape}: give (texts, tokens), with at least one token")
        T = ids_BT.shape[1]
        if self.config.context < T:
            raise ValueError(f"{T} tokens, but this model sees {self.config.context} at most: give the last ones")
        x_BTD = tt.embedding(self.weights["wte.weight"], ids_BT) + self.weights["wpe.weight"][:T]
        for block in range(self.config.blocks):
            x_BTD = x_BTD + self._attention(f"h.{block}.attn", self._norm(f"h.{block}.ln_1", x_BTD), looks)
            x_BTD = x_BTD + self._mlp(f"h.{block}.mlp", self._norm(f"h.{block}.ln_2", x_BTD))
        return self._norm("ln_f", x_BTD) @ self.weights["wte.weight"].T

    def _attention(self, name: str, x_BTD: Tensor, looks: list[np.ndarray] | None) -> Tensor:
        """Every token gathers from itself and those before it.

        One matrix holds the columns of queries, keys and values. It is cut before the product, not its result: the result
        is larger, and cutting and putting together its gradient costs a fifth of a step.
        """
        B, T, D = x_BTD.shape
        H = self.config.heads
        weight, bias = self.weights[f"{name}.c_attn.weight"], self.weights[f"{name}.c_attn.bias"]
        thirds = slice(D), slice(D, 2 * D), slice(2 * D, 3 * D)
        parts = [(x_BTD @ weight[:, third] + bias[third]).reshape(B, T, H, D // H) for third in thirds]
        q, k, v = (part.transpose(0, 2, 1, 3) for part in parts)
        if looks is not None:
            looks.append(tt.attention_weights(q, k, causal=True).numpy())
        z_BHTK = tt.scaled_dot_product_attention(q, k, v, causal=True)
        return self._linear(f"{name}.c_proj", z_BHTK.transpose(0, 2, 1, 3).reshape(B, T, D))

    def _mlp(self, name: str, x_BTD: Tensor) -> Tensor:
        """Four times as wide, bent, and back. GPT-2's GELU is the approximation by tanh."""
        return self._linear(f"{name}.c_proj", tt.gelu(self._linear(f"{name}.c_fc", x_BTD), approximate=True))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return tt.layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPSILON)


def _linear(name: str, inputs: int, outputs: int, deviation: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {f"{name}.weight": rng.normal(0, deviation, (inputs, outputs)), f"{name}.bias": np.zeros(outputs)}


def _norm(name: str, width: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}
