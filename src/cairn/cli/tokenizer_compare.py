"""One text under several tokenizers: how many tokens, what each language pays, what it costs, and the pieces in colours.

    cairn tokenizer compare --tokenizers runs/tokenizer cl100k_base.tiktoken          # fifteen languages, built in
    cairn tokenizer compare notes.txt my-texts --tokenizers A B --price 2.5 --svg pieces.svg
    cairn tokenizer compare English=en.txt Hindi=hi.txt --tokenizers A B              # the same text in two languages

A tokenizer is a directory or file of any form: tokenizer.json, SentencePiece's .model, GPT-2's pair, tiktoken's ranks,
vocab.txt. A word is a run of letters, marks and digits; scripts without spaces between words have none that are counted.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError
from cairn.core.files import write_text
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.compare import UNSPACED, Comparison, Figures, Sample, compare, excerpt, unknown_ids
from cairn.tokenizers.sentences import SENTENCES

REFERENCES = ("english", "en", "eng", "latin")  # what others are a multiple of, where it is among the groups
UNKNOWN = " ?"  # beside a figure that is flattered by text the tokenizer cannot write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        help="file, folder, - for standard input, or LABEL=FILE for texts that say the same in several languages; "
        "none: sentences in fifteen languages",
    )
    parser.add_argument(
        "--tokenizers", nargs="+", required=True, metavar="PATH", help="directories or files of tokenizers"
    )
    parser.add_argument(
        "--price",
        nargs="+",
        type=float,
        default=[],
        metavar="USD",
        help="US dollars for a million tokens: one price, or one for each tokenizer",
    )
    parser.add_argument(
        "--reference",
        metavar="LABEL",
        help="language that the others are a multiple of (default: English, or the first)",
    )
    parser.add_argument(
        "--pieces",
        type=int,
        default=400,
        metavar="N",
        help="show the pieces of the first N characters; 0: none (default: 400)",
    )
    parser.add_argument("--svg", metavar="FILE", type=Path, help="also draw these pieces as an SVG")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    paths = _named(arguments.tokenizers)
    prices = _prices(arguments.price, len(paths))
    if arguments.pieces < 0 or (arguments.svg and not arguments.pieces):
        raise UserError("--pieces must be at least 0, and above 0 for --svg")
    sources = _sources(arguments.text)
    parallel = sources[0][0] is not None
    tokenizers = {name: Tokenizer.load(path) for name, path in paths.items()}
    beginnings: dict[tuple[str | None, str], str] = {}

    def samples() -> Iterator[Sample]:
        for label, path in sources:
            for text in _texts(label, path):
                beginnings.setdefault((label, path), excerpt(text, arguments.pieces // len(sources)))
                yield Sample(label, text)

    results = compare(tokenizers, samples())
    first = next(iter(results.values()))
    if not first.total.bytes:
        raise UserError("there is no text to compare on")
    reference = _reference(arguments.reference, list(first.groups), parallel)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a pipe may not have every script
    _print_totals(tokenizers, results, prices)
    _print_groups(results, reference, parallel)
    if arguments.pieces:
        _show_pieces(tokenizers, "\n".join(beginnings.values()), arguments.svg)
    finish(
        arguments,
        {
            "parallel": parallel,
            "reference": reference,
            "tokenizers": [
                _record(name, str(paths[name]), tokenizers[name], result, price, reference, parallel)
                for (name, result), price in zip(results.items(), prices)
            ],
        },
    )


def _named(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each tokenizer; the path as typed where two would be called alike."""
    short = [Path(path).resolve().name for path in paths]
    names = {(name if short.count(name) == 1 else path): path for name, path in zip(short, paths)}
    if len(names) < len(paths):
        raise UserError("--tokenizers names the same path twice")
    return names


