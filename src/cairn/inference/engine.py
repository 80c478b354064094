"""The engine through which everything generates: chat, server, evaluation, preference pairs, retrieval.

Continuous batching: a request joins at the next step and leaves when it is done, whatever its neighbours do. Each step is
either one prefill (the prompts of waiting requests, padded together) or one token for every running request.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from cairn.core.errors import UserError
from cairn.inference.sampling import SamplingParams, sample
from cairn.models import PAGE, PagedCache, Segment, Transformer
from cairn.tokenizers import StreamDecoder, Tokenizer
from cairn.tokenizers.chat import Message

PREFILL_TOKENS = 8192  # padded tokens of one prefill step


@dataclass
class TokenLogprob:
    """A token, its log-probability under the model (before temperature), and the likeliest alternatives."""

    id: int
    logprob: float | None  # None for the first token of a prompt: nothing predicts it
    top: dict[int, float] = field(default_factory=dict)


@dataclass
class Delta:
    """What a step added to a request: text that is certain (no half character, no half stop string) and tokens."""

    request: "Request"
    text: str
    tokens: list[int]
    finish_reason: str | None = None


@dataclass(eq=False)
class Request:
    """A running generation. `text` grows; `finish_reason` is None until it is `stop`, `length` or `cancelled`."""

    id: int
    prompt_ids: list[int]
    params: SamplingParams
    output_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    _held: str = ""
    _decoder: StreamDecoder | None = None
    _rng: np.random.Generator | None = None


Output = Request  # what `generate` returns: a finished request


class Engine:
    """Generate with a model and its tokenizer.

    slots: requests that run at the same time; further ones wait. positions: longest prompt plus answer in tokens.
    Not thread-safe: one thread calls `step` (the server gives it one of its own).
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, slots: int = 64, positions: int | None = None):
        self.model, self.tokenizer = model.eval(), tokenizer
        parameter = model.embed.weight
        self.device = parameter.device
        self.positions = min(positions or model.config.max_positions, model.config.max_positions)
        dtype = parameter.dtype if parameter.dtype.is_floating_point else torch.float32
        self.slots, each = slots, self.positions // PAGE + 1
        self.cache = PagedCache(model.config, slots * each, device=self.device, dtype=dtype)
        self._free = [range(i * each, (i + 1) * each) for i in range(slots)]
        self._tables: dict[int, range] = {}
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._ids = itertools.count()
        self._seed = np.random.SeedSequence()

    # --- whole answers

    def generate(
        self, prompts: Iterable[str | Sequence[int]], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[Output]:
        """Complete every prompt (text, or ids); results in the order of the prompts. One `params` for all or one each."""
        prompts = list(prompts)
        if params is None or isinstance(params, SamplingParams):
            each = [params or SamplingParams()] * len(prompts)
        else:
            each = list(params)
        if len(each) != len(prompts):
            raise UserError(f"{len(prompts)} prompts but {len(each)} sampling parameters")
        requests = [self.submit(prompt, p) for prompt, p in zip(prompts, each)]
        try:
            while any(r.finish_reason is None for r in requests):
                self.step()
        except BaseException:
            for request in requests:
                self.cancel(request)
            raise
        return requests

    def chat(
        self,
        conversations: Iterable[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[Output]:
        """The assistant's next turn for each conversation."""
        return self.generate([self.chat_prompt(messages) for messages in conversations], params)

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        return self.tokenizer.encode_chat(messages, add_generation_prompt=True)

    def stream(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> Iterator[Delta]:
        """The pieces of one completion as they come; closing the iterator cancels the request."""
        request = self.submit(prompt, params or SamplingParams())
        try:
            while request.finish_reason is None:
                yield from (d for d in self.step() if d.request is request)
        finally:
            self.cancel(request)

    # --- one step at a time

    def submit(self, prompt: str | Sequence[int], params: SamplingParams) -> Request:
        """Queue a request. Raises UserError when the prompt is empty, too long, or has ids outside the vocabulary."""
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
            if self.tokenizer.bos_id is not None:
                ids = [self.tokenizer.bos_id, *ids]
        else:
            ids = list(prompt)
        if not ids:
            raise UserError("the prompt is empty")
        if len(ids) > self.positions:
            raise UserError(f"the prompt has {len(ids)} tokens, the model takes at most {self.positions}: shorten it")
        if min(ids) < 0 or max(ids) >= self.model.config.vocab_size:
            raise UserError(f"the prompt has token ids outside 0 .. {self.model.config.vocab_size - 1}")
        request = Request(next(self._ids), ids, params)
        request._decoder = StreamDecoder(self.tokenizer, skip_special=False)
        request._rng = np.random.default_rng(params.seed if params.seed is not None else self._seed.spawn(1)[0])
        self.waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """Stop a request and free its place. Does nothing for a finished one."""
        if request.finish_reason is not None:
            return
        request.finish_reason = "cancelled"
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.running:
            self._release(self.running.index(request))

    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    @torch.inference_mode()
    def step(self) -> list[Delta]:
        """Prefill waiting requests if there is room, else one token for every running request."""
        if self.waiting and len(self.running) < self.slots:
            return self._prefill()
        if self.running:
            return self._decode()
        return []

    # --- inside

    def _prefill(self) -> list[Delta]:
        first, batch, width = len(self.running), [], 0
        while self.waiting and first + len(batch) < self.slots:
            wider = max(width, len(self.waiting[0].prompt_ids))
            if batch and wider * (len(batch) + 1) > PREFILL_TOKENS:
                break
            width = wider
            batch.append(self.waiting.popleft())
        segments = []
        for request in batch:
            self._tables[request.id] = self._free.pop()
            segments.append(Segment(self._tables[request.id], 0, len(request.prompt_ids)))
        ids = torch.tensor([[i for r in batch for i in r.prompt_ids]], device=self.device)
        hidden_ND = self.model.hidden(ids, self.cache.step(segments))[0]
        self.running += batch
        ends = np.cumsum([len(r.prompt_ids) for r in batch])
        for request, end in zip(batch, ends):
            if request.params.echo:
                self._score_prompt(request, hidden_ND[end - len(request.prompt_ids) : end])
        return self._accept(batch, self.model.unembed(hidden_ND[torch.from_numpy(ends - 1).to(self.device)]))

    def _score_prompt(self, request: Request, hidden_TD: torch.Tensor) -> None:
        ids = request.prompt_ids
        logprobs_TV = self.model.unembed(hidden_TD[: len(ids) - 1]).float().log_softmax(-1)
        request.prompt_logprobs = [TokenLogprob(ids[0], None)]
        request.prompt_logprobs += [
            _scored(row, i, request.params.logprobs or 0) for row, i in zip(logprobs_TV, ids[1:])
        ]

    def _decode(self) -> list[Delta]:
        batch = list(self.running)
        ids = torch.tensor([[r.output_ids[-1] for r in batch]], device=self.device)
        step = self.cache.step(
            [Segment(self._tables[r.id], len(r.prompt_ids) + len(r.output_ids) - 1, 1) for r in batch]
        )
        return self._accept(batch, self.model.unembed(self.model.hidden(ids, step)[0]))

    def _accept(self, batch: list[Request], logits_BV: torch.Tensor) -> list[Delta]:
        """Choose a token for each request, tell what became certain, and release those that are done."""
        logits_BV = logits_BV.float().cpu()
        greedy_B = logits_BV.argmax(-1).tolist()
        deltas = []
        for request, logits_V, greedy in zip(batch, logits_BV, greedy_B):
            assert request._rng is not None
            params = request.params
            if params.max_tokens == 0:  # only the prompt was to be scored
                request.finish_reason = "length"
                deltas.append(Delta(request, "", [], "length"))
                continue
            token = greedy if params.temperature == 0 else sample(logits_V, params, request._rng)
            if params.logprobs is not None:
                request.logprobs.append(_scored(logits_V.log_softmax(-1), token, params.logprobs))
            request.output_ids.append(token)
            deltas.append(self._extend(request, token))
        for request in batch:
            if request.finish_reason is not None and request in self.running:
                self._release(self.running.index(request))
        return deltas

    def _extend(self, request: Request, token: int) -> Delta:
        params = request.params
        assert request._decoder is not None
        ended = token in self.tokenizer.stop_ids and not params.ignore_eos
        if not ended:
            request._held += request._decoder.push(token)
        full = len(request.output_ids) >= params.max_tokens
        full = full or len(request.prompt_ids) + len(request.output_ids) >= self.positions
        if ended or full:
            request._held += request._decoder.finish()
        cut, found = _find_stop(request._held, params.stop)
        if found:
            ended = True
        request.finish_reason = "stop" if ended else "length" if full else None
        if not found and request.finish_reason is None:
            cut = len(request._held) - _partial_stop(request._held, params.stop)
        text, request._held = request._held[:cut], request._held[cut:]
        request.text += text
        return Delta(request, text, [token], request.finish_reason)

    def _release(self, index: int) -> None:
        self._free.append(self._tables.pop(self.running.pop(index).id))


def _scored(logprobs_V: torch.Tensor, token: int, top: int) -> TokenLogprob:
    values, ids = logprobs_V.topk(top) if top else (torch.empty(0), torch.empty(0))
    return TokenLogprob(token, float(logprobs_V[token]), dict(zip(ids.int().tolist(), values.tolist())))


def _find_stop(text: str, stops: Sequence[str]) -> tuple[int, bool]:
    """Where the first stop string begins, else the length of the text."""
    places = [p for p in (text.find(s) for s in stops) if p >= 0]
    return (min(places), True) if places else (len(text), False)


def _partial_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that could still become a stop string.

    >>> _partial_stop("answer\\n#", ["\\n##"])
    2
    """
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest
