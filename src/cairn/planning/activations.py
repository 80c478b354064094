"""What the forward pass keeps for the backward pass, layer by layer.

Each function tells the operations of the module of the same name, in its order; `tape.Tape` counts. The tests compare the
bytes with those that autograd keeps.

Shapes: N tokens that go through at once (micro rows * context), D width, H query heads, G key/value heads, K size of a head,
F inner width, E experts.
"""

from dataclasses import dataclass
from functools import lru_cache

from cairn.models import ModelConfig
from cairn.planning.parameters import BlockKind
from cairn.planning.tape import FLAG, FULL, INDEX, Tape, Tensor

FINAL_NORMS = "norms outside of blocks"


@dataclass(frozen=True)
class Pass:
    """One micro-batch through a model. kind: of the device. tensor: processes that share each matrix."""

    rows: int
    context: int
    mixed: bool = False
    kind: str = "cpu"
    tensor: int = 1

    @property
    def tokens(self) -> int:
        return self.rows * self.context


@dataclass(frozen=True)
class Kept:
    """Bytes of one block.

    all: with nothing computed again, by layer in `by_layer`. products: what `selective` keeps, beside the block's `source`,
    its input, which is all that `full` keeps. casts: 16-bit copies of its weights. weights: how many there are. peak: most
    at any time of its backward pass with `all` to begin with, gradients of its weights included; peak_again: where those
    are there already.
    """

    all: float
    by_layer: tuple[tuple[str, float], ...]
    products: float
    source: float
    casts: float
    weights: float
    peak: float
    peak_again: float

    def layers(self, recompute: str) -> tuple[tuple[str, float], ...]:
        """What stays from the forward pass to the backward pass."""
        if recompute == "none":
            return self.by_layer
        inputs = (("inputs of blocks", self.source),)
        return (*inputs, ("products of blocks", self.products)) if recompute == "selective" else inputs

    def stays(self, recompute: str) -> float:
        return sum(size for _, size in self.layers(recompute))


@lru_cache(maxsize=4096)
def block_kept(config: ModelConfig, kind: BlockKind, run: Pass) -> Kept:
    tape = Tape(run.mixed, run.kind != "cpu")
    x = Tensor(run.tokens * config.dim, FULL)
    marks: list[tuple[str, int]] = []
    out = _block(tape, config, kind, run, x, marks)
    shared: set[Tensor] = set()
    by_layer: dict[str, float] = {}
    for op, layer in zip(tape.operations, _spread(marks, len(tape.operations))):
        for t in op.keeps:
            if not t.given and t not in shared:
                shared.add(t)
                by_layer[layer] = by_layer.get(layer, 0.0) + t.size
    peaks = tape.peak(out, accumulate=False), tape.peak(out, accumulate=True)
    return Kept(tape.kept, tuple(by_layer.items()), tape.products, x.size, tape.casts, tape.weights, *peaks)


@lru_cache(maxsize=4096)
def outside_kept(config: ModelConfig, run: Pass) -> dict[str, float]:
    """Bytes that stay outside of the blocks: ids, tables that blocks share, the norm before the unembedding."""
    kept = {"embedding": float(INDEX * run.tokens)}
    if config.positions in ("learned", "sinusoidal"):
        kept["embedding"] += INDEX * run.context
    if config.positions == "rope":
        kept["rotary tables"] = 2.0 * FULL * run.context * config.rope_dim
    norms = Tape(run.mixed, run.kind != "cpu")
    x = Tensor(run.tokens * config.dim, FULL)
    if config.embed_norm:
        x = _norm(norms, config, x, config.dim)
    if config.final_norm:
        _norm(norms, config, x, config.dim)
    if norms.kept:
        kept[FINAL_NORMS] = norms.kept
    return kept


def _spread(marks: list[tuple[str, int]], count: int) -> list[str]:
    """The layer of each operation, from where each layer ends."""
    names, at = [], 0
    for name, end in marks:
        names += [name] * (end - at)
        at = max(at, end)
    return names + ["residual"] * (count - len(names))


