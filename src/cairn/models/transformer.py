"""The one Transformer that every stage trains, runs and looks into.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

from cairn.models.attention import Attention
from cairn.models.config import ModelConfig
from cairn.models.context import Context, Step
from cairn.models.cross import CrossAttention, Memory
from cairn.models.feedforward import ACTIVATIONS, build_feed_forward
from cairn.models.linear import Linear
from cairn.models.model import Model
from cairn.models.norms import build_norm
from cairn.models.positions import RelativeBias, Rope, sinusoids
from cairn.models.recompute import run_block


class Block(nn.Module):
    """Attention (then cross-attention, in a decoder with an encoder) and a feed-forward layer, each added to the residual
    stream.

    norm_place pre: x + layer(norm(x)); post: norm(x + layer(x)); sandwich: x + norm'(layer(norm(x))); output:
    x + norm'(layer(x)). parallel: x + attention(norm(x)) + feed_forward(norm'(x)).
    """

    def __init__(self, config: ModelConfig, layer: int, *, relative: RelativeBias | None = None):
        super().__init__()
        self.place, self.parallel = config.norm_place, config.parallel
        if self.place != "output" and (layer > 0 or config.first_norm):
            self.norm_attention = build_norm(config)
        self.attention = build_attention(config, layer, relative)
        if self.place in ("sandwich", "output"):
            self.norm_attention_out = build_norm(config)
        self.crosses = config.encoder_layers > 0
        if self.crosses:
            self.norm_cross = build_norm(config)
            self.cross = CrossAttention(config, layer)
        if self.place != "output" and not config.shared_norm:
            self.norm_feed_forward = build_norm(config)
        self.feed_forward = build_feed_forward(config, layer)
        if self.place in ("sandwich", "output"):
            self.norm_feed_forward_out = build_norm(config)
        self.first_norm, self.shared_norm = layer > 0 or config.first_norm, config.shared_norm
        self.dropout = nn.Dropout(0.0)  # on what a layer writes to the residual stream

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        drop = self.dropout
        if self.place == "pre":
            normed_BTD = self.norm_attention(x_BTD) if self.first_norm else x_BTD
            attended_BTD = drop(self.attention(normed_BTD, context))
            if self.parallel:
                normed_BTD = normed_BTD if self.shared_norm else self.norm_feed_forward(x_BTD)
                return x_BTD + attended_BTD + drop(self.feed_forward(normed_BTD))
            x_BTD = x_BTD + attended_BTD
            if self.crosses:
                x_BTD = x_BTD + drop(self.cross(self.norm_cross(x_BTD), context))
            return x_BTD + drop(self.feed_forward(self.norm_feed_forward(x_BTD)))
        if self.place == "post":
            x_BTD = self.norm_attention(x_BTD + drop(self.attention(x_BTD, context)))
            if self.crosses:
                x_BTD = self.norm_cross(x_BTD + drop(self.cross(x_BTD, context)))
            return self.norm_feed_forward(x_BTD + drop(self.feed_forward(x_BTD)))
        normed_BTD = self.norm_attention(x_BTD) if self.place == "sandwich" else x_BTD
        x_BTD = x_BTD + drop(self.norm_attention_out(self.attention(normed_BTD, context)))
        normed_BTD = self.norm_feed_forward(x_BTD) if self.place == "sandwich" else x_BTD
        return x_BTD + drop(self.norm_feed_forward_out(self.feed_forward(normed_BTD)))


def build_attention(config: ModelConfig, layer: int, relative: RelativeBias | None = None) -> nn.Module:
    """The attention of block `layer`: with keys and values of its own, or latent."""
    if config.latent is not None:
        from cairn.models.latent import LatentAttention

        return LatentAttention(config, layer)
    return Attention(config, layer, relative=relative)


class MaskedTransform(nn.Module):
    """norm(activation(dense(x))): what BERT puts before its unembedding."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = Linear(config.dim, config.dim, bias=config.transform_bias)
        self.norm = build_norm(config)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.norm(self.activation(self.dense(x_BTD)))


