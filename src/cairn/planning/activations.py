"""What the forward pass keeps for the backward pass: every tensor, layer by layer.

The tensors of a layer stand in one function here, in the order in which the module of the same name makes them; the tests
compare the sums byte for byte with what autograd keeps. `Kept.product` marks outputs of matrix products and attention,
which `recompute=selective` keeps while it forgets the rest; `full` keeps a block's input alone.

Shapes: N tokens that go through at once (micro rows * context), T context, D width, H query heads, G key/value heads, K
size of a head, F inner width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cairn.models import ModelConfig
from cairn.planning.parameters import BlockKind

STREAM = 4  # bytes of a number in the residual stream, norms and sums: float32 in every precision
STATISTIC = 4  # of a mean, a deviation, a logsumexp


@dataclass(frozen=True)
class Pass:
    """One micro-batch through a model. width: bytes of a number that a matrix product reads and writes.

    tensor: processes that share each matrix. kernels: whether the fused kernels for float32 on a CPU run.
    """

    rows: int
    context: int
    width: int
    tensor: int = 1

    @property
    def tokens(self) -> int:
        return self.rows * self.context

    @property
    def mixed(self) -> bool:
        """16-bit products on a float32 stream: every product keeps a 16-bit copy of what it read."""
        return self.width == 2


@dataclass(frozen=True)
class Kept:
    """Bytes of a tensor that stays until the backward pass."""

    layer: str  # attention, feed-forward, norms
    name: str
    size: float
    product: bool = False


def block_kept(config: ModelConfig, kind: BlockKind, run: Pass) -> list[Kept]:
    """All tensors of one block, without recomputation."""
    return [
        *_norms(config, kind, run),
        *_attention(config, run),
        *(_experts(config, run) if kind.mixture else _feed_forward(config, run, config.ffn_dim, run.tokens)),
    ]


def _inputs(run: Pass, name: str, width: int, products: int, layer: str, tokens: float | None = None) -> Iterator[Kept]:
    """What `products` matrix products of the same float32 input keep: the input once, or a 16-bit copy each."""
    tokens = run.tokens if tokens is None else tokens
    for i in range(products if run.mixed else 1):
        yield Kept(layer, f"{name} copy {i + 1}" if run.mixed else name, tokens * width * run.width)


def _norm(config: ModelConfig, run: Pass, name: str) -> Iterator[Kept]:
    """LayerNorm: its input, mean and deviation. RMSNorm in torch: input, 1 / rms, and the normalised input. The output is
    the next product's to keep."""
    size = run.tokens * config.dim * STREAM
    yield Kept("norms", f"input of {name}", size)
    if config.norm == "layernorm":
        yield Kept("norms", f"mean and deviation of {name}", run.tokens * 2 * STATISTIC)
    else:
        yield Kept("norms", f"1 / rms of {name}", run.tokens * STATISTIC)
        yield Kept("norms", f"normalised input of {name}", size)


def _norms(config: ModelConfig, kind: BlockKind, run: Pass) -> Iterator[Kept]:
    if config.norm_place in ("pre", "sandwich") and (kind.layer > 0 or config.first_norm):
        yield from _norm(config, run, "norm_attention")
    if not config.shared_norm:
        yield from _norm(config, run, "norm_feed_forward")


def _attention(config: ModelConfig, run: Pass) -> Iterator[Kept]:
    N, width, layer = run.tokens, run.width, "attention"
    H, G, K = config.heads / run.tensor, config.kv_heads / run.tensor, config.head_dim
    yield from _inputs(run, "input", config.dim, 3, layer)
    if config.positions == "rope":
        yield Kept(layer, "queries and keys, turned", N * (H + G) * K * width)
        if run.mixed:
            yield Kept(layer, "16-bit cosines and sines", 2 * run.context * config.rope_dim * width)
    elif H == G:
        yield Kept(layer, "queries and keys", N * (H + G) * K * width)
    else:
        yield Kept(layer, "queries", N * H * K * width)
    if H != G:
        yield Kept(layer, "keys and values for every head", 2 * N * H * K * width)
    else:
        yield Kept(layer, "values", N * H * K * width)
    yield Kept(layer, "output of attention", N * H * K * width, product=True)
    yield Kept(layer, "logsumexp", N * H * STATISTIC, product=True)


def _feed_forward(config: ModelConfig, run: Pass, inner: float, tokens: float) -> Iterator[Kept]:
    layer = "feed-forward"
    size = tokens * inner / run.tensor * run.width
    yield from _inputs(run, "input", config.dim, 2 if config.gated else 1, layer, tokens)
    if config.gated:
        yield Kept(layer, "gate", size, product=True)
        yield Kept(layer, "activated gate", size)
        yield Kept(layer, "up", size, product=True)
        yield Kept(layer, "activated gate * up", size)
    else:
        yield Kept(layer, "up", size, product=True)
        if config.activation != "relu":
            yield Kept(layer, "activated up", size)


def _experts(config: ModelConfig, run: Pass) -> Iterator[Kept]:
    experts = config.experts
    assert experts is not None
    yield from _feed_forward(config, run, experts.inner, run.tokens * experts.per_token)
    if experts.shared:
        yield from _feed_forward(config, run, experts.inner * experts.shared, run.tokens)
