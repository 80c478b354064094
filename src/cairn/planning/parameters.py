"""The weights of a model: their shapes by part, how many there are, and how many FLOPs a token costs.

Shapes come from the modules themselves, built on the meta device (no memory), one block of each kind: what is counted here
cannot differ from what is trained.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import nn

from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer
from cairn.models.transformer import Block

PARTS = ("embedding", "attention", "feed-forward", "experts", "norms", "head")


@dataclass(frozen=True)
class Weight:
    """One tensor, `copies` times in the model. active: share of the copies that a token goes through.

    block: which of the model's kinds of blocks it belongs to, -1 outside of blocks.
    """

    name: str
    shape: tuple[int, ...]
    part: str
    copies: int = 1
    active: float = 1.0
    block: int = -1

    @property
    def size(self) -> int:
        """Numbers in one copy."""
        return torch.Size(self.shape).numel()

    @property
    def multiplies(self) -> bool:
        """Whether the forward pass multiplies by it, two FLOPs a number and token; an embedding is looked up."""
        return len(self.shape) >= 2 and self.part != "embedding"


@dataclass(frozen=True)
class BlockKind:
    """Blocks that are alike: `layer` is the first of them, `count` how many there are."""

    layer: int
    count: int
    mixture: bool
    window: bool = False


@dataclass(frozen=True)
class Parameters:
    """All weights of a model, equal tensors told once."""

    config: ModelConfig
    kinds: tuple[BlockKind, ...]
    weights: tuple[Weight, ...]

    @cached_property
    def total(self) -> int:
        """A tied matrix is counted once."""
        return sum(w.size * w.copies for w in self.weights)

    @cached_property
    def active(self) -> float:
        """What a token meets: of a mixture's experts only those it goes to."""
        return sum(w.size * w.copies * w.active for w in self.weights)

    @cached_property
    def by_part(self) -> dict[str, tuple[int, float]]:
        """part -> (total, active)."""
        found: dict[str, tuple[int, float]] = dict.fromkeys(PARTS, (0, 0.0))
        for w in self.weights:
            total, active = found[w.part]
            found[w.part] = total + w.size * w.copies, active + w.size * w.copies * w.active
        return {part: counts for part, counts in found.items() if counts[0]}

    def block_size(self, kind: int) -> int:
        """Numbers in one block of a kind."""
        return sum(w.size * w.copies for w in self.weights if w.block == kind) // self.kinds[kind].count

    @cached_property
    def in_blocks(self) -> int:
        return sum(w.size * w.copies for w in self.weights if w.block >= 0)


def block_kinds(config: ModelConfig) -> tuple[BlockKind, ...]:
    """The model's blocks, alike ones together: they differ where mixtures begin, in windows, and in the first one's norm."""
    found: dict[tuple[bool, bool, bool], list[int]] = defaultdict(list)
    for layer in range(config.layers):
        mixture = config.experts is not None and layer >= config.experts.dense_layers
        found[mixture, config.window_of(layer) > 0, layer == 0 and not config.first_norm].append(layer)
    return tuple(BlockKind(layers[0], len(layers), *key[:2]) for key, layers in found.items())


@lru_cache(maxsize=64)
def count_parameters(config: ModelConfig) -> Parameters:
    """The weights of a decoder or an encoder. Raises UserError for an encoder-decoder."""
    if config.encoder_layers:
        raise UserError(f"a {config.family} model has an encoder and a decoder; plans are for models of one stack")
    kinds = block_kinds(config)
    weights: list[Weight] = []
    with torch.device("meta"):
        # Blocks are counted apart; here one stands for all, without its many experts.
        whole = Transformer(replace(config, layers=1, window_layers=(), window=0, experts=None))
        for name, parameter in whole.named_parameters():
            if not name.startswith("blocks."):
                weights.append(Weight(name, tuple(parameter.shape), _part(name)))
        for number, kind in enumerate(kinds):
            weights += _block_weights(Block(config, kind.layer), config, kind, number)
    return Parameters(config, kinds, tuple(weights))


def _block_weights(block: nn.Module, config: ModelConfig, kind: BlockKind, number: int) -> Iterator[Weight]:
    """The experts of a mixture are alike: told once."""
    experts = config.experts
    for name, parameter in block.named_parameters():
        copies, active = kind.count, 1.0
        if name.startswith("feed_forward.experts."):
            assert experts is not None
            if not name.startswith("feed_forward.experts.0."):
                continue
            copies, active = kind.count * experts.count, experts.per_token / experts.count
        yield Weight(f"blocks.{kind.layer}.{name}", tuple(parameter.shape), _part(name), copies, active, number)


def _part(name: str) -> str:
    if name.startswith(("feed_forward.experts", "feed_forward.router", "feed_forward.shared")):
        return "experts"
    if "norm" in name:
        return "norms"
    if name.startswith("embed"):
        return "embedding"
    if name.startswith(("attention", "relative")):
        return "attention"
    return "feed-forward" if name.startswith("feed_forward") else "head"


# --- FLOPs


@dataclass(frozen=True)
class Flops:
    """FLOPs of one token's forward pass; training takes three times as many (one forward pass, two products backward)."""

    weights: float
    attention: float

    @property
    def forward(self) -> float:
        return self.weights + self.attention

    @property
    def training(self) -> float:
        return 3 * self.forward


def count_flops(config: ModelConfig, context: int) -> Flops:
    """Of a token in rows of `context` tokens: two for each weight it is multiplied by, and attention's scores and sums over
    what a token sees: in an encoder the whole row, else half of it on average. Agrees with `Transformer.flops_per_token`.

    Like the literature's 6 N it leaves out norms, activations and the softmax (about a hundredth).
    """
    found = count_parameters(config)
    tied = config.vocab_size * config.dim if config.tie_embeddings and config.head != "none" else 0
    weights = 2.0 * (sum(w.size * w.copies * w.active for w in found.weights if w.multiplies) + tied)
    sizes = config.head_dim + (config.latent.value_dim if config.latent else config.head_dim)  # of a key and of a value
    seen = context / 2 if config.causal else context
    return Flops(weights, 2.0 * config.layers * config.heads * sizes * seen)
