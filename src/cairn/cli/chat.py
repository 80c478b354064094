"""Talk with a model in the terminal.

    cairn chat runs/journey/dpo
    cairn chat runs/journey/dpo < questions.txt > answers.txt

/reset begins a new conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer. The oldest turns are dropped when the
model's context is full. Without a terminal, each line is a question of one conversation and each answer is one line.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cairn.cli.generate import add_sampling, open_engine, read_sampling, write
from cairn.cli.options import add_threads
from cairn.core.errors import UserError
from cairn.core.progress import say

if TYPE_CHECKING:
    from cairn.inference import Engine, SamplingParams


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR", help="model directory with a chat template")
    parser.add_argument("--system", metavar="TEXT", help="instructions that stand before the conversation")
    add_sampling(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    params = read_sampling(arguments)
    engine = open_engine(arguments.model, arguments.threads, chat=True)
    conversation = Conversation(engine, params, arguments.system)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        say("/reset begins anew, /quit ends, Ctrl-C stops an answer")
    for question in _typed() if terminal else _piped():
        if question == "/quit":
            break
        if question == "/reset":
            conversation.reset()
        elif question:
            _answer(conversation, question, terminal)


def _answer(conversation: "Conversation", question: str, terminal: bool) -> None:
    pieces = conversation.ask(question)
    try:
        if terminal:
            for text in pieces:
                write(text)
            write("\n")
        else:
            write(" ".join("".join(pieces).split()) + "\n")
    except UserError as error:
        if not terminal:
            raise
        say(f"cairn: {error}")  # too long a question is no reason to end the conversation
    except KeyboardInterrupt:
        if not terminal:
            raise
        write("\n")


def _typed() -> Iterator[str]:
    import readline  # noqa: F401 (gives input() a history and the arrow keys)

    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            write("\n")
            return
        except KeyboardInterrupt:
            write("\n")
            say("Ctrl-D or /quit ends")


def _piped() -> Iterator[str]:
    try:
        for line in sys.stdin.buffer:  # as text it would be read by the machine's locale
            yield line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UserError("standard input is not UTF-8 text") from None


class Conversation:
    """The turns so far, kept within the model's context."""

    def __init__(self, engine: "Engine", params: "SamplingParams", system: str | None):
        self.engine, self.params = engine, params
        self.start: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.told = False  # that turns were dropped
        self.reset()

    def reset(self) -> None:
        self.messages = list(self.start)

    def ask(self, question: str) -> Iterator[str]:
        """The answer as it comes. A question that got no answer is taken back: it does not fit (UserError), or Ctrl-C
        came before the first step."""
        from cairn.retrieval.tools import TOOLS
        from cairn.serving.turns import answer, fit

        self.messages.append({"role": "user", "content": question})
        try:
            dropped = fit(self.engine, self.messages, min(self.params.max_tokens, self.engine.positions // 2))
            if dropped and not self.told:
                self.told = True
                say(f"the context of {self.engine.positions} tokens is full: the oldest turns are dropped from now on")
            yield from answer(self.engine, self.messages, self.params, TOOLS)
        except BaseException:
            if self.messages[-1]["role"] == "user":
                self.messages.pop()
            raise
