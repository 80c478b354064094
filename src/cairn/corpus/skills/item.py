"""One question with its exact answer."""

import json
from dataclasses import dataclass
from typing import Any

from cairn.tokenizers.chat import Message

DECLINE = "I can't help with that."


@dataclass(frozen=True)
class Item:
    """question: what the user says. answer: what the assistant must end with, exactly. choices: how many answers a
    guesser who understood the question would choose among (0: practically endless). key: where the answer stands (the
    id of its source), for retrieval. expression: what the calculator must be asked first, if it must.
    """

    skill: str
    question: str
    answer: str
    choices: int = 0
    key: str = ""
    expression: str = ""

    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.question}]

    def conversation(self) -> list[Message]:
        """The question and everything the assistant should say, tool call and tool's answer included."""
        messages = self.messages()
        if self.expression:
            arguments: dict[str, Any] = {"expression": self.expression}
            function = {"name": "calculator", "arguments": json.dumps(arguments)}
            messages.append(
                {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
            )
            messages.append({"role": "tool", "content": self.answer})
        return [*messages, {"role": "assistant", "content": self.answer}]


def with_passage(question: str, passage: str) -> str:
    """A question that is to be answered from a passage: the one form in training, evaluation and retrieval."""
    return f"{passage}\n\n{question}"
