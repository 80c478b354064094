"""Complete a text.

    cairn generate runs/journey/pretrain "The list method" --max-tokens 40
    echo "What is 12 * 7?" | cairn generate runs/journey/dpo --chat
    cairn generate runs/journey/dpo "Tom is" --beams 4
    cairn generate runs/journey/dpo "A date:" --regex "[0-9]{4}-[0-9]{2}-[0-9]{2}"

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
from cairn.core.files import read_json

if TYPE_CHECKING:
    from cairn.inference import Engine, SamplingParams
    from cairn.inference.draft import Draft
    from cairn.models import Transformer


@dataclass(frozen=True)
class Sampling:
    """What the command line sets of `SamplingParams`, shared with `cairn chat`."""

    max_tokens: int = option(128, "longest answer in tokens", minimum=1)
    temperature: float = option(0.0, "0 always takes the likeliest token, more is more varied", minimum=0)
    top_k: int = option(0, "sample among this many likeliest tokens; 0 is all", minimum=0)
    top_p: float = option(1.0, "sample among the likeliest tokens that together have this probability", minimum=0)
    min_p: float = option(0.0, "leave out tokens less likely than this share of the likeliest", minimum=0)
    repetition_penalty: float = option(
        1.0, "divides the logits of tokens seen before; above 1 avoids them", minimum=0.01
    )
    frequency_penalty: float = option(0.0, "taken off a token's logit for each time it was said", minimum=-2)
    presence_penalty: float = option(0.0, "taken off the logit of a token that was said", minimum=-2)
    seed: int | None = option(None, "makes sampling repeatable", minimum=0)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    add_options(parser, Sampling)
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--regex", metavar="PATTERN", help="the answer matches this regular expression")
    shape.add_argument("--schema", type=Path, metavar="FILE", help="the answer is JSON that fits this JSON schema")


def read_sampling(arguments: argparse.Namespace) -> "SamplingParams":
    from cairn.inference import Constraint, SamplingParams

    constraint = None
    if arguments.regex is not None:
        constraint = Constraint.regex(arguments.regex)
    elif arguments.schema is not None:
        constraint = Constraint.json_schema(read_json(arguments.schema))
    values = to_dict(read_options(Sampling, arguments, Sampling()))
    return SamplingParams(**values, stop=tuple(arguments.stop), constraint=constraint)


def open_engine(directory: Path, threads: int, *, chat: bool, draft: str = "", slots: int = 1) -> "Engine":
    """The engine of a model directory; refuses one that cannot chat when it is to chat. draft: see `read_draft`."""
    import cairn

    model, tokenizer = cairn.load(directory)
    if chat and tokenizer.chat_template is None:
        raise UserError(
            f"{directory} has no chat template, so it cannot chat: complete text with cairn generate, "
            "or teach it to answer with cairn sft"
        )
    return cairn.Engine(model, tokenizer, slots=slots, threads=threads, draft=read_draft(draft, model, slots))


def add_draft(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--draft",
        default="",
        metavar="lookup|DIR",
        help="guess several tokens at once, from the text itself or by a smaller model; answers stay the same",
    )


def read_draft(draft: str, model: "Transformer", slots: int) -> "Draft | None":
    """`lookup`, or the directory of a smaller model with the same vocabulary; nothing for an empty string."""
    import cairn
    from cairn.inference import Lookup, ModelDraft

    if draft in ("", "lookup"):
        return Lookup() if draft else None
    smaller, _ = cairn.load(draft)
    return ModelDraft.of(smaller, model, requests=slots)


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
    parser.add_argument("--beams", type=int, default=0, metavar="N", help="beam search with this many beams")
    add_draft(parser)
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    params = read_sampling(arguments)
    prompt = arguments.prompt if arguments.prompt != "-" else _read_stdin()
    if _has_encoder(arguments.model):
        return _rewrite(arguments, prompt, params)
    slots = max(1, arguments.beams)
    engine = open_engine(arguments.model, arguments.threads, chat=arguments.chat, draft=arguments.draft, slots=slots)
    result: dict[str, Any] = {"prompt": prompt, "text": ""}
    if arguments.beams:
        return _beams(engine, arguments, prompt, params, result)
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


def _has_encoder(directory: Path) -> bool:
    from cairn.models.directory import read_model_config

    return read_model_config(directory)[0].encoder_layers > 0


def _rewrite(arguments: argparse.Namespace, prompt: str, params: "SamplingParams") -> None:
    """What an encoder-decoder (T5, Marian) makes of the whole prompt, greedily."""
    import torch

    import cairn
    from cairn.inference import SamplingParams
    from cairn.models import EncoderDecoder

    if arguments.chat or arguments.beams or arguments.draft or params != SamplingParams(max_tokens=params.max_tokens):
        raise UserError("a model with an encoder answers greedily: of the options only --max-tokens goes with it")
    model, tokenizer = cairn.load(arguments.model)
    assert isinstance(model, EncoderDecoder)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    ids = tokenizer.encode(prompt, add_special=True)
    # Marian's padding begins its answers and is likely ever after: its makers forbid it.
    banned = {model.config.start_id} if model.config.family == "marian" else set()
    stops = tokenizer.stop_ids
    (written,) = model.generate(torch.tensor([ids]), params.max_tokens, stop_ids=stops, banned_ids=banned)
    text = tokenizer.decode(written, skip_special=True)
    write(text + "\n")
    finish(arguments, {"prompt": prompt, "text": text, "prompt_tokens": len(ids), "completion_tokens": len(written)})


def _beams(
    engine: "Engine", arguments: argparse.Namespace, prompt: str, params: "SamplingParams", result: dict[str, Any]
) -> None:
    from cairn.inference import SamplingParams, beam_search

    if params != SamplingParams(max_tokens=params.max_tokens):
        raise UserError(
            "beam search takes the likeliest whole answer: of the sampling options only --max-tokens goes with it"
        )
    ids = engine.chat_prompt([{"role": "user", "content": prompt}]) if arguments.chat else prompt
    found = beam_search(engine, ids, beams=arguments.beams, max_tokens=params.max_tokens)
    result["text"] = found[0].text
    result["beams"] = [{"text": beam.text, "score": beam.score} for beam in found]
    write(found[0].text + "\n")
    finish(arguments, result)


def _chat(engine: "Engine", prompt: str, params: "SamplingParams", result: dict[str, Any]) -> Iterator[str]:
    from cairn.retrieval.tools import TOOLS
    from cairn.serving.turns import answer

    messages = [{"role": "user", "content": prompt}]
    yield from answer(engine, messages, params, TOOLS)
    result["messages"] = messages
