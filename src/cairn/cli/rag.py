"""Answer questions from a corpus, and show what the same model says without it.

    cairn rag runs/first/dpo --corpus runs/first/corpus --question "Which module has urlparse?"
    cairn rag runs/first/dpo --corpus runs/first/corpus < questions.txt

Without --question, questions are asked in the terminal, or read from standard input, one a line.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cairn.core.errors import UserError
from cairn.core.files import write_json

if TYPE_CHECKING:
    from cairn.retrieval import Answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", type=Path, help="model directory with a chat template")
    parser.add_argument("--corpus", metavar="CORPUS", type=Path, required=True, help="corpus directory to search")
    parser.add_argument("--question", metavar="TEXT", help="ask this and stop")
    parser.add_argument("--passages", metavar="N", type=int, default=1, help="passages given to the model (default: 1)")
    parser.add_argument("--size", metavar="N", type=int, default=400, help="characters of a passage (default: 400)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=48, help="longest answer (default: 48)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write questions, passages and answers there too")


def run(arguments: argparse.Namespace) -> None:
    for name in ("passages", "size", "max_tokens"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    import cairn
    from cairn.corpus import Corpus
    from cairn.retrieval import Retriever, answer

    corpus = Corpus(arguments.corpus)
    parts = ("general-train", "general-valid")
    retriever = Retriever.of((d for part in parts for d in corpus.documents(part)), arguments.size)
    engine = cairn.Engine(*cairn.load(arguments.model), slots=16)
    if engine.positions <= arguments.max_tokens:
        raise UserError(f"--max-tokens must be below the {engine.positions} tokens that the model takes")
    rows = []
    for questions in _questions(arguments.question):
        try:
            answers = answer(engine, retriever, questions, k=arguments.passages, max_tokens=arguments.max_tokens)
        except UserError as error:
            if not sys.stdin.isatty() or arguments.question is not None:
                raise
            print(f"cairn: {error}", file=sys.stderr)  # too long a question is no reason to end the conversation
            continue
        for one in answers:
            print(_shown(one), flush=True)
            rows.append(_row(one))
    if arguments.json:
        write_json(arguments.json, rows)


def _questions(given: str | None) -> Iterator[list[str]]:
    """Groups of questions to be answered together."""
    if given is not None:
        if not given.strip():
            raise UserError("--question is empty")
        yield [given]
    elif sys.stdin.isatty():
        print("Ask about the corpus; an empty line ends.", file=sys.stderr)
        while question := _ask():
            yield [question]
    else:
        questions = [line.strip() for line in sys.stdin if line.strip()]
        if not questions:
            raise UserError("no question on standard input; give one a line, or use --question TEXT")
        yield questions


def _ask() -> str:
    try:
        return input("question> ").strip()
    except EOFError:
        return ""


def _shown(answer: "Answer") -> str:
    """The passages by number and title, the grounded answer with the numbers of the passages it was read from."""
    lines = [answer.question]
    for number, hit in enumerate(answer.hits, 1):
        lines.append(f"\n  [{number}] {hit.passage.title}  ({hit.passage.id}, score {hit.score:.1f})")
        lines.append(textwrap.indent(hit.passage.text, "      "))
    cited = " ".join(f"[{number}]" for number in range(1, len(answer.hits) + 1)) or "(no passage shares a word with it)"
    lines.append(f"\n  with retrieval     {_line(answer.grounded)} {cited}")
    lines.append(f"  without retrieval  {_line(answer.without)}\n")
    # A corpus or a model may hold control characters that would reprogram the terminal.
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in "\n".join(lines))


def _line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"


def _row(answer: "Answer") -> dict[str, object]:
    passages = [
        {"id": h.passage.id, "title": h.passage.title, "text": h.passage.text, "score": h.score} for h in answer.hits
    ]
    return {"question": answer.question, "passages": passages, "with": answer.grounded, "without": answer.without}
