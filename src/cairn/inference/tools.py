"""Conversations in which the assistant may call tools: find the call, run the tool, let the assistant go on."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cairn.inference.engine import Engine
from cairn.inference.sampling import SamplingParams
from cairn.tokenizers.chat import CALL, Message

Tool = Callable[..., str]


@dataclass(frozen=True)
class ToolCall:
    name: str
    arguments: dict[str, Any]


def parse_tool_call(text: str) -> ToolCall | None:
    """The call in an assistant's turn, or None when there is none or it is not the JSON it should be."""
    _, found, body = text.partition(CALL)
    if not found:
        return None
    try:
        value = json.loads(body, parse_constant=_finite, parse_float=_finite)
        name, arguments = value["name"], value["arguments"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return ToolCall(name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _finite(text: str) -> float:
    """A number of the call. NaN, Infinity and 1e999 are none in JSON, and whoever receives the call could not read them."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value


def assistant_message(text: str) -> Message:
    """An assistant's turn as a message, with its tool call in OpenAI's form."""
    call = parse_tool_call(text)
    if call is None:
        return {"role": "assistant", "content": text}
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False, allow_nan=False)}
    content = text.partition(CALL)[0]
    return {"role": "assistant", "content": content, "tool_calls": [{"type": "function", "function": function}]}


def run_tool(call: ToolCall, tools: Mapping[str, Tool]) -> str:
    """The tool's answer; a mistake in the call is told to the model, not raised."""
    if call.name not in tools:
        return f"error: there is no tool {call.name}"
    try:
        return tools[call.name](**call.arguments)
    except (TypeError, ValueError) as error:
        return f"error: {error}"


def converse(
    engine: Engine,
    conversations: Sequence[Sequence[Message]],
    params: SamplingParams,
    tools: Mapping[str, Tool],
    *,
    rounds: int = 2,
) -> list[list[Message]]:
    """The messages that follow each conversation: calls, tools' answers and, last, the assistant's answer."""
    added: list[list[Message]] = [[] for _ in conversations]
    open_ = list(range(len(conversations)))
    for turn in range(rounds + 1):
        outputs = engine.chat([[*conversations[i], *added[i]] for i in open_], params)
        still = []
        for i, output in zip(open_, outputs):
            added[i].append(assistant_message(output.text))
            call = parse_tool_call(output.text)
            if call is not None and turn < rounds:
                added[i].append({"role": "tool", "content": run_tool(call, tools)})
                still.append(i)
        open_ = still
        if not open_:
            break
    return added
