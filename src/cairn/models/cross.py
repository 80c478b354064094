"""Cross-attention: how a decoder reads what an encoder made of another text (Vaswani et al. 2017).

Shapes: B batch, T tokens of the decoder, S tokens of the encoder, D width, H query heads, G key/value heads, K size of a
head.
"""

import torch

from cairn.models.attention import Attention, Rule, attend
from cairn.models.config import ModelConfig
from cairn.models.context import Context


class Memory:
    """The encoder's states (B, S, D); real_BS is False where a row is padding, and has a True in every row.

    Keys and values of a layer are made when it is first asked for them, then kept: they are the same for every new token.
    """

    def __init__(self, states_BSD: torch.Tensor, real_BS: torch.Tensor | None = None):
        self.states_BSD, self.real_BS = states_BSD, real_BS
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def keys_values(self, cross: "CrossAttention") -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer: each (B, S, G, K)."""
        if cross.layer not in self._made:
            self._made[cross.layer] = cross.make(self.states_BSD)
        return self._made[cross.layer]

    def select(self, rows: torch.Tensor) -> "Memory":
        """The memory of some rows, in that order; a row may come more than once."""
        chosen = Memory(self.states_BSD[rows], None if self.real_BS is None else self.real_BS[rows])
        chosen._made = {layer: (k[rows], v[rows]) for layer, (k, v) in self._made.items()}
        return chosen


class CrossAttention(Attention):
    """Queries from the decoder, keys and values from `context.memory`; no positions and no mask but the padding's."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.rule = Rule(self.rule.scale, causal=False)

    def make(self, states_BSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = *states_BSD.shape[:2], self.kv_heads, self.head_dim
        return self.k(states_BSD).view(shape), self.v(states_BSD).view(shape)

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        if context.memory is None:
            raise ValueError("the decoder of an encoder-decoder needs the encoder's states: pass memory")
        q_BTHK = self.q(x_BTD).unflatten(-1, (self.heads, self.head_dim))
        k_BSGK, v_BSGK = context.memory.keys_values(self)
        real_BS = context.memory.real_BS
        mask_B1S = None if real_BS is None else real_BS[:, None]
        return self.out(attend(q_BTHK, k_BSGK, v_BSGK, self.rule, mask_BTP=mask_B1S).flatten(2))
