"""The shape of a Transformer: every family is one of these plus a table of weight names (`families.py`)."""

from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only Transformer. Sizes are counts; `head_dim` is `dim // heads` where 0."""

    family: str = option("llama", "family that decides names of weights and config.json", choices=("llama", "gpt2"))
    vocab_size: int = option(2048, "entries of the vocabulary", minimum=1)
    dim: int = option(128, "width of the residual stream", minimum=2)
    layers: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "query heads", minimum=1)
    kv_heads: int = option(2, "key and value heads; fewer than query heads is grouped-query attention", minimum=1)
    head_dim: int = option(0, "size of a head; 0 means dim / heads", minimum=0)
    ffn_dim: int = option(344, "inner width of the feed-forward layer", minimum=1)
    max_positions: int = option(512, "longest sequence", minimum=1)
    norm: str = option("rmsnorm", "normalisation", choices=("rmsnorm", "layernorm"))
    norm_eps: float = option(1e-5, "epsilon of the normalisation", minimum=0)
    positions: str = option("rope", "how positions enter", choices=("rope", "learned"))
    rope_theta: float = option(10000.0, "base of the rotary frequencies", minimum=1)
    feed_forward: str = option("swiglu", "feed-forward layer", choices=("swiglu", "gelu"))
    bias: bool = option(False, "biases in the linear layers")
    tie_embeddings: bool = option(True, "one matrix for embedding and unembedding")

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim == 0:
            if self.dim % self.heads:
                raise UserError(f"dim ({self.dim}) must be a multiple of heads ({self.heads}), or set head_dim")
            object.__setattr__(self, "head_dim", self.dim // self.heads)
        if self.positions == "rope" and self.head_dim % 2:
            raise UserError(f"rotary positions turn pairs: head_dim ({self.head_dim}) must be even")


def preset(name: str) -> ModelConfig:
    """A named shape; `PRESETS` lists them."""
    if name not in PRESETS:
        raise UserError(f"unknown model preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def _llama(**sizes: int) -> ModelConfig:
    return ModelConfig(**sizes)  # type: ignore[arg-type]


PRESETS = {
    # for tests: seconds on one core
    "pebble": _llama(vocab_size=512, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=88),
    # the journey's default, about a million parameters: minutes on two cores
    "stone": _llama(vocab_size=2048, dim=128, layers=4, heads=4, kv_heads=2, ffn_dim=344),
    # an afternoon on a laptop, minutes on a GPU
    "boulder": _llama(vocab_size=8192, dim=384, layers=8, heads=6, kv_heads=2, ffn_dim=1024, max_positions=1024),
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
        feed_forward="gelu",
        bias=True,
    ),
}
