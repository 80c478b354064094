"""The shape of a Transformer: every family is one of these plus a table of weight names (`families/`)."""

from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched to texts longer than those of the training.

    linear (Chen et al. 2023), dynamic (NTK by the length of the text), yarn (Peng et al. 2023), llama3 (Llama 3.1).
    """

    kind: str = option("linear", "method", choices=("linear", "dynamic", "yarn", "llama3"))
    factor: float = option(1.0, "how many times longer", minimum=1)
    original_positions: int = option(0, "longest text before; 0 is the model's max_positions", minimum=0)
    low_freq_factor: float = option(1.0, "llama3: wavelengths above original / this are stretched fully", minimum=0)
    high_freq_factor: float = option(4.0, "llama3: wavelengths below original / this are left alone", minimum=0)
    beta_fast: float = option(32.0, "yarn: turns over the original length above which a pair is left alone", minimum=0)
    beta_slow: float = option(1.0, "yarn: turns below which a pair is stretched fully", minimum=0)
    attention_factor: float = option(0.0, "yarn: factor on cos and sin; 0 is derived from factor", minimum=0)
    mscale: float = option(0.0, "yarn in DeepSeek: strength of the attention factor", minimum=0)
    mscale_all_dim: float = option(0.0, "yarn in DeepSeek: strength that enters the scale of the scores", minimum=0)
    truncate: bool = option(True, "yarn: whole numbers as the borders of the ramp")


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the feed-forward layer: a router sends each token to a few of many."""

    count: int = option(8, "experts", minimum=1)
    per_token: int = option(2, "experts a token goes to", minimum=1)
    inner: int = option(344, "inner width of one expert", minimum=1)
    shared: int = option(0, "experts every token goes to besides (DeepSeek)", minimum=0)
    router: str = option("softmax", "how scores become weights", choices=("softmax", "sigmoid"))
    normalize: bool = option(True, "weights of the chosen experts sum to 1")
    scale: float = option(1.0, "factor on the weights of the chosen experts", minimum=0)
    bias_correction: bool = option(False, "a bias on the scores that enters the choice alone (DeepSeek-V3)")
    groups: int = option(1, "groups the experts are divided into", minimum=1)
    groups_kept: int = option(1, "groups a token may choose from", minimum=1)
    router_float32: bool = option(True, "the router computes in float32 whatever the type of the model (DeepSeek)")
    dense_layers: int = option(0, "first layers that keep a plain feed-forward layer", minimum=0)

    def __post_init__(self) -> None:
        if self.count % self.groups:
            raise UserError(f"experts ({self.count}) must be a multiple of groups ({self.groups})")
        if self.groups_kept > self.groups:
            raise UserError(f"groups_kept ({self.groups_kept}) is more than groups ({self.groups})")
        if self.per_token > self.count // self.groups * self.groups_kept:
            raise UserError(f"per_token ({self.per_token}) is more than the experts a token may choose from")


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2): keys and values of all heads come from one short vector a token."""

    kv_rank: int = option(64, "width of the vector that keys and values are made from", minimum=1)
    q_rank: int = option(0, "width of the vector that queries are made from; 0 makes them directly", minimum=0)
    rope_dim: int = option(16, "part of a head that carries the position, its key shared by all heads", minimum=2)
    value_dim: int = option(32, "size of a head's values", minimum=1)


@dataclass(frozen=True)
class ModelConfig:
    """A Transformer: decoder, encoder (`causal` off), or both (`encoder_layers`). `head_dim` 0 is `dim // heads`."""

    family: str = option("llama", "family that decides names of weights and config.json")
    vocab_size: int = option(2048, "entries of the vocabulary", minimum=1)
    dim: int = option(128, "width of the residual stream", minimum=2)
    layers: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "query heads", minimum=1)
    kv_heads: int = option(2, "key and value heads; fewer than query heads is grouped-query attention", minimum=1)
    head_dim: int = option(0, "size of a head; 0 means dim / heads", minimum=0)
    ffn_dim: int = option(344, "inner width of the feed-forward layer", minimum=1)
    max_positions: int = option(512, "longest sequence", minimum=1)
    causal: bool = option(True, "a token sees those before it alone; off in encoders")
    encoder_layers: int = option(0, "blocks of an encoder that the decoder attends to (2017, T5)", minimum=0)

    # norms
    norm: str = option("rmsnorm", "normalisation", choices=("rmsnorm", "layernorm"))
    norm_eps: float = option(1e-5, "epsilon of the normalisation", minimum=0)
    norm_bias: bool = option(True, "LayerNorm adds a bias")
    norm_offset: bool = option(False, "the weight of RMSNorm is stored as its distance from 1 (Gemma)")
    norm_place: str = option(
        "pre",
        "norm before a layer (pre), after adding (post), on both sides (sandwich), or on its output alone (output)",
        choices=("pre", "post", "sandwich", "output"),
    )
    first_norm: bool = option(True, "a norm before the first attention (ModernBERT has none)")
    final_norm: bool = option(True, "a norm before the unembedding")
    qk_norm: str = option("none", "RMSNorm of queries and keys: a head or the whole", choices=("none", "head", "width"))
    parallel: bool = option(False, "attention and feed-forward read the same residual stream (GPT-NeoX, Falcon)")
    shared_norm: bool = option(False, "with parallel: one norm for both (Falcon 7B)")

    # embeddings and positions
    positions: str = option(
        "rope", "how positions enter", choices=("rope", "learned", "sinusoidal", "alibi", "relative", "none")
    )
    position_offset: int = option(0, "rows skipped in learned positions (RoBERTa)", minimum=0)
    rope_theta: float = option(10000.0, "base of the rotary frequencies", minimum=1)
    rope_local_theta: float = option(0.0, "base in layers with a window; 0 is the same", minimum=0)
    rope_fraction: float = option(1.0, "part of a head that is rotated", minimum=0)
    rope_interleaved: bool = option(False, "neighbours are the pairs that turn, not halves (DeepSeek)")
    rope_scaling: RopeScaling | None = option(None, "stretching of the rotary frequencies")
    relative_buckets: int = option(32, "T5: distances told apart", minimum=2)
    relative_distance: int = option(128, "T5: distance from which all are alike", minimum=2)
    embed_scale: float = option(1.0, "factor on the embedding (Gemma, Marian)", minimum=0)
    embed_norm: bool = option(False, "a norm on the embedding (BERT)")
    token_types: int = option(0, "segments with an embedding of their own (BERT)", minimum=0)

    # attention
    qkv_bias: bool = option(False, "biases of queries, keys and values")
    out_bias: bool = option(False, "bias of the attention's output")
    window: int = option(0, "a token sees this many positions, itself included; 0 is all", minimum=0)
    window_layers: tuple[bool, ...] = option((), "which layers have the window; empty is all")
    sinks: int = option(0, "first positions that stay in sight of a window (StreamingLLM)", minimum=0)
    score_scale: float = option(0.0, "factor on the scores; 0 is 1 / sqrt(head_dim)", minimum=0)
    score_cap: float = option(0.0, "scores pass cap * tanh(score / cap); 0 is off (Gemma 2)", minimum=0)
    latent: Latent | None = option(None, "multi-head latent attention")

    # feed-forward
    activation: str = option("silu", "activation", choices=("silu", "gelu", "gelu_tanh", "relu"))
    gated: bool = option(True, "activation(gate) * up: SwiGLU with silu, GeGLU with gelu")
    ffn_bias: bool = option(False, "biases of the feed-forward layer")
    experts: Experts | None = option(None, "mixture of experts")

    # unembedding
    head: str = option(
        "unembed", "logits by one matrix, through BERT's transform, or none", choices=("unembed", "masked", "none")
    )
    head_bias: bool = option(False, "bias of the logits")
    logit_scale: float = option(1.0, "factor on what the unembedding reads (T5)", minimum=0)
    logit_cap: float = option(0.0, "logits pass cap * tanh(logit / cap); 0 is off (Gemma 2)", minimum=0)
    tie_embeddings: bool = option(True, "one matrix for embedding and unembedding")
    transform_bias: bool = option(True, "bias of the layer in BERT's transform (ModernBERT has none)")
    pooler: bool = option(False, "a layer on the first token's state (BERT)")
    start_id: int = option(0, "token that the decoder of an encoder-decoder starts from", minimum=0)

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim == 0:
            if self.dim % self.heads:
                raise UserError(f"dim ({self.dim}) must be a multiple of heads ({self.heads}), or set head_dim")
            object.__setattr__(self, "head_dim", self.dim // self.heads)
        if self.positions == "rope" and (self.rope_dim % 2 or not 0 < self.rope_dim <= self.head_dim):
            raise UserError(
                f"rotary positions turn pairs: {self.rope_dim} of head_dim {self.head_dim} must be even and fit"
            )
        if self.rope_scaling and self.rope_scaling.kind == "dynamic" and self.rope_dim < 4:
            raise UserError("dynamic rotary scaling needs two pairs: the rotated part of a head must be 4 or more")
        if self.window_layers and len(self.window_layers) != self.layers:
            raise UserError(f"window_layers has {len(self.window_layers)} entries for {self.layers} layers")
        if any(self.window_layers) and not self.window:
            raise UserError("window_layers needs a window")
        if not self.first_norm and self.norm_place != "pre":
            raise UserError("a first block without its norm needs norms before the layers: norm_place must be pre")
        if self.parallel and self.norm_place != "pre":
            raise UserError("parallel blocks take their norms before the layers: norm_place must be pre")
        if self.encoder_layers and (
            self.parallel or self.latent or self.qk_norm != "none" or self.norm_place not in ("pre", "post")
        ):
            raise UserError("encoder_layers: parallel, latent, qk_norm, sandwich and output norms are not supported")
        if self.positions == "relative" and not 4 <= self.relative_buckets < 2 * self.relative_distance:
            raise UserError(
                f"relative positions need at least 4 buckets ({self.relative_buckets}) and a distance "
                f"({self.relative_distance}) of more than half of them"
            )
        if self.encoder_layers and self.start_id >= self.vocab_size:
            raise UserError(f"start_id ({self.start_id}) is no entry of a vocabulary of {self.vocab_size}")

    @property
    def rope_dim(self) -> int:
        """How much of a head is rotated."""
        return self.latent.rope_dim if self.latent else int(self.head_dim * self.rope_fraction)

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """(key/value heads, width of a key, width of a value) that a token leaves in the cache.

        A value width of 0 says that values are the beginning of the keys (latent attention).
        """
        if self.latent:
            return 1, self.latent.kv_rank + self.latent.rope_dim, 0
        return self.kv_heads, self.head_dim, self.head_dim

    def window_of(self, layer: int) -> int:
        """The window of a layer, 0 where it sees everything."""
        return self.window if not self.window_layers or self.window_layers[layer] else 0


def preset(name: str) -> ModelConfig:
    """A named shape; `PRESETS` lists them."""
    if name not in PRESETS:
        raise UserError(f"unknown model preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


PRESETS = {
    # for tests: seconds on one core
    "pebble": ModelConfig(vocab_size=512, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=88),
    # the journey's default, about a million parameters: minutes on two cores
    "stone": ModelConfig(vocab_size=2048, dim=128, layers=4, heads=4, kv_heads=2, ffn_dim=344),
    # as large, an encoder for masked tokens (Devlin et al. 2018) and an encoder-decoder for spans (Raffel et al. 2020)
    "stone-bert": ModelConfig(
        family="bert",
        kv_heads=4,
        ffn_dim=512,
        causal=False,
        norm="layernorm",
        norm_eps=1e-12,
        norm_place="post",
        final_norm=False,
        embed_norm=True,
        positions="learned",
        token_types=2,
        qkv_bias=True,
        out_bias=True,
        activation="gelu",
        gated=False,
        ffn_bias=True,
        head="masked",
        head_bias=True,
    ),
    "stone-t5": ModelConfig(
        family="t5",
        encoder_layers=4,
        kv_heads=4,
        norm_eps=1e-6,
        positions="relative",
        score_scale=1.0,
        activation="gelu_tanh",
        tie_embeddings=False,
        start_id=1,
    ),
    # an afternoon on a laptop, minutes on a GPU
    "boulder": ModelConfig(vocab_size=8192, dim=384, layers=8, heads=6, kv_heads=2, ffn_dim=1024, max_positions=1024),
    # GPT-2 small (Radford et al. 2019), 124,439,808 parameters: for a GPU
    "gpt2-124m": ModelConfig(
        family="gpt2",
        vocab_size=50257,
        dim=768,
        layers=12,
        heads=12,
        kv_heads=12,
        ffn_dim=3072,
        max_positions=1024,
        norm="layernorm",
        positions="learned",
        qkv_bias=True,
        out_bias=True,
        activation="gelu_tanh",
        gated=False,
        ffn_bias=True,
    ),
}
