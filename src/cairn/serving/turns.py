"""An assistant's turn as it streams: what may be shown, and what is a tool call."""

from collections.abc import Iterator, Mapping

from cairn.core.errors import UserError
from cairn.inference import Engine, SamplingParams, ToolCall, assistant_message, parse_tool_call, run_tool
from cairn.inference.tools import Tool
from cairn.tokenizers.chat import CALL, Message

ROUNDS = 2  # tool calls that may follow one question


class CallFilter:
    """Lets an assistant's text through until a tool call begins; no part of a call is ever shown.

    >>> shown = CallFilter()
    >>> [shown.push(t) for t in ("Let me see", " <", "b> <|ca", 'll|>{"name": "f", "arguments": {}}')]
    ['Let me see', ' ', '<b> ', '']
    >>> shown.finish()
    ('', ToolCall(name='f', arguments={}))
    """

    def __init__(self) -> None:
        self.text = ""  # all of the turn
        self._shown = 0
        self.in_call = False

    def push(self, text: str) -> str:
        """What may be shown now that `text` was added."""
        self.text += text
        end = self.text.find(CALL, self._shown)
        self.in_call = end >= 0
        if not self.in_call:
            end = len(self.text) - _begun(self.text)
        return self._show(end)

    def finish(self) -> tuple[str, ToolCall | None]:
        """What is left to show, and the call. A call that was cut off or is not JSON is neither shown nor returned."""
        if self.in_call:
            return "", parse_tool_call(self.text)
        return self._show(len(self.text)), None

    def _show(self, end: int) -> str:
        shown = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown


def _begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `CALL`."""
    return next((n for n in range(len(CALL) - 1, 0, -1) if text.endswith(CALL[:n])), 0)


def answer(engine: Engine, messages: list[Message], params: SamplingParams, tools: Mapping[str, Tool]) -> Iterator[str]:
    """The assistant's answer as it comes, tools being run on the way; the turns are appended to `messages`.

    Closing the iterator (or Ctrl-C) stops the answer; what was said so far stays in `messages`.
    """
    for turn in range(ROUNDS + 1):
        prompt = engine.chat_prompt(messages)
        shown = CallFilter()
        try:
            for delta in engine.stream(prompt, params):
                yield shown.push(delta.text)
            rest, call = shown.finish()
            yield rest
        finally:
            messages.append(assistant_message(shown.text))
        if call is None or turn == ROUNDS:
            return
        messages.append({"role": "tool", "content": run_tool(call, tools)})


def fit(engine: Engine, messages: list[Message], reserve: int) -> int:
    """Drop the oldest turns of `messages` until `reserve` tokens are free for an answer; returns how many were dropped.

    A leading system message and the last question stay. Raises UserError when these alone are too long.
    """
    dropped = 0
    while (length := len(engine.chat_prompt(messages))) + reserve > engine.positions:
        first = 1 if messages[0]["role"] == "system" else 0
        later = [i for i in range(first + 1, len(messages)) if messages[i]["role"] == "user"]
        if not later:
            if length < engine.positions:
                return dropped  # less room for the answer than wished, but some
            raise UserError(f"the question has {length} tokens, the model takes {engine.positions}: ask a shorter one")
        del messages[first : later[0]]
        dropped += 1
    return dropped
