"""From a job's events to an HTTP answer: one JSON object, or a stream of server-sent events.

A generating route is an `Answer`: it says what to run and how its pieces look; `respond` does the rest.
"""

import asyncio
import contextlib
import json
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from cairn.core.errors import UserError
from cairn.inference import Engine, TokenLogprob, ToolCall
from cairn.inference.tools import Tool
from cairn.serving.config import ServerConfig
from cairn.serving.errors import CLIENT_GONE, ApiError, Json, SlowError, StoppedError, api_error, shortened
from cairn.serving.job import Event, Item, Job
from cairn.serving.protocol import GenerationRequest
from cairn.serving.worker import Worker

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """What every route needs."""

    engine: Engine
    worker: Worker
    model_name: str
    tools: Mapping[str, Tool]
    config: ServerConfig

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self.model_name:
            message = f"the model {shortened(name)!r} is not served here; {self.model_name!r} is"
            raise ApiError(404, message, param="model", code="model_not_found")

    def check_length(self, ids: list[int], param: str) -> None:
        if len(ids) > self.engine.positions:
            message = f"the prompt has {len(ids)} tokens, the model takes at most {self.engine.positions}: shorten it"
            raise ApiError(400, message, param=param, code="context_length_exceeded")

    def check_ids(self, ids: list[int], param: str) -> None:
        size = self.engine.model.config.vocab_size
        if ids and not (min(ids) >= 0 and max(ids) < size):
            message = f"{param}: there are token ids outside 0 .. {size - 1}"
            raise ApiError(400, message, param=param, code="invalid_value")


@dataclass
class Piece:
    """Something to send: text of choice `index`, its tokens when log-probabilities were asked for, how it ended."""

    index: int
    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    call: ToolCall | None = None


@dataclass
class Usage:
    """cached_tokens: tokens of the prompts whose keys and values the engine had already."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: dict[int, int] = field(default_factory=dict)  # by prompt: the choices of one prompt share it

    def count(self, event: Event, prompt: int) -> None:
        self.completion_tokens += len(event.delta.tokens)
        self.cached_tokens.setdefault(prompt, event.delta.request.cached_tokens)

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self.cached_tokens.values())},
        }


class Answer(ABC):
    """One generating request. `prefix`, `kind` and `chunk_kind` are OpenAI's `id` prefix and `object` names."""

    prefix: str
    kind: str
    chunk_kind: str
    usage: Usage

    @abstractmethod
    def items(self) -> list[Item]:
        """What to run first; tags are the indices of the choices."""

    @abstractmethod
    def pieces(self, job: Job) -> AsyncIterator[Piece]:
        """What to send, counting `usage` on the way; may add to the job."""

    @abstractmethod
    def choice(self, piece: Piece) -> dict[str, Any]:
        """A whole choice."""

    @abstractmethod
    def chunk(self, piece: Piece) -> dict[str, Any]:
        """A part of a choice in a stream."""

    def opening(self) -> list[dict[str, Any]]:
        """Parts that a stream begins with."""
        return []


async def respond(request: Request, body: GenerationRequest, served: Served, answer: Answer) -> Response:
    """Run an answer's generations; they are cancelled when the client leaves."""
    identity = {"id": answer.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": served.model_name}
    items = answer.items()
    with contextlib.ExitStack() as stack:
        job = stack.enter_context(served.worker.job(len(items)))
        await job.add(items)
        if body.stream:
            envelope = identity | {"object": answer.chunk_kind}
            return _EventStream(stack.pop_all(), _events(envelope, answer, job, body.include_usage))
        choices = await unless_gone(request, _collect(answer, job, len(items)))
    if choices is None:
        return Response(status_code=CLIENT_GONE)
    return Json(identity | {"object": answer.kind, "choices": choices, "usage": answer.usage.body()})


async def _collect(answer: Answer, job: Job, count: int) -> list[dict[str, Any]]:
    whole = [Piece(index) for index in range(count)]
    async for piece in answer.pieces(job):
        total = whole[piece.index]
        total.text += piece.text
        total.tokens += piece.tokens
        total.finish_reason, total.call = piece.finish_reason, piece.call
    return [answer.choice(piece) for piece in whole]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None when the client left before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()


async def _events(envelope: dict[str, Any], answer: Answer, job: Job, include_usage: bool) -> AsyncIterator[bytes]:
    def event(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        return _sse(envelope | {"choices": choices} | ({"usage": usage} if include_usage else {}))

    try:
        for opening in answer.opening():
            yield event([opening])
        async for piece in answer.pieces(job):
            if piece.text or piece.tokens or piece.finish_reason is not None:
                yield event([answer.chunk(piece)])
        if include_usage:
            yield event([], answer.usage.body())
    except Exception as error:  # the status line is sent already: an error can only be an event
        if not isinstance(error, (StoppedError, SlowError, UserError)):
            logger.exception("a stream failed")
        yield _sse(api_error(error).body())
    yield b"data: [DONE]\n\n"


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"


class _EventStream(StreamingResponse):
    """Server-sent events; `closing` (the job) is left however the response ends, also before its first byte."""

    def __init__(self, closing: contextlib.ExitStack, events: AsyncIterator[bytes]):
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._closing = closing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._closing:
            await super().__call__(scope, receive, send)
