"""What all layers of one forward pass share, computed once: positions, rotary tables, masks, the cache.

Shapes: B batch, T tokens, H heads, K size of a head.
"""

from typing import TYPE_CHECKING, Protocol

import torch

from cairn.models.positions import Rope, Tables

if TYPE_CHECKING:
    from cairn.models.attention import Rule
    from cairn.models.cross import Memory


class Step(Protocol):
    """One forward pass over a cache: stores keys and values of the new tokens and attends to those before as well."""

    position_BT: torch.Tensor

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor | None, rule: "Rule", /
    ) -> torch.Tensor: ...


class Context:
    """position_BT: where each token stands, (1, T) when all rows agree. real_BT: False where a row is padding.
    document_BT: the document of each token, where a row holds several: none sees another.

    rope / local_rope: rotary positions of layers without and with a window. memory: the encoder's states that a decoder
    attends to as well.
    """

    def __init__(
        self,
        position_BT: torch.Tensor,
        *,
        real_BT: torch.Tensor | None = None,
        document_BT: torch.Tensor | None = None,
        step: Step | None = None,
        memory: "Memory | None" = None,
        rope: Rope | None = None,
        local_rope: Rope | None = None,
    ):
        self.position_BT, self.real_BT, self.step, self.memory = position_BT, real_BT, step, memory
        self.document_BT = document_BT
        lengths_BT = None
        if rope is not None and rope.dynamic:  # texts that lie end to end each have a length of their own
            lengths_BT = getattr(step, "lengths", None) if document_BT is None else self.together().sum(-1)
        self._tables = None if rope is None else rope.tables(position_BT, lengths_BT)
        self._local = self._tables if local_rope is None else local_rope.tables(position_BT, lengths_BT)
        self._masks: dict[tuple[bool, int, int], torch.Tensor | None] = {}
        self._biases: dict[object, torch.Tensor | None] = {}

    def together(self) -> torch.Tensor:
        """(B, T, T): do two tokens belong to the same document?"""
        assert self.document_BT is not None
        return self.document_BT[:, :, None] == self.document_BT[:, None, :]

    def rope(self, window: int) -> Tables | None:
        return self._local if window else self._tables

    def mask(self, rule: "Rule") -> torch.Tensor | None:
        """(B, T, T) of what each token sees, or None where a plain causal (or full) attention says it."""
        key = rule.causal, rule.window, rule.sinks
        if key not in self._masks:
            mask = None
            # T5's and ALiBi's biases take the place of the causal flag in fused attention: they need the mask as well.
            written = rule.window or self.real_BT is not None or self.document_BT is not None
            if written or (rule.causal and (rule.alibi or rule.relative or rule.cap)):
                mask = rule.sees(self.position_BT, self.position_BT)
                if self.document_BT is not None:
                    mask = mask & self.together()
                if self.real_BT is not None:
                    # A padded token sees itself, so that its row of the softmax is not empty.
                    itself = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
                    mask = mask & (self.real_BT[:, None, :] | itself)
            self._masks[key] = mask
        return self._masks[key]

    def bias(self, rule: "Rule", dtype: torch.dtype) -> torch.Tensor | None:
        """(H, T, T) of the rule's bias; a stack that shares one computes it once."""
        source = rule.relative or rule.alibi
        if source is None:
            return None
        if source not in self._biases:
            # Both biases go by distance alone: places in the row serve, also where positions begin again with a document.
            place_T = torch.arange(self.position_BT.shape[-1], device=self.position_BT.device)
            self._biases[source] = rule.bias(place_T, place_T, dtype)
        return self._biases[source]
