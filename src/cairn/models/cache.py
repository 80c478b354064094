"""Keys and values of tokens already seen, so that a new token costs one position instead of the whole text.

Shapes: S slots (one running sequence each), H key/value heads, P positions, K size of a head.
"""

import torch

from cairn.models.config import ModelConfig


class KVCache:
    """Preallocated keys and values for `slots` sequences of at most `positions` tokens; `lengths` says how full each is.

    Slots in use are kept at the front: `attend` works on the first rows as a view, without gathering.
    """

    def __init__(
        self,
        config: ModelConfig,
        slots: int,
        positions: int | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        positions = positions or config.max_positions
        shape = (slots, config.kv_heads, positions, config.head_dim)
        self.k_SHPK = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.v_SHPK = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.slots, self.positions = slots, positions

    def step(self, first: int, rows: int, tokens: int) -> "CacheStep":
        """Prepare to append `tokens` tokens to each of the slots first .. first + rows - 1."""
        start = self.lengths[first : first + rows]
        position_BT = start[:, None] + torch.arange(tokens, device=start.device)
        reach = int(position_BT.max()) + 1
        if reach > self.positions:
            raise ValueError(f"{reach} tokens do not fit the cache of {self.positions} positions")
        return CacheStep(self, first, rows, position_BT, reach)

    def move(self, source: int, target: int) -> None:
        """Copy slot `source` over slot `target`, to keep the slots in use contiguous."""
        used = int(self.lengths[source])
        for store in (self.k_SHPK, self.v_SHPK):
            for layer in store:
                layer[target, :, :used] = layer[source, :, :used]
        self.lengths[target] = used


class CacheStep:
    """One forward pass over a `KVCache`: what each attention layer needs, computed once for all layers."""

    def __init__(self, cache: KVCache, first: int, rows: int, position_BT: torch.Tensor, reach: int):
        self.cache, self.first, self.rows, self.reach = cache, first, rows, reach
        self.position_BT = position_BT
        self.slot_B1 = torch.arange(first, first + rows, device=position_BT.device)[:, None]
        # A token sees itself and what is before it. Beyond a row's own length lies stale or padded content, never seen.
        column_P = torch.arange(reach, device=position_BT.device)
        self.mask_B1TP = (column_P <= position_BT[:, :, None])[:, None]

    def append(self, layer: int, k_BHTK: torch.Tensor, v_BHTK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values of `layer`; returns all of them, (B, H, reach, K)."""
        rows = slice(self.first, self.first + self.rows)
        out = []
        for store, new in ((self.cache.k_SHPK[layer], k_BHTK), (self.cache.v_SHPK[layer], v_BHTK)):
            store[self.slot_B1, :, self.position_BT] = new.transpose(1, 2).to(store.dtype)
            out.append(store[rows, :, : self.reach].to(new.dtype))
        return out[0], out[1]

    def advance(self, counts: torch.Tensor) -> None:
        """Say how many of the appended tokens of each row were real (the rest was padding)."""
        self.cache.lengths[self.first : self.first + self.rows] += counts