def _prices(prices: Sequence[float], count: int) -> list[float | None]:
    if len(prices) not in (0, 1, count) or any(not 0 <= price < float("inf") for price in prices):
        raise UserError(f"--price takes one price from 0 on, or one for each of the {count} tokenizers")
    return [*prices] * (count // len(prices)) if prices else [None] * count


def _sources(words: Sequence[str]) -> list[tuple[str | None, str]]:
    """(label, path) of each text; the built-in sentences are labels without a path."""
    if not words:
        return [(label, "") for label in SENTENCES]
    sources: list[tuple[str | None, str]] = []
    for word in words:
        label, equals, path = word.partition("=")
        labelled = bool(equals) and "/" not in label and not Path(word).exists()
        sources.append((label, path) if labelled else (None, word))
    if len({label is None for label, _ in sources}) > 1:
        raise UserError("give every text a label (LABEL=FILE) or none: labelled texts are compared as the same content")
    return sources


def _texts(label: str | None, path: str) -> Iterator[str]:
    """The documents of a source. Records that cannot be read are counted and said."""
    from cairn.core.progress import say
    from cairn.corpus.documents import Quarantine
    from cairn.corpus.sources import SUFFIXES, read_folder

    if not path and label in SENTENCES:
        yield SENTENCES[label]
    elif path == "-" or (Path(path).is_file() and Path(path).suffix not in SUFFIXES):
        try:
            yield (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: byte {error.start} is not UTF-8; only text is compared") from None
    else:
        quarantine = Quarantine()
        for document in read_folder(path, quarantine):
            yield document.text
        if quarantine.counts:
            say(f"{path}: left out {quarantine.summary()}")


def _reference(wanted: str | None, groups: list[str], parallel: bool) -> str:
    if wanted is None:
        return next((group for group in groups if group.lower() in REFERENCES), groups[0])
    if wanted not in groups:
        kind = "label" if parallel else "script"
        raise UserError(f"--reference {wanted!r} is no {kind} of these texts: {', '.join(groups)}")
    return wanted


def _print_totals(tokenizers: dict[str, Tokenizer], results: dict[str, Comparison], prices: list[float | None]) -> None:
    columns = ["tokenizer", "ids", "tokens", "bytes/token", "characters/token", "tokens/word", "whole words", "unknown"]
    columns += ["round trip"] + (["US dollars"] if prices[0] is not None else [])
    rows = []
    for (name, result), price in zip(results.items(), prices):
        total, ratios = result.total, result.total.to_dict()
        row = [name, f"{tokenizers[name].vocab_size:,}", f"{total.tokens:,}"]
        row += [_number(ratios[key]) for key in ("bytes_per_token", "characters_per_token", "fertility")]
        row += [_number(ratios["whole_share"], "{:.1%}"), f"{total.unknown:,}", f"{result.exact} of {result.documents}"]
        rows.append(row + ([f"{_cost(total, price):.6g}"] if price is not None else []))
    text = next(iter(results.values())).total
    print_table(f"{text.bytes:,} bytes, {text.characters:,} characters, {text.words:,} words", columns, rows)


def _print_groups(results: dict[str, Comparison], reference: str, parallel: bool) -> None:
    """What each language (or script) takes under each tokenizer."""
    first = next(iter(results.values()))
    relative = {name: result.relative(reference, parallel) for name, result in results.items()}
    rows = []
    for group, figures in first.groups.items():
        row = [group, f"{figures.bytes:,}", f"{figures.characters:,}"]
        for name, result in results.items():
            row.append(_cell(group, result.groups.get(group, Figures()), relative[name].get(group), parallel))
        rows.append(row)
    what = "Tokens for the same content" if parallel else "Tokens by script"
    title = f"{what}, as a multiple of {reference}"
    print_table(title, ["language" if parallel else "script", "bytes", "characters", *results], rows)
    if any(result.total.unknown for result in results.values()):
        print(f"{UNKNOWN.strip()}: cheap because text is lost; unknown tokens are among these")


def _cell(group: str, counted: Figures, relative: float | None, parallel: bool) -> str:
    multiple = _number(relative, "{:.2f}x")
    if parallel:
        text = f"{counted.tokens:,}  {multiple}"
    elif counted.fertility is not None and group not in (*UNSPACED, "Japanese"):
        text = f"{counted.fertility:.2f} /word  {multiple}"
    else:
        text = f"{counted.tokens / max(counted.characters, 1):.2f} /character"
    return text + (UNKNOWN if counted.unknown else "")


def _show_pieces(tokenizers: dict[str, Tokenizer], text: str, svg: Path | None) -> None:
    from rich.console import Console

    from cairn.tokenizers import pictures

    rows = [(name, pictures.pieces(tokenizer, text)) for name, tokenizer in tokenizers.items()]
    if svg:
        write_text(svg, pictures.svg([(f"{name}: {len(row)} pieces", row) for name, row in rows]))
    console = Console(highlight=False)
    for name, row in rows:
        print(f"\n{name}: {len(row)} pieces")
        if console.is_terminal:
            console.print(pictures.colored(row))
        else:
            print(pictures.plain(row))


def _record(
    name: str, path: str, tokenizer: Tokenizer, result: Comparison, price: float | None, reference: str, parallel: bool
) -> dict[str, Any]:
    relative = result.relative(reference, parallel)
    return {
        "name": name,
        "path": path,
        "kind": tokenizer.model.kind,
        "vocab_size": tokenizer.vocab_size,
        "can_be_unknown": bool(unknown_ids(tokenizer)),
        "total": result.total.to_dict(),
        "documents": result.documents,
        "exact": result.exact,
        "usd_per_million_tokens": price,
        "usd": None if price is None else _cost(result.total, price),
        "groups": {
            group: figures.to_dict() | {"relative": relative[group]} for group, figures in result.groups.items()
        },
    }


def _cost(figures: Figures, price: float) -> float:
    return figures.tokens * price / 1e6


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "–" if value is None else form.format(value)