def _block(
    tape: Tape, config: ModelConfig, kind: BlockKind, run: Pass, x: Tensor, marks: list[tuple[str, int]]
) -> Tensor:
    """`Block.forward`."""

    def mark(name: str, t: Tensor) -> Tensor:
        marks.append((name, len(tape.operations)))
        return t

    def norm(t: Tensor) -> Tensor:
        return mark("norms", _norm(tape, config, t, config.dim))

    def attention(t: Tensor) -> Tensor:
        layer = _latent_attention if config.latent else _attention
        return mark("attention", layer(tape, config, kind, run, t))

    def feed_forward(t: Tensor) -> Tensor:
        if kind.mixture:
            return mark("experts", _mixture(tape, config, run, t))
        return mark("feed-forward", _feed_forward(tape, config, t, run.tokens, config.ffn_dim / run.tensor))

    first = kind.layer > 0 or config.first_norm
    if config.norm_place == "pre":
        normed = norm(x) if first else x
        attended = attention(normed)
        if config.parallel:
            normed = normed if config.shared_norm else norm(x)
            return tape.add(tape.add(x, attended), feed_forward(normed))
        x = tape.add(x, attended)
        return tape.add(x, feed_forward(norm(x)))
    if config.norm_place == "post":
        x = norm(tape.add(x, attention(x)))
        return norm(tape.add(x, feed_forward(x)))
    sandwich = config.norm_place == "sandwich"
    x = tape.add(x, norm(attention(norm(x) if sandwich else x)))
    return tape.add(x, norm(feed_forward(norm(x) if sandwich else x)))


# --- norms


def _norm(tape: Tape, config: ModelConfig, x: Tensor, width: float) -> Tensor:
    if config.norm == "layernorm":
        x = tape.cast(x, FULL)  # under autocast it reads and gives float32
        statistics = Tensor(2 * x.count / width, FULL)
        return tape.op([x], Tensor(x.count, FULL), [x, statistics], weights=width * (2 if config.norm_bias else 1))
    return _rms_norm(tape, config, x, width)


def _rms_norm(tape: Tape, config: ModelConfig, x: Tensor, width: float, count: float = 0.0) -> Tensor:
    """torch's. In float32 on an accelerator one operation (aten::_fused_rms_norm); else x * (1 / rms), and the product with
    the weight.

    count: numbers that are normed, where they are a part of x.
    """
    given, count = x.width, count or x.count
    if given != FULL:
        x = tape.op([x], Tensor(count, FULL))
    inverse = Tensor(count / width, FULL)
    if tape.fused and given == FULL and not config.norm_offset:
        return tape.op([x], Tensor(count, FULL), [x, inverse], weights=width)
    normed = tape.op([x], Tensor(count, FULL), [x, inverse], scratch=2 * FULL * count)
    factor = Tensor(width, FULL, given=not config.norm_offset)  # 1 + weight is a tensor of its own
    if not config.norm_offset:
        normed = tape.cast(normed, given)
    out = tape.op([normed], Tensor(count, FULL), [normed, factor], weights=width, scratch=FULL * count)
    return tape.cast(out, given) if config.norm_offset else out


# --- attention


def _attention(tape: Tape, config: ModelConfig, kind: BlockKind, run: Pass, x: Tensor) -> Tensor:
    """`Attention.forward`."""
    N, D, K = run.tokens, config.dim, config.head_dim
    H, G = config.heads / run.tensor, max(1.0, config.kv_heads / run.tensor)
    q, k, v = (tape.linear(x, N, D, heads * K, config.qkv_bias) for heads in (H, G, G))
    if config.qk_norm == "width":
        q, k = _rms_norm(tape, config, q, H * K), _rms_norm(tape, config, k, G * K)
    elif config.qk_norm == "head":
        q, k = _rms_norm(tape, config, q, K), _rms_norm(tape, config, k, K)
    if config.positions == "rope":
        q = k = _rotate(tape, config, run, q, k)
    if G != H:  # expanded by hand
        k = tape.op([k], Tensor(N * H * K, k.width))
        v = tape.op([v], Tensor(N * H * K, v.width))
    if q.width != v.width:  # norms of queries and keys gave float32, and autocast rounds it before the fused attention
        q, k = (tape.op([t], Tensor(N * H * K, v.width)) for t in (q, k))
    z = _scaled_product(tape, config, kind, run, q, k, v, H)
    return tape.linear(z, N, H * K, D, config.out_bias)


def _rotate(tape: Tape, config: ModelConfig, run: Pass, q: Tensor, k: Tensor) -> Tensor:
    """Queries and keys side by side, times cosines and sines, which are kept: shared by all blocks in float32, a copy a
    block in 16 bits."""
    both = Tensor(q.count + k.count, q.width)
    tables = Tensor(2 * run.context * config.rope_dim, q.width, given=q.width == FULL)
    joined = tape.op([q, k], both)
    return tape.op([joined], Tensor(both.count, both.width), [tables], scratch=2 * both.size)


def _scaled_product(
    tape: Tape, config: ModelConfig, kind: BlockKind, run: Pass, q: Tensor, k: Tensor, v: Tensor, heads: float
) -> Tensor:
    """`attend`: softmax(q k) v for the positions that a token sees."""
    inputs = [q, k, v] if q is not k else [q, v]
    scores = run.context * run.context  # of one head and row
    if config.score_cap:
        return _written_out(tape, run, inputs, v, heads * scores * run.rows)
    # Fused: keeps what it read, what it made, a logarithm for each token and head, and the mask where one is written.
    z, logsumexp = Tensor(v.count, v.width), Tensor(run.tokens * heads, FULL)
    keeps = [q, k, v, z, logsumexp]
    if config.positions == "alibi":
        keeps.append(Tensor(heads * scores, v.width))
    elif kind.window:
        keeps.append(Tensor(scores, v.width))
    return tape.op(inputs, z, keeps, product=True, also=[logsumexp])


