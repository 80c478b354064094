"""Where guesses for speculative decoding come from: the text itself, or a smaller model."""

from collections.abc import Sequence
from typing import Protocol

import torch

from cairn.core.compute import free_memory
from cairn.core.errors import UserError
from cairn.inference.pages import PagePool
from cairn.inference.speculative import NgramDraft
from cairn.models import PAGE, PagedCache, Segment, Transformer

Ready = tuple[int, list[int], int]  # request id, its tokens so far, how many guesses are of use at most


PASS_COST = 0.2  # of one more row in a pass of the model, as a part of the pass: measured 0.05 (124M) to 0.3 (1M)


class Draft(Protocol):
    """tokens: guesses at a time at most. cost: what a further guess costs, to make and to check, as a part of a pass of the
    model."""

    tokens: int
    cost: float

    def propose(self, requests: Sequence[Ready]) -> dict[int, list[int]]:
        """Guesses of what follows, by request id."""
        ...

    def forget(self, request: int) -> None:
        """A request is over."""
        ...


class Lookup:
    """What followed the latest tokens when they occurred before, in the request's own prompt and answer."""

    def __init__(self, size: int = 3, tokens: int = 5):
        self.size, self.tokens, self.cost = size, tokens, PASS_COST
        self._drafts: dict[int, NgramDraft] = {}

    def propose(self, requests: Sequence[Ready]) -> dict[int, list[int]]:
        out = {}
        for request, ids, limit in requests:
            draft = self._drafts.setdefault(request, NgramDraft(self.size, self.tokens))
            out[request] = draft.propose(ids, limit) if limit > 0 else []
        return out

    def forget(self, request: int) -> None:
        self._drafts.pop(request, None)


class ModelDraft:
    """The likeliest continuation under a smaller model of the same vocabulary, for all requests together.

    Its greedy guesses leave the distribution of sampled answers unchanged as well (see `verify`).
    """

    @classmethod
    def of(cls, draft: Transformer, model: Transformer, *, requests: int = 64) -> "ModelDraft":
        """A draft for `model`. Raises UserError when the two do not share a vocabulary."""
        if model.config.vocab_size != draft.config.vocab_size:
            raise UserError(
                f"the draft model has {draft.config.vocab_size} tokens, the model {model.config.vocab_size}: "
                "they must share a vocabulary"
            )
        cost = PASS_COST + draft.parameter_count() / model.parameter_count()
        return cls(draft, requests=requests, cost=cost)

    def __init__(self, model: Transformer, *, tokens: int = 4, requests: int = 64, cost: float = 2 * PASS_COST):
        """requests: for how many at a time there is room, at most a quarter of the free memory; others go without guesses."""
        self.model, self.tokens, self.cost = model.eval(), tokens, cost
        parameter = model.embed.weight
        affordable = free_memory(parameter.device) // 4 // PagedCache.page_bytes(model.config, parameter.dtype)
        pages = max(1, min(requests * -(-model.config.max_positions // PAGE), affordable))
        self.cache = PagedCache(model.config, pages, device=parameter.device, dtype=parameter.dtype)
        self.pool = PagePool(pages)
        self._seen: dict[int, tuple[list[int], list[int]]] = {}  # request -> tokens in the cache, their pages

    @torch.inference_mode()
    def propose(self, requests: Sequence[Ready]) -> dict[int, list[int]]:
        longest, free = self.model.config.max_positions, self.pool.free
        out: dict[int, list[int]] = {}
        left: dict[int, int] = {}
        texts: dict[int, list[int]] = {}
        for request, ids, limit in requests:
            left[request] = min(self.tokens, limit, longest - len(ids))
            held = self._seen[request][1] if request in self._seen else []
            needed = max(0, -(-(len(ids) + left[request]) // PAGE) - len(held))
            if left[request] > 0 and needed <= free:
                texts[request], free = list(ids), free - needed
        while texts:
            logits = self._advance(texts)
            for request, token in zip(list(texts), logits.argmax(-1).tolist()):
                out.setdefault(request, []).append(token)
                texts[request].append(token)
                if len(out[request]) >= left[request]:
                    del texts[request]
        return out

    def _advance(self, texts: dict[int, list[int]]) -> torch.Tensor:
        """Logits after each text; what of it is not in the cache is computed."""
        segments, ids = [], []
        for request, text in texts.items():
            seen, pages = self._seen.setdefault(request, ([], []))
            same = next((i for i, (a, b) in enumerate(zip(seen, text)) if a != b), min(len(seen), len(text)))
            same = min(same, len(text) - 1)
            while len(pages) * PAGE < len(text):
                pages.append(self.pool.take())
            segments.append(Segment(pages, same, len(text) - same))
            ids += text[same:]
            self._seen[request] = (list(text), pages)
        device = self.model.embed.weight.device
        hidden_ND = self.model.hidden(torch.tensor([ids], device=device), self.cache.step(segments))[0]
        ends = torch.tensor([s.count for s in segments], device=device).cumsum(0) - 1
        return self.model.unembed(hidden_ND[ends])

    def forget(self, request: int) -> None:
        for page in self._seen.pop(request, ([], []))[1]:
            self.pool.release(page)
