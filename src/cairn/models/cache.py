"""Keys and values of tokens already seen, kept in pages, so that a new token costs one position instead of the whole text.

A page holds the same few positions of all layers. A sequence is a list of pages in any order, as in the virtual memory
of an operating system (Kwon et al. 2023): nothing is reserved ahead, and sequences may share pages.

Shapes: N new tokens of all sequences, H query heads, G key/value heads, K size of a head, P positions, S = pages * size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cairn.models.attention import Rule, attend
from cairn.models.config import ModelConfig

PAGE = 16  # positions of a page
SHORT = 8  # new tokens of a sequence up to which they are attended to one by one
THREADED = 1 << 20  # products of queries and keys from which a second thread repays its start


@dataclass(frozen=True)
class Segment:
    """New tokens of one sequence: `count` of them from position `start`, and the pages of the whole sequence."""

    pages: Sequence[int]
    start: int
    count: int


class PagedCache:
    """Keys and values of `pages` pages of PAGE positions each. Which page belongs to whom is for the caller to say."""

    def __init__(
        self,
        config: ModelConfig,
        pages: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        if config.positions == "relative":
            raise ValueError("pages know no relative biases: T5 writes with EncoderDecoder.generate")
        heads, key, value = config.cache_shape
        places = pages * PAGE
        self.pages, self.device = pages, torch.device(device)
        self.k_SGK = [torch.zeros(places, heads, key, device=device, dtype=dtype) for _ in range(config.layers)]
        self.v_SGK = (
            [torch.zeros(places, heads, value, device=device, dtype=dtype) for _ in range(config.layers)]
            if value
            else self.k_SGK
        )

    @staticmethod
    def page_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
        """What one page costs."""
        heads, key, value = config.cache_shape
        return PAGE * heads * (key + value) * config.layers * dtype.itemsize

    def step(self, segments: Sequence[Segment]) -> "CacheStep":
        """Prepare one forward pass over the new tokens of several sequences, laid end to end: ids of shape (1, N)."""
        for segment in segments:
            if segment.start < 0 or (segment.start + segment.count) > len(segment.pages) * PAGE:
                raise ValueError(f"{segment.start} + {segment.count} tokens do not fit {len(segment.pages)} pages")
        return CacheStep(self, segments)

    def copy_page(self, source: int, target: int) -> None:
        """Copy a page: a sequence that branches off writes into its own."""
        stores = self.k_SGK if self.v_SGK is self.k_SGK else self.k_SGK + self.v_SGK
        for store in stores:
            store[target * PAGE : (target + 1) * PAGE] = store[source * PAGE : (source + 1) * PAGE]


class CacheStep:
    """One forward pass over a `PagedCache`: where the new tokens go and what they attend to."""

    def __init__(self, cache: PagedCache, segments: Sequence[Segment]):
        self.cache, self.segments = cache, segments
        width = max(len(s.pages) for s in segments)
        self.table_RP = np.zeros((len(segments), width), dtype=np.int64)
        for row, segment in zip(self.table_RP, segments):
            row[: len(segment.pages)] = segment.pages
        if self.table_RP.min() < 0 or self.table_RP.max() >= cache.pages:  # kernels read where they are told to
            raise IndexError(f"a page is outside the {cache.pages} of the cache: {self.table_RP.tolist()}")
        counts = np.array([s.count for s in segments])
        self.row_N = np.repeat(np.arange(len(segments)), counts)
        first = np.cumsum(counts) - counts
        starts = np.array([s.start for s in segments])
        self.position_N = (np.arange(int(counts.sum())) - first[self.row_N]) + starts[self.row_N]
        place_N = self.table_RP[self.row_N, self.position_N // PAGE] * PAGE + self.position_N % PAGE
        self.position_BT = torch.from_numpy(self.position_N)[None].to(cache.device)
        self.place_N = torch.from_numpy(place_N).to(cache.device)
        self.longest = int((starts + counts).max())
        # (first token, segment): many new tokens are one matrix product, few are read off page by page.
        self.long = [(int(f), s) for f, s in zip(first, segments) if s.count > SHORT]
        self.short_N = np.flatnonzero((counts <= SHORT)[self.row_N])

    @property
    def lengths(self) -> torch.Tensor:
        """How long the sequence of each new token is with this step: (1, N)."""
        ends = [s.start + s.count for s in self.segments for _ in range(s.count)]
        return torch.tensor(ends, device=self.cache.device)[None]

    def attend(
        self, layer: int, q_1NHK: torch.Tensor, k_1NGK: torch.Tensor, v_1NGK: torch.Tensor | None, rule: Rule
    ) -> torch.Tensor:
        """Store the new keys and values of `layer` and attend to all of each token's sequence: (1, N, H, value width).

        v None: values are the beginning of the keys, as wide as `rule.value_width`.
        """
        k_SGK, v_SGK = self.cache.k_SGK[layer], self.cache.v_SGK[layer]
        k_SGK[self.place_N] = k_1NGK[0].to(k_SGK.dtype)
        if v_1NGK is not None:
            v_SGK[self.place_N] = v_1NGK[0].to(v_SGK.dtype)
        q_NHK = q_1NHK[0]
        value_width = rule.value_width or v_SGK.shape[-1]
        if not self.long:
            return self._attend_short(q_NHK, k_SGK, v_SGK[..., :value_width], rule)[None]
        z_NHK = q_NHK.new_empty(*q_NHK.shape[:2], value_width)
        for first, segment in self.long:
            end = first + segment.count
            z_NHK[first:end] = self._attend_long(q_NHK[first:end], segment, k_SGK, v_SGK[..., :value_width], rule)
        if len(self.short_N):
            short = torch.from_numpy(self.short_N).to(q_NHK.device)
            z_NHK[short] = self._attend_short(q_NHK[short], k_SGK, v_SGK[..., :value_width], rule)
        return z_NHK[None]

    def _attend_long(
        self, q_THK: torch.Tensor, segment: Segment, k_SGK: torch.Tensor, v_SGK: torch.Tensor, rule: Rule
    ) -> torch.Tensor:
        end = segment.start + segment.count
        key_P = torch.arange(end, device=q_THK.device)
        pages = torch.tensor(segment.pages, device=q_THK.device)
        place_P = pages[key_P // PAGE] * PAGE + key_P % PAGE
        query_T = key_P[segment.start :]
        whole = segment.start == 0 and not (rule.window or rule.cap or rule.alibi)
        mask = None if whole else rule.sees(query_T[None], key_P[None])
        k, v = k_SGK[place_P][None].to(q_THK.dtype), v_SGK[place_P][None].to(q_THK.dtype)
        return attend(q_THK[None], k, v, rule, mask_BTP=mask, bias_HTP=rule.bias(query_T, key_P, q_THK.dtype))[0]

    def _attend_short(self, q_NHK: torch.Tensor, k_SGK: torch.Tensor, v_SGK: torch.Tensor, rule: Rule) -> torch.Tensor:
        if q_NHK.device.type == "cpu" and q_NHK.dtype == k_SGK.dtype == torch.float32 and not torch.is_grad_enabled():
            return self._attend_by_kernel(q_NHK, k_SGK, v_SGK, rule)
        place_NP, key_P = self._places
        query_N1 = self.position_BT[0][torch.from_numpy(self.short_N).to(q_NHK.device)][:, None]
        mask = rule.sees(query_N1, key_P.expand(len(query_N1), -1))
        k, v = k_SGK[place_NP].to(q_NHK.dtype), v_SGK[place_NP].to(q_NHK.dtype)
        bias = rule.bias(query_N1[:, 0], key_P, q_NHK.dtype)  # ALiBi's is the same for every query: (H, 1, P)
        return attend(q_NHK[:, None], k, v, rule, mask_BTP=mask, bias_HTP=bias)[:, 0]

    @cached_property
    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the sequences of the short segments' tokens lie (N, P), and the positions (P,)."""
        key_P = np.arange(self.longest)
        rows = self.table_RP[self.row_N[self.short_N]]
        place_NP = rows[:, key_P // PAGE] * PAGE + key_P % PAGE
        return torch.from_numpy(place_NP).to(self.cache.device), torch.from_numpy(key_P).to(self.cache.device)

    def _attend_by_kernel(
        self, q_NHK: torch.Tensor, k_SGK: torch.Tensor, v_SGK: torch.Tensor, rule: Rule
    ) -> torch.Tensor:
        from cairn.kernels.attention import attend_pages
        from cairn.kernels.threads import in_parts

        z_NHK = torch.empty(*q_NHK.shape[:2], v_SGK.shape[-1])
        bias_HP = self._no_bias if rule.alibi is None else rule.alibi.of_keys(self.longest).numpy()
        arrays = q_NHK.contiguous().numpy(), k_SGK.numpy(), v_SGK.numpy(), self._short_rows, self._short_positions
        rest = self.table_RP, PAGE, rule.scale, rule.window, rule.sinks, rule.cap, bias_HP, z_NHK.numpy()
        count = len(self.short_N) * k_SGK.shape[1]
        work = int(self._short_positions.sum()) * q_NHK.shape[1] * q_NHK.shape[2]
        threads = torch.get_num_threads() if work >= THREADED else 1
        in_parts(lambda first, last: attend_pages(*arrays, *rest, first, last), count, threads)
        return z_NHK

    _no_bias = np.zeros((0, 0), dtype=np.float32)

    @cached_property
    def _short_rows(self) -> np.ndarray:
        return self.row_N[self.short_N]

    @cached_property
    def _short_positions(self) -> np.ndarray:
        return self.position_N[self.short_N]