def _written_out(tape: Tape, run: Pass, inputs: list[Tensor], v: Tensor, scores: float) -> Tensor:
    """No fused kernel caps the scores: they are held in float32 after the tanh and after the softmax, beside copies of
    queries, keys and values in the order of matrix products."""
    copies = [Tensor(v.count, v.width) for _ in range(3)]
    q, k, values = copies
    products = tape.op(inputs, Tensor(scores, v.width), [q, k], product=True)
    capped = tape.function(tape.cast(products, FULL), keeps_output=True)
    hidden = tape.op([capped], Tensor(scores, FULL), [Tensor(run.context**2, FLAG)])  # where a token does not see
    weights = tape.cast(tape.function(hidden, keeps_output=True), v.width)
    return tape.op([weights], Tensor(v.count, v.width), [weights, values], product=True)


def _latent_attention(tape: Tape, config: ModelConfig, kind: BlockKind, run: Pass, x: Tensor) -> Tensor:
    """`LatentAttention.forward` without a cache: keys and values of every head written out."""
    latent = config.latent
    assert latent is not None
    N, D, K, H = run.tokens, config.dim, config.head_dim, config.heads / run.tensor
    P, V, R = latent.rope_dim, latent.value_dim, latent.kv_rank
    if latent.q_rank:
        short = tape.linear(x, N, D, latent.q_rank, config.qkv_bias)
        q = tape.linear(_rms_norm(tape, config, short, latent.q_rank), N, latent.q_rank, H * K)
    else:
        q = tape.linear(x, N, D, H * K)
    compressed = tape.linear(x, N, D, R + P, config.qkv_bias)
    turned = _rotate(tape, config, run, Tensor(N * H * P, q.width), Tensor(N * P, q.width))
    expanded = tape.linear(_rms_norm(tape, config, compressed, R, N * R), N, R, H * (K - P + V))
    keys = tape.op([expanded, turned], Tensor(N * H * K, q.width))
    queries = tape.op([q, turned], Tensor(N * H * K, q.width))
    values = tape.op([expanded], Tensor(N * H * K, q.width))  # as wide as keys
    z = _scaled_product(tape, config, kind, run, queries, keys, values, H)
    return tape.linear(tape.op([z], Tensor(N * H * V, z.width)), N, H * V, D, config.out_bias)


# --- feed-forward


def _feed_forward(tape: Tape, config: ModelConfig, x: Tensor, tokens: float, inner: float, copies: int = 1) -> Tensor:
    """`FeedForward.forward`, `GatedFeedForward.forward`; copies: experts that share the tokens."""
    D, bias = config.dim, config.ffn_bias

    def up(x: Tensor) -> Tensor:
        return tape.linear(x, tokens, D, inner, bias, copies=copies)

    relu = config.activation == "relu"
    if not config.gated:
        raised = tape.function(up(x), keeps_output=relu)
    else:
        gate, raised = up(x), up(x)
        raised = tape.multiply(tape.function(gate, keeps_output=relu), raised)
    return tape.linear(raised, tokens, inner, D, bias, copies=copies)


def _mixture(tape: Tape, config: ModelConfig, run: Pass, x: Tensor) -> Tensor:
    """`MixtureOfExperts.forward`, tokens spread evenly over the experts."""
    experts = config.experts
    assert experts is not None
    N, D, C = run.tokens, config.dim, experts.per_token
    logits = tape.linear(x, N, D, experts.count, exact=experts.router_float32)
    scores = tape.function(tape.cast(logits, FULL), keeps_output=True)
    weight = tape.op([scores], Tensor(N * C, FULL), [Tensor(N * C, INDEX)])
    if experts.normalize:
        weight = tape.op([weight], Tensor(N * C, FULL), [weight, Tensor(N, FULL)])
    token, order = Tensor(N * C, INDEX), Tensor(N * C, INDEX)
    pieces = tape.op([x], Tensor(N * C * D, x.width), [token])
    done = _feed_forward(tape, config, pieces, N * C, experts.inner / run.tensor, experts.count)
    sorted_weight = tape.op([weight], Tensor(N * C, FULL), [order])
    weighted = tape.op([done, sorted_weight], Tensor(N * C * D, FULL), [done, sorted_weight])
    out = tape.op([weighted], Tensor(N * D, x.width), [token, weighted])
    if experts.shared:
        out = tape.add(out, _feed_forward(tape, config, x, N, experts.inner * experts.shared / run.tensor))
    return out
