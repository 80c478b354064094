"""Encoder and decoder: one Transformer reads a text, another writes one and looks at what the first made of it.

The Transformer of Vaswani et al. 2017 and T5 (Raffel et al. 2020). Shapes: B batch, S tokens that are read, T tokens that
are written, P positions in the cache, D width, V vocabulary, H query heads, G key/value heads, K size of a head.
"""

from collections.abc import Collection
from dataclasses import replace

import torch

from cairn.core.errors import UserError
from cairn.models.attention import Rule, attend
from cairn.models.config import ModelConfig
from cairn.models.cross import Memory
from cairn.models.model import Model
from cairn.models.transformer import Transformer


def build_model(config: ModelConfig) -> "Transformer | EncoderDecoder":
    """The model that a configuration describes."""
    return EncoderDecoder(config) if config.encoder_layers else Transformer(config)


def check_decoder(model: "Transformer | EncoderDecoder") -> None:
    """Raises UserError unless the model predicts a text's next token: what base training, chat and evaluation need."""
    config = model.config
    if not config.causal or config.encoder_layers or config.head == "none":
        raise UserError(
            f"a {config.family} model does not generate text from left to right: take a decoder "
            "(an encoder gives texts as vectors: cairn serve DIR --embeddings THIS)"
        )


class EncoderDecoder(Model):
    """`model(ids_BS, decoder_ids_BT)` gives logits (B, T, V): position t of the decoder predicts its token t + 1.

    The decoder's texts begin with `config.start_id`. Both stacks share the embedding. Equal to `transformers`' models of
    the same family.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        if not config.encoder_layers:
            raise UserError("an encoder-decoder needs encoder_layers")
        self.config = config
        self.encoder = Transformer(
            replace(config, layers=config.encoder_layers, encoder_layers=0, causal=False, head="none")
        )
        self.decoder = Transformer(config)
        self.encoder.embed.weight = self.decoder.embed.weight

    def initialize(self, seed: int) -> "EncoderDecoder":
        """Fresh weights, see `Transformer.initialize`; the embedding is the decoder's."""
        self.encoder.initialize(seed)
        self.decoder.initialize(seed + 1)
        return self

    def encode(self, ids_BS: torch.Tensor, mask_BS: torch.Tensor | None = None) -> Memory:
        """What the decoder reads. mask_BS: False at padding, which may stand on the right."""
        if mask_BS is not None:
            mask_BS = mask_BS.bool()
            if not bool(mask_BS.any(dim=1).all()):
                raise ValueError("a row of mask_BS is padding alone: an encoder needs a token to read")
        return Memory(self.encoder.hidden(ids_BS, mask_BT=mask_BS), mask_BS)

    def forward(
        self, ids_BS: torch.Tensor, decoder_ids_BT: torch.Tensor, mask_BS: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.decoder(decoder_ids_BT, memory=self.encode(ids_BS, mask_BS))

    @torch.inference_mode()
    def generate(
        self,
        ids_BS: torch.Tensor,
        max_tokens: int,
        *,
        mask_BS: torch.Tensor | None = None,
        stop_ids: Collection[int] = (),
        banned_ids: Collection[int] = (),
    ) -> list[list[int]]:
        """The likeliest next token, again and again, until one of stop_ids, which is the last of a row, or max_tokens.

        banned_ids are never chosen (Marian's padding). A row that has ended leaves the batch.
        """
        memory = self.encode(ids_BS, mask_BS)
        written: list[list[int]] = [[] for _ in ids_BS]
        rows = list(range(len(ids_BS)))  # those still being written
        banned = torch.tensor(sorted(banned_ids), dtype=torch.long, device=ids_BS.device)
        last_B1 = ids_BS.new_full((len(rows), 1), self.config.start_id)
        cache = DecoderCache(self.config)
        for _ in range(min(max_tokens, self.decoder.longest)):
            logits_BV = self.decoder(last_B1, cache.step(last_B1), memory=memory)[:, -1]
            last_B1 = logits_BV.index_fill(1, banned, float("-inf")).argmax(dim=-1, keepdim=True)
            for row, token in zip(rows, last_B1[:, 0].tolist()):
                written[row].append(token)
            going = [i for i, row in enumerate(rows) if written[row][-1] not in stop_ids]
            if len(going) < len(rows):
                rows = [rows[i] for i in going]
                chosen = torch.tensor(going, dtype=torch.long, device=ids_BS.device)
                last_B1, memory, cache = last_B1[chosen], memory.select(chosen), cache.select(chosen)
            if not rows:
                break
        return written

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token of the decoder, whose encoder reads about as many."""
        return self.encoder.flops_per_token(context) + self.decoder.flops_per_token(context)


class DecoderCache:
    """Keys and values of what the decoder has written, for rows that all stand at the same position.

    Nothing is paged as in `PagedCache`: the rows begin together, at the start token, and one that ends leaves.
    """

    def __init__(self, config: ModelConfig):
        self.kept: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * config.layers
        self.length = 0
        self.position_BT = torch.zeros(1, 0, dtype=torch.long)

    def step(self, ids_BT: torch.Tensor) -> "DecoderCache":
        """Prepare a forward pass over new tokens."""
        end = self.length + ids_BT.shape[1]
        self.position_BT = torch.arange(self.length, end, device=ids_BT.device)[None]
        self.length = end
        return self

    def select(self, rows: torch.Tensor) -> "DecoderCache":
        self.kept = [None if kept is None else (kept[0][rows], kept[1][rows]) for kept in self.kept]
        return self

    def attend(
        self,
        layer: int,
        q_BTHK: torch.Tensor,
        k_BTGK: torch.Tensor,
        v_BTGK: torch.Tensor | None,
        rule: Rule,
        /,
    ) -> torch.Tensor:
        """Keep the new keys and values of `layer` and attend to all of them: (B, T, H, K)."""
        assert v_BTGK is not None  # latent attention alone has no values of its own
        kept = self.kept[layer]
        k_BPGK = k_BTGK if kept is None else torch.cat([kept[0], k_BTGK], dim=1)
        v_BPGK = v_BTGK if kept is None else torch.cat([kept[1], v_BTGK], dim=1)
        self.kept[layer] = k_BPGK, v_BPGK
        query_T, key_P = self.position_BT[0], torch.arange(self.length, device=q_BTHK.device)
        return attend(
            q_BTHK,
            k_BPGK,
            v_BPGK,
            rule,
            mask_BTP=rule.sees(query_T[None], key_P[None]),
            bias_HTP=rule.bias(query_T, key_P, q_BTHK.dtype),
        )
