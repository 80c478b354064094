"""The engine through which everything generates: chat, server, evaluation, preference pairs, retrieval.

Continuous batching: a request joins at the next step and leaves when it is done, whatever its neighbours do. A step is one
pass of the model over the latest tokens of all that generate and pieces of the prompts that are still being read.

Shapes: N tokens of a step, R rows whose logits are wanted, V vocabulary.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cairn.core.compute import free_memory, thread_counts
from cairn.core.errors import UserError
from cairn.inference.constrain import Grammars
from cairn.inference.draft import Draft
from cairn.inference.pages import PagePool
from cairn.inference.request import Delta, Output, Request, TokenLogprob
from cairn.inference.sampling import Sampler, SamplingParams
from cairn.inference.scheduler import Scheduler, Work
from cairn.inference.speculative import DraftLength, verify
from cairn.models import PAGE, PagedCache, Segment, Transformer, check_decoder
from cairn.models.fast import FastDecoder
from cairn.tokenizers import StreamDecoder, Tokenizer
from cairn.tokenizers.chat import Message

STEP_TOKENS = {"cpu": 256, "cuda": 4096}  # of a step: long enough for fast products, short enough for those who wait
MOST_THREADS = 1024
MEMORY_SHARE = 0.5  # of the free memory, for the cache, unless said otherwise


@dataclass(frozen=True)
class EngineStats:
    """Counts since the start (tokens, preemptions) and the state now (requests, pages)."""

    running: int
    waiting: int
    pages_total: int
    pages_free: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    preemptions: int
    guessed_tokens: int
    accepted_tokens: int


class Engine:
    """Generate with a model and its tokenizer.

    slots: requests that run at the same time; further ones wait. positions: longest prompt plus answer in tokens.
    memory: bytes for keys and values; 0 is as much as `slots` of the longest requests need, at most half of what is free.
    reuse: keep keys and values of finished requests for those that begin alike. draft: where guesses of several tokens
    come from (speculative decoding). threads: CPU threads of a step; 0 asks the machine by a short probe.
    Not thread-safe: one thread calls `step` (the server gives it one of its own).
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        slots: int = 64,
        positions: int | None = None,
        memory: int = 0,
        reuse: bool = True,
        draft: Draft | None = None,
        threads: int = 0,
    ):
        check_decoder(model)
        for name, value, least in (("slots", slots, 1), ("positions", positions or 1, 1), ("memory", memory, 0)):
            if not isinstance(value, int) or value < least:
                raise UserError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not isinstance(threads, int) or not 0 <= threads <= MOST_THREADS:
            raise UserError(f"threads must be from 0 to {MOST_THREADS}, got {threads!r}")
        self.model, self.tokenizer, self.draft = model.eval(), tokenizer, draft
        parameter = model.embed.weight
        self.device = parameter.device
        self.dtype = parameter.dtype if parameter.dtype.is_floating_point else torch.float32
        self.positions = min(positions or model.config.max_positions, model.config.max_positions)
        pages = self._affordable_pages(slots, memory)
        self.positions = min(self.positions, pages * PAGE)
        self.cache = PagedCache(model.config, pages, device=self.device, dtype=self.dtype)
        self.pool = PagePool(pages)
        budget = STEP_TOKENS.get(self.device.type, STEP_TOKENS["cpu"])
        self.scheduler = Scheduler(self.pool, slots, max(budget, 2 * slots), reuse=reuse)
        self._fast, self._weights = FastDecoder(model), _weights_state(model)
        self.threads = threads or self._fastest_threads()
        self._grammars: Grammars | None = None
        self._ids = itertools.count()
        self._seed = np.random.SeedSequence()
        self._prompt_tokens = self._generated_tokens = self._guessed = self._accepted = 0

    def _affordable_pages(self, slots: int, memory: int) -> int:
        page = PagedCache.page_bytes(self.model.config, self.dtype)
        wanted = slots * -(-self.positions // PAGE)
        pages = min(wanted, (memory or int(free_memory(self.device) * MEMORY_SHARE)) // page)
        if pages < 1:
            raise UserError(
                f"memory for the cache: one page of {PAGE} positions needs {page:,} bytes; give at least that"
            )
        return pages

    @torch.inference_mode()
    def _fastest_threads(self) -> int:
        """The CPU thread count with the fastest steps right now, found by trying; 0 where the CPU does not compute.

        On a machine where another process holds a core, two threads were measured twelve times slower than one.
        """
        before = torch.get_num_threads()
        if self.device.type != "cpu" or before == 1:
            return before if self.device.type == "cpu" else 0
        pages = range(min(self.cache.pages, 3))
        sizes = (min(24, self.positions, len(pages) * PAGE), 1, 1)  # of a piece of a prompt, and of two single tokens
        took: dict[int, float] = {}
        for count in thread_counts(before):
            torch.set_num_threads(count)
            for _ in range(3):  # the first is warm-up
                start = time.perf_counter()
                for size in sizes:
                    self.model.unembed(self.hidden([0] * size, [Segment(pages, 0, size)])[-1:])
                took[count] = min(time.perf_counter() - start, took.get(count, float("inf")))
        torch.set_num_threads(before)
        # Another thread must earn its keep: it may be wanted elsewhere.
        return min(took, key=lambda count: took[count] * (1 if count == 1 else 1.1))

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
        requests: list[Request] = []
        threads = torch.get_num_threads()
        try:
            requests += (self.submit(prompt, p) for prompt, p in zip(prompts, each))
            while any(r.finish_reason is None for r in requests):
                self.step()
        except BaseException:
            for request in requests:
                self.cancel(request)
            raise
        finally:
            torch.set_num_threads(threads)  # what comes after, training perhaps, has its own
        for request in requests:
            if request.error is not None:
                raise request.error
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
        threads = torch.get_num_threads()
        try:
            while request.finish_reason is None:
                yield from (d for d in self.step() if d.request is request)
            if request.error is not None:
                raise request.error
        finally:
            self.cancel(request)
            torch.set_num_threads(threads)

    # --- one step at a time

    def submit(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> Request:
        """Queue a request; `on_delta` is called with each of its pieces. Raises UserError when the prompt is empty, too long,
        or has ids outside the vocabulary, and when a constraint cannot be kept."""
        ids = self.prompt_ids(prompt)
        weights = _weights_state(self.model)
        if weights != self._weights:  # training went on: what was cached is of another model
            self.forget()
            self._weights = weights
        size = self.model.config.vocab_size
        beyond = next((i for i in params.logit_bias if i >= size), None)
        if beyond is not None:
            raise UserError(f"logit_bias: the token id {beyond} is outside 0 .. {size - 1}")
        matcher = None
        if params.constraint is not None:
            self._grammars = self._grammars or Grammars(self.tokenizer, self.tokenizer.stop_ids)
            matcher = self._grammars.matcher(params.constraint)
        rng = np.random.default_rng(params.seed if params.seed is not None else self._seed.spawn(1)[0])
        stops = frozenset() if params.ignore_eos else self.tokenizer.stop_ids
        sampler = Sampler(params, ids, stops, rng, matcher)
        decoder = StreamDecoder(self.tokenizer, skip_special=False)
        request = Request(next(self._ids), ids, params, sampler, decoder, on_delta)
        if self.draft is not None:
            request.guessing = DraftLength(self.draft.tokens, self.draft.cost)
        self.scheduler.add(request)
        self._prompt_tokens += len(ids)
        return request

    def prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        """A prompt as ids, text with the beginning-of-text token in front. Raises UserError when it cannot be run."""
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
            if self.tokenizer.bos_id is not None:
                ids = [self.tokenizer.bos_id, *ids]
        else:
            ids = [int(i) for i in prompt]
        size = self.model.config.vocab_size
        if not ids:
            raise UserError("the prompt is empty")
        if len(ids) > self.positions:
            raise UserError(f"the prompt has {len(ids)} tokens, the model takes at most {self.positions}: shorten it")
        if min(ids) < 0 or max(ids) >= size:
            raise UserError(f"the prompt has token ids outside 0 .. {size - 1}")
        return ids

    def forget(self) -> None:
        """Reuse nothing that was computed until now. Done by itself when weights were trained or replaced; to be called after
        a change that torch does not count (through `.data`, or a hook on a layer)."""
        self.pool.forget()

    def cancel(self, request: Request) -> None:
        """Stop a request and free its pages. Does nothing for a finished one."""
        if request.finish_reason is None:
            request.finish_reason = "cancelled"
            self._leave(request)

    def has_work(self) -> bool:
        return bool(self.scheduler.waiting or self.scheduler.running)

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            pages_total=self.pool.size,
            pages_free=self.pool.free,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self.scheduler.cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=self.scheduler.preemptions,
            guessed_tokens=self._guessed,
            accepted_tokens=self._accepted,
        )

    @torch.inference_mode()
    def step(self) -> list[Delta]:
        """One pass of the model: a token for every request that generates, and some of the prompts that wait."""
        if not self.has_work():
            return []
        if self.threads and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        work = self.scheduler.plan(self._guesses())
        ids, segments = [], []
        for part in work:
            start, request = part.request.computed, part.request
            ids += (request.ids + part.guesses if part.guesses else request.ids)[start : start + part.count]
            segments.append(Segment(request.pages, start, part.count))
        return self._finish(work, self.hidden(ids, segments))

    def hidden(self, ids: Sequence[int], segments: Sequence[Segment]) -> torch.Tensor:
        """The normalised residual stream (N, D) of new tokens of several sequences, laid end to end."""
        return self._fast.hidden(torch.tensor([ids], device=self.device), self.cache.step(segments))[0]

    # --- inside

    def _guesses(self) -> dict[int, list[int]]:
        if self.draft is None:
            return {}
        ready = []
        for request in self.scheduler.running:
            if len(request.ids) - request.computed == 1 and request.guessing is not None:
                room = min(request.params.max_tokens - len(request.output_ids), self.positions - len(request.ids))
                ready.append((request.id, request.ids, min(room - 1, request.guessing.limit)))
        return self.draft.propose(ready)

    def _finish(self, work: list[Work], hidden_ND: torch.Tensor) -> list[Delta]:
        """Score, choose, and say what became certain."""
        rows: list[int] = []  # of hidden, whose logits are wanted
        first = 0
        chosen: list[tuple[Work, int]] = []  # with where its logits begin
        for part in work:
            request, end = part.request, first + part.count
            if request.params.echo and request.computed < len(request.prompt_ids) and not request.output_ids:
                self._score_prompt(request, hidden_ND[first:end])
            if part.last:
                chosen.append((part, len(rows)))
                rows += range(end - 1 - len(part.guesses), end)
            else:
                self.scheduler.done(request, part.count)
            first = end
        deltas = []
        if chosen:
            wanted_RD = hidden_ND if len(rows) == len(hidden_ND) else hidden_ND[rows]
            logits_RV = self.model.unembed(wanted_RD).float().cpu()
            likeliest_R = logits_RV.numpy().argmax(-1).tolist()  # several times as fast as torch's
            for part, row in chosen:
                if part.request.finish_reason is not None:  # cancelled by what another's `on_delta` did
                    continue
                # Guesses that were not kept lie beyond what counts as computed and are written over.
                self.scheduler.done(part.request, part.count - len(part.guesses))
                try:
                    tokens = self._choose(part, logits_RV[row : row + 1 + len(part.guesses)], likeliest_R[row])
                    delta = self._extend(part.request, tokens, logits_RV[row:])
                except UserError as error:  # of this request alone
                    part.request.error, part.request.finish_reason = error, "error"
                    delta = Delta(part.request, "", [], "error")
                if delta.finish_reason is not None:
                    self._leave(part.request)
                if part.request.on_delta is not None:
                    part.request.on_delta(delta)
                deltas.append(delta)
        return deltas

    def _choose(self, part: Work, logits_KV: torch.Tensor, likeliest: int) -> list[int]:
        request, sampler = part.request, part.request.sampler
        if request.params.max_tokens == 0:  # only the prompt was to be scored
            return []
        if part.guesses:
            tokens = verify(part.guesses, None, logits_KV, sampler)
            self._guessed += len(part.guesses)
            self._accepted += len(tokens) - 1
        else:
            tokens = [likeliest if sampler.plain else sampler.choose(logits_KV[0])]
            sampler.accept(tokens[0])
        if request.guessing is not None:
            request.guessing.record(len(part.guesses), len(tokens) - 1)
        return tokens

    def _extend(self, request: Request, tokens: list[int], logits_KV: torch.Tensor) -> Delta:
        if not tokens:
            request.finish_reason = "length"
            return Delta(request, "", [], "length")
        delta = request.extend(tokens, self.positions, self.tokenizer.stop_ids)
        if request.params.logprobs is not None:
            request.logprobs += _scored(logits_KV[: len(delta.tokens)], delta.tokens, request.params.logprobs)
        # Keys and values of accepted guesses are there already.
        self.scheduler.done(request, len(delta.tokens) - 1)
        self._generated_tokens += len(delta.tokens)
        return delta

    def _leave(self, request: Request) -> None:
        self.scheduler.remove(request)
        if self.draft is not None:
            self.draft.forget(request.id)

    def _score_prompt(self, request: Request, hidden_TD: torch.Tensor) -> None:
        """Log-probabilities of the prompt's tokens that follow those of this step."""
        if request.computed == 0:
            request.prompt_logprobs = [TokenLogprob(request.prompt_ids[0], None)]
        del request.prompt_logprobs[request.computed + 1 :]  # of a step that broke off
        following = request.prompt_ids[request.computed + 1 : request.computed + 1 + len(hidden_TD)]
        for start in range(0, len(following), 64):  # logits of 64 rows at a time: a vocabulary is wide
            part = following[start : start + 64]
            logits_KV = self.model.unembed(hidden_TD[start : start + len(part)]).float().cpu()
            request.prompt_logprobs += _scored(logits_KV, part, request.params.logprobs or 0)


def _scored(logits_KV: torch.Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    logprobs_KV = logits_KV.log_softmax(-1)
    own = logprobs_KV[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()
    if not top:
        return [TokenLogprob(token, p) for token, p in zip(tokens, own)]
    values, ids = logprobs_KV.topk(min(top, logprobs_KV.shape[-1]))
    return [
        TokenLogprob(token, p, dict(zip(i, v))) for token, p, i, v in zip(tokens, own, ids.tolist(), values.tolist())
    ]


def _weights_state(model: torch.nn.Module) -> list[tuple[int, int]]:
    """Changes when a parameter or buffer is replaced, or written to in place other than through `.data`."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
