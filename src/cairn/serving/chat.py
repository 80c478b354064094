"""POST /v1/chat/completions: the assistant's next turn, with tools.

A tool call never reaches the client as text. When the request brought `tools`, the call becomes `tool_calls`; when it
brought none and the server has tools of its own, they are run here and the model goes on until it answers. A call that
has to be right (`tool_choice` required or a name, `strict` functions) is written under a constraint (`calls`).
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cairn.core.errors import UserError
from cairn.inference import SamplingParams, ToolCall, assistant_message, run_tool
from cairn.inference.tools import Tool
from cairn.serving.answers import Answer, Piece, Served, Usage
from cairn.serving.calls import call_constraint, call_ids
from cairn.serving.errors import ApiError
from cairn.serving.job import Event, Item, Job
from cairn.serving.logprobs import chat_logprobs
from cairn.serving.protocol import ChatRequest
from cairn.serving.turns import ROUNDS, CallFilter
from cairn.tokenizers.chat import CALL, Message


async def read_conversation(served: Served, body: ChatRequest) -> tuple[list[Message], list[int]]:
    """The messages and their ids. Special tokens' letters in them stay letters (`Engine.chat_prompt`)."""
    messages = [m.message() for m in body.messages]
    try:
        prompt = await asyncio.to_thread(served.engine.chat_prompt, messages)
    except UserError as error:  # the chat template refuses them
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None
    served.check_length(prompt, "messages")
    return messages, prompt


class Chat(Answer):
    prefix, kind, chunk_kind = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, served: Served, body: ChatRequest, messages: list[Message], prompt: list[int]):
        self.served, self.body = served, body
        self.prompt = prompt + call_ids(served.engine.tokenizer) if body.forced else prompt
        self.usage = Usage(len(prompt))
        self.turns = [_Turn(served, body, index, messages) for index in range(body.n)]

    def items(self) -> list[Item]:
        return [(turn.index, self.prompt, turn.params(self.prompt)) for turn in self.turns]

    async def pieces(self, job: Job) -> AsyncIterator[Piece]:
        async for event in job:
            self.usage.count(event, 0)
            yield await self.turns[event.tag].take(job, event)

    def choice(self, piece: Piece) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": piece.text}
        if piece.call is not None:
            message |= {"content": piece.text or None, "tool_calls": [_call_body(piece.call)]}
        return self._body(piece, "message", message)

    def chunk(self, piece: Piece) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.call is not None:
            delta["tool_calls"] = [{"index": 0} | _call_body(piece.call)]
        return self._body(piece, "delta", delta)

    def opening(self) -> list[dict[str, Any]]:
        return [self._body(Piece(turn.index), "delta", {"role": "assistant", "content": ""}) for turn in self.turns]

    def _body(self, piece: Piece, key: str, value: dict[str, Any]) -> dict[str, Any]:
        logprobs = chat_logprobs(self.served.engine.tokenizer, piece.tokens) if self.body.logprobs else None
        return {"index": piece.index, key: value, "logprobs": logprobs, "finish_reason": piece.finish_reason}


class _Turn:
    """One choice: hides tool calls, runs the server's own tools, and goes on after them."""

    def __init__(self, served: Served, body: ChatRequest, index: int, messages: list[Message]):
        self.served, self.body, self.index = served, body, index
        self.messages = list(messages)
        self.tools: Mapping[str, Tool] = {} if body.tools else served.tools
        self.hide = bool(body.tools or served.tools)
        self.shown = CallFilter()
        self.used = self.rounds = 0  # tokens generated, tools run
        # A call is stopped where it begins when it goes on otherwise than text: a strict function's under its constraint,
        # any other without the request's stop strings, which are for what is shown.
        self.strict = any(function.strict for function in body.offered) and not body.forced
        self.split = self.strict or (self.hide and bool(body.stop) and not body.forced)
        self.in_call = bool(body.forced)
        self.call_ids = call_ids(served.engine.tokenizer)
        if body.forced:
            self.shown.push(CALL)

    def params(self, prompt: list[int]) -> SamplingParams:
        fits = max(1, self.served.engine.positions - len(prompt))
        limit = fits if self.body.limit is None else self.body.limit - self.used
        logprobs = self.body.top_logprobs if self.body.logprobs else None
        constraint, stop = None, None
        if self.in_call:
            constraint, stop = call_constraint(self.body.offered) if self.strict or self.body.forced else None, ()
        elif self.body.response_format is not None:
            constraint = self.body.response_format.constraint()
        if self.split and not self.in_call:
            stop = (*self.body.stop, CALL)
        return self.body.sampling(
            self.index, limit, logprobs=logprobs, stop=stop, used=self.used, constraint=constraint
        )

    async def take(self, job: Job, event: Event) -> Piece:
        """What the client gets of an event."""
        delta = event.delta
        self.used += len(delta.tokens)
        hidden = frozenset() if self.body.ignore_eos else self.served.engine.tokenizer.stop_ids
        if self.split:
            hidden |= frozenset(self.call_ids)
        tokens = [t for t in event.logprobs if t.id not in hidden]
        if not self.hide:
            return Piece(self.index, delta.text, tokens, delta.finish_reason)
        text = self.shown.push(delta.text)
        piece = Piece(self.index, text, [] if self.shown.in_call else tokens)
        if delta.finish_reason is None:
            return piece
        if self._begins_call(event):
            piece.text += self.shown.push(CALL)
            if not await self._write_call(job, event):
                piece.finish_reason = "length"
            return piece
        rest, call = self.shown.finish()
        piece.text += rest
        if call is not None and self.tools and await self._go_on(job, call):
            return piece
        piece.finish_reason = delta.finish_reason
        if call is not None and any(function.name == call.name for function in self.body.offered):
            piece.call, piece.finish_reason = call, "tool_calls"
        return piece

    def _begins_call(self, event: Event) -> bool:
        if not self.split or self.in_call:
            return False
        return event.delta.request.output_ids[-len(self.call_ids) :] == self.call_ids

    async def _write_call(self, job: Job, event: Event) -> bool:
        """Go on within the call; False when no token or room is left."""
        prompt = [*event.delta.request.prompt_ids, *event.delta.request.output_ids]
        if len(prompt) >= self.served.engine.positions or self._limit_reached():
            return False
        self.in_call = True
        await job.add([(self.index, prompt, self.params(prompt))])
        return True

    def _limit_reached(self) -> bool:
        return self.body.limit is not None and self.used >= self.body.limit

    async def _go_on(self, job: Job, call: ToolCall) -> bool:
        """Run a tool of the server and let the model read its answer; False when no round, token or room is left."""
        if self.rounds == ROUNDS or self._limit_reached():
            return False
        result = await asyncio.to_thread(run_tool, call, self.tools)
        self.messages += [assistant_message(self.shown.text), {"role": "tool", "content": result}]
        prompt = await asyncio.to_thread(self.served.engine.chat_prompt, self.messages)
        if len(prompt) > self.served.engine.positions:
            return False
        self.rounds += 1
        self.shown, self.in_call = CallFilter(), False
        await job.add([(self.index, prompt, self.params(prompt))])
        return True


def _call_body(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False, allow_nan=False)}
    return {"id": "call_" + uuid.uuid4().hex, "type": "function", "function": function}