class Unembed(Linear):
    """Logits from the normalised residual stream: one matrix, its scale and cap, or BERT's transform before it."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.dim, config.vocab_size, bias=config.head_bias)
        self.scale, self.cap = config.logit_scale, config.logit_cap
        self.transform = MaskedTransform(config) if config.head == "masked" else None

    def prepare(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the matrix multiplies."""
        if self.transform is not None:
            hidden = self.transform(hidden)
        return hidden * self.scale if self.scale != 1.0 else hidden

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        logits = super().forward(self.prepare(input))
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits


class Transformer(Model):
    """`model(ids_BT)` gives logits (B, T, V); in a decoder position t predicts token t + 1.

    An encoder without a head (`config.head` "none") gives hidden states (B, T, D). Equal to `transformers`' models of the
    same family.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.recompute = "none"  # what blocks compute again in the backward pass, see recompute.py
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.dropout = nn.Dropout(0.0)
        if config.positions == "learned":
            self.embed_position = nn.Embedding(config.max_positions + config.position_offset, config.dim)
        if config.token_types:
            self.embed_type = nn.Embedding(config.token_types, config.dim)
        if config.embed_norm:
            self.embed_norm = build_norm(config)
        relative = None
        if config.positions == "relative":
            settings = config.relative_buckets, config.relative_distance, not config.causal
            self.relative = relative = RelativeBias(config.heads, *settings)
        self.blocks = nn.ModuleList(Block(config, layer, relative=relative) for layer in range(config.layers))
        if config.final_norm:
            self.norm = build_norm(config)
        if config.head != "none":
            self.unembed = Unembed(config)
            if config.tie_embeddings:
                self.unembed.weight = self.embed.weight
        if config.pooler:
            self.pooler = Linear(config.dim, config.dim)
        self._rope = Rope(config, config.rope_theta) if config.positions == "rope" else None
        local = config.positions == "rope" and config.rope_local_theta
        self._local_rope = Rope(config, config.rope_local_theta) if local else None

    def initialize(self, seed: int) -> "Transformer":
        """Fresh weights: normal with deviation 0.02, the two writers to the residual stream scaled by 1/sqrt(2 layers)
        (GPT-2). Drawn on the CPU in the order of names, so that a seed gives the same model on every device."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    zero = name.endswith("bias") or self.config.norm_offset
                    parameter.fill_(0.0 if zero else 1.0)
                    continue
                scale = 1 / math.sqrt(2 * self.config.layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02 * scale)
        return self

    def embed_tokens(
        self,
        ids_BT: torch.Tensor,
        step: Step | None = None,
        *,
        mask_BT: torch.Tensor | None = None,
        document_BT: torch.Tensor | None = None,
        types_BT: torch.Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[torch.Tensor, Context]:
        """The residual stream before the first block, and what the blocks share."""
        context = self.context(ids_BT, step, mask_BT=mask_BT, document_BT=document_BT, memory=memory)
        position_BT = context.position_BT
        x_BTD = self.embed(ids_BT)
        if self.config.embed_scale != 1.0:
            # Rounded to the type of the stream first, as Gemma was trained.
            x_BTD = x_BTD * torch.tensor(self.config.embed_scale, dtype=x_BTD.dtype, device=x_BTD.device)
        if self.config.positions == "learned":
            x_BTD = x_BTD + self.embed_position(position_BT + self.config.position_offset)
        elif self.config.positions == "sinusoidal":
            x_BTD = x_BTD + sinusoids(position_BT, self.config.dim).to(x_BTD.dtype)
        if self.config.token_types:
            x_BTD = x_BTD + self.embed_type(torch.zeros_like(ids_BT) if types_BT is None else types_BT)
        if self.config.embed_norm:
            x_BTD = self.embed_norm(x_BTD)
        x_BTD = self.dropout(x_BTD)
        return x_BTD, context

    def context(
        self,
        ids_BT: torch.Tensor,
        step: Step | None = None,
        *,
        mask_BT: torch.Tensor | None = None,
        document_BT: torch.Tensor | None = None,
        memory: Memory | None = None,
    ) -> Context:
        """What the blocks share; of the ids it takes their shape alone."""
        T = ids_BT.shape[1]
        if step is not None:
            position_BT = step.position_BT
        else:
            if self.longest < T:
                raise ValueError(f"{T} tokens are more than the model's {self.longest} positions")
            position_BT = torch.arange(T, device=ids_BT.device)[None]
            if document_BT is not None:
                position_BT = position_BT - document_starts(document_BT)
        return Context(
            position_BT,
            real_BT=mask_BT,
            document_BT=document_BT,
            step=step,
            memory=memory,
            rope=self._rope,
            local_rope=self._local_rope,
        )

    @property
    def longest(self) -> int:
        """Tokens that fit at most: dynamic rotary scaling goes beyond max_positions, relative positions have no end."""
        if self.config.positions == "relative":
            return sys.maxsize
        scaling = self.config.rope_scaling
        if scaling is not None and scaling.kind == "dynamic":
            return int(self.config.max_positions * scaling.factor)
        return self.config.max_positions

    def hidden(
        self,
        ids_BT: torch.Tensor,
        step: Step | None = None,
        *,
        mask_BT: torch.Tensor | None = None,
        document_BT: torch.Tensor | None = None,
        types_BT: torch.Tensor | None = None,
        memory: Memory | None = None,
    ) -> torch.Tensor:
        """The normalised residual stream (B, T, D) that the unembedding reads.

        step: the new tokens of several sequences laid end to end (1, N), see `PagedCache`. mask_BT: False at padding, which
        a decoder padded on the right can do without. document_BT: the document of each token, where a row holds several end
        to end: positions begin again with each, and no token sees another document's. types_BT: BERT's segments. memory: what
        an encoder gave, for the decoder of an encoder-decoder.
        """
        x_BTD, context = self.embed_tokens(
            ids_BT, step, mask_BT=mask_BT, document_BT=document_BT, types_BT=types_BT, memory=memory
        )
        for block in self.blocks:
            x_BTD = run_block(block, x_BTD, context, self.recompute)
        return self.norm(x_BTD) if self.config.final_norm else x_BTD

    def forward(
        self,
        ids_BT: torch.Tensor,
        step: Step | None = None,
        *,
        mask_BT: torch.Tensor | None = None,
        document_BT: torch.Tensor | None = None,
        types_BT: torch.Tensor | None = None,
        memory: Memory | None = None,
    ) -> torch.Tensor:
        hidden_BTD = self.hidden(
            ids_BT, step, mask_BT=mask_BT, document_BT=document_BT, types_BT=types_BT, memory=memory
        )
        return hidden_BTD if self.config.head == "none" else self.unembed(hidden_BTD)

    def pooled(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """BERT's summary of a text (B, D): tanh of a layer on the first token's state."""
        return torch.tanh(self.pooler(hidden_BTD[:, 0]))

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token: 6 a weight that multiplies, plus attention's 6 * layers * heads * (K + V) * context of an
        encoder, half of that where a token sees only what came before it. K, V: size of a key and of a value.

        Of a mixture's experts only those count that a token goes to.
        """
        weights = sum(p.numel() for name, p in self.named_parameters() if p.ndim >= 2 and not name.startswith("embed"))
        if self.config.tie_embeddings and self.config.head != "none":
            weights += self.embed.weight.numel()
        if self.config.experts is not None:
            routed = sum(p.numel() for name, p in self.named_parameters() if ".experts." in name and p.ndim >= 2)
            weights -= routed * (1 - self.config.experts.per_token / self.config.experts.count)
        latent = self.config.latent
        sizes = self.config.head_dim + (latent.value_dim if latent else self.config.head_dim)
        seen = context / 2 if self.config.causal else context
        return 6.0 * weights + 6 * self.config.layers * self.config.heads * sizes * seen


def document_starts(document_BT: torch.Tensor) -> torch.Tensor:
    """(B, T): the place in its row where the document of each token begins.

    >>> document_starts(torch.tensor([[0, 0, 1, 1, 1, 2]])).tolist()
    [[0, 0, 2, 2, 2, 5]]
    """
    place_T = torch.arange(document_BT.shape[1], device=document_BT.device)
    begins_BT = F.pad(document_BT[:, 1:] != document_BT[:, :-1], (1, 0))
    return (place_T * begins_BT).cummax(dim=1).values
