"""POST /v1/completions: texts or ids go on as they are, without a chat template."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from cairn.serving.answers import Answer, Piece, Served, Usage
from cairn.serving.errors import ApiError
from cairn.serving.job import Item, Job
from cairn.serving.logprobs import CompletionLogprobs
from cairn.serving.protocol import CompletionRequest


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    added: int  # how many of them the server put in front
    text: str  # for echo


async def read_prompts(served: Served, body: CompletionRequest) -> list[Prompt]:
    """Encode what is text, with the beginning-of-text token in front. Raises ApiError for a prompt that is too long."""
    tokenizer = served.engine.tokenizer
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    prompts = []
    for prompt in body.prompt:
        if isinstance(prompt, str):
            ids = bos + await asyncio.to_thread(tokenizer.encode, prompt)  # megabytes of text take a while
            prompts.append(Prompt(ids, len(bos), prompt))
        else:
            served.check_ids(prompt, "prompt")
            text = await asyncio.to_thread(tokenizer.decode, prompt) if body.echo else ""
            prompts.append(Prompt(prompt, 0, text))
        served.check_length(prompts[-1].ids, "prompt")
        if not prompts[-1].ids:
            raise ApiError(400, "prompt: it is empty", param="prompt", code="invalid_value")
    return prompts


class Completion(Answer):
    """Choice i * n + c is the c-th of prompt i."""

    prefix, kind, chunk_kind = "cmpl-", "text_completion", "text_completion"

    def __init__(self, served: Served, body: CompletionRequest, prompts: list[Prompt]):
        self.body, self.prompts = body, prompts
        self.usage = Usage(sum(len(prompt.ids) for prompt in prompts))
        echo = body.echo and body.logprobs is not None  # a prompt that need not be scored is echoed without the engine
        self.params = [body.sampling(c, body.max_tokens, logprobs=body.logprobs, echo=echo) for c in range(body.n)]
        self.logprobs = [CompletionLogprobs(served.engine.tokenizer) for _ in range(len(prompts) * body.n)]

    def items(self) -> list[Item]:
        n = self.body.n
        return [(i * n + c, prompt.ids, self.params[c]) for i, prompt in enumerate(self.prompts) for c in range(n)]

    async def pieces(self, job: Job) -> AsyncIterator[Piece]:
        begun: set[int] = set()
        async for event in job:
            delta = event.delta
            self.usage.count(event, event.tag // self.body.n)
            piece = Piece(event.tag, delta.text, event.logprobs, delta.finish_reason)
            if self.body.echo and event.tag not in begun:
                begun.add(event.tag)
                prompt = self.prompts[event.tag // self.body.n]
                # The token put in front is no part of the text, so it is no part of its log-probabilities either.
                piece.text = prompt.text + piece.text
                piece.tokens = delta.request.prompt_logprobs[prompt.added :] + piece.tokens
            yield piece

    def choice(self, piece: Piece) -> dict[str, Any]:
        part = self.logprobs[piece.index].part(piece.tokens) if self.body.logprobs is not None else None
        return {"index": piece.index, "text": piece.text, "logprobs": part, "finish_reason": piece.finish_reason}

    chunk = choice
