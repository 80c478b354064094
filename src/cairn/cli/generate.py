"""Complete a text.

    cairn generate runs/journey/pretrain "The list method" --max-tokens 40
    echo "What is 12 * 7?" | cairn generate runs/journey/dpo --chat

Prints what the model adds, as it comes. Without a prompt, or with -, the prompt is read from standard input. With
--chat the prompt is a question in the model's chat format, and the assistant may use the calculator.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cairn.cli.options import add_json, add_threads, finish
from cairn.core.config import add_options, option, read_options, to_dict
from cairn.core.errors import UserError

if TYPE_CHECKING:
    from cairn.inference import Engine, SamplingParams


@dataclass(frozen=True)
class Sampling:
    """What the command line sets of `SamplingParams`, shared with `cairn chat`."""

    max_tokens: int = option(128, "longest answer in tokens", minimum=1)
    temperature: float = option(0.0, "0 always takes the likeliest token, more is more varied", minimum=0)
    top_k: int = option(0, "sample among this many likeliest tokens; 0 is all", minimum=0)
    top_p: float = option(1.0, "sample among the likeliest tokens that together have this probability", minimum=0)
    min_p: float = option(0.0, "leave out tokens less likely than this share of the likeliest", minimum=0)
    seed: int | None = option(None, "makes sampling repeatable", minimum=0)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    add_options(parser, Sampling)
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated"
    )


def read_sampling(arguments: argparse.Namespace) -> "SamplingParams":
    from cairn.inference import SamplingParams

    return SamplingParams(**to_dict(read_options(Sampling, arguments, Sampling())), stop=tuple(arguments.stop))


def open_engine(directory: Path, threads: int, *, chat: bool) -> "Engine":
    """The engine of a model directory for one person; refuses one that cannot chat when it is to chat."""
    import cairn
    from cairn.core.compute import set_threads

    model, tokenizer = cairn.load(directory)
    if chat and tokenizer.chat_template is None:
        raise UserError(
            f"{directory} has no chat template, so it cannot chat: complete text with cairn generate, "
            "or teach it to answer with cairn sft"
        )
    set_threads(threads)
    return cairn.Engine(model, tokenizer, slots=1)


def printable(text: str) -> str:
    """A model may write control characters that would reprogram the terminal; they are shown as U+FFFD."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def write(text: str) -> None:
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR", help="model directory")
    parser.add_argument("prompt", nargs="?", default="-", help="text to go on with; - or nothing reads standard input")
    parser.add_argument("--chat", action="store_true", help="the prompt is a question to the assistant")
    add_sampling(parser)
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    params = read_sampling(arguments)
    prompt = arguments.prompt if arguments.prompt != "-" else _read_stdin()
    engine = open_engine(arguments.model, arguments.threads, chat=arguments.chat)
    result: dict[str, Any] = {"prompt": prompt, "text": ""}
    pieces = _chat(engine, prompt, params, result) if arguments.chat else _complete(engine, prompt, params, result)
    for text in pieces:
        write(text)
        result["text"] += text
    write("\n")
    finish(arguments, result)


def _read_stdin() -> str:
    if sys.stdin.isatty():
        print("Type the prompt; Ctrl-D on an empty line ends it.", file=sys.stderr)
    try:
        text = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise UserError("the prompt on standard input is not UTF-8 text") from None
    if not text:
        raise UserError('the prompt is empty: give one, as in cairn generate DIR "Once"')
    return text


def _complete(engine: "Engine", prompt: str, params: "SamplingParams", result: dict[str, Any]) -> Iterator[str]:
    for delta in engine.stream(prompt, params):
        yield delta.text
        request = delta.request
        result["finish_reason"] = request.finish_reason
        result["prompt_tokens"], result["completion_tokens"] = len(request.prompt_ids), len(request.output_ids)


def _chat(engine: "Engine", prompt: str, params: "SamplingParams", result: dict[str, Any]) -> Iterator[str]:
    from cairn.retrieval.tools import TOOLS
    from cairn.serving.turns import answer

    messages = [{"role": "user", "content": prompt}]
    yield from answer(engine, messages, params, TOOLS)
    result["messages"] = messages
