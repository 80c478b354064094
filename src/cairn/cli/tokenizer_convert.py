"""Read a tokenizer of any form and write it in another.

    cairn tokenizer convert o200k_base.tiktoken runs/o200k --to tokenizer.json
    cairn tokenizer convert runs/tokenizer ours.tiktoken --to tiktoken
    cairn tokenizer convert mine.tiktoken runs/mine --to tokenizer.json --pattern cl100k --special '<|end|>=50000'

tokenizer.json writes a directory for `tokenizers` and `transformers`, the others a file. What is written is read back and
compared with the source on sentences in fifteen languages.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cairn.cli.options import add_json, finish
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory
from cairn.tokenizers import Tokenizer, tiktoken
from cairn.tokenizers.byte_level import ByteLevelBPE
from cairn.tokenizers.pretokenize import NAMED, pattern_named
from cairn.tokenizers.sentences import SENTENCES

FORMS = ("tokenizer.json", "tiktoken", "sentencepiece")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="directory or file of a tokenizer")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory (tokenizer.json) or file to write")
    parser.add_argument("--to", required=True, choices=FORMS, help="form to write")
    parser.add_argument(
        "--pattern",
        metavar="NAME",
        help=f"split pattern of a rank file, which does not name its own: {', '.join(NAMED)}, or a regular expression",
    )
    parser.add_argument(
        "--special", nargs="+", default=[], metavar="TEXT=ID", help="special tokens of a rank file, for the same reason"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists():
        raise UserError(f"{arguments.out} exists already; choose another OUT, or delete it")
    tokenizer = _read(arguments.source, arguments.pattern, arguments.special)
    writers = {"tokenizer.json": _write_directory, "tiktoken": _write_ranks, "sentencepiece": _write_pieces}
    notes, back = writers[arguments.to](tokenizer, arguments.out)
    same, first = _agreement(tokenizer, back)
    notes.append(
        f"read back, {same} of {len(SENTENCES)} sample texts are cut alike" + (f"; not {first}" if first else "")
    )
    print(f"{arguments.out}: {tokenizer.model.kind}, {tokenizer.vocab_size:,} ids, as {arguments.to}")
    for note in notes:
        print(f"  {note}")
    finish(arguments, {"kind": tokenizer.model.kind, "vocab_size": tokenizer.vocab_size, "notes": notes})


def _read(path: Path, pattern: str | None, special: Sequence[str]) -> Tokenizer:
    if pattern is None and not special:
        return Tokenizer.load(path)
    if path.suffix != ".tiktoken":
        raise UserError(f"{path}: --pattern and --special are for rank files (.tiktoken); other forms name their own")
    if not path.exists():
        raise UserError(f"{path} does not exist")
    tokens: dict[str, int] = {}
    for word in special:
        text, _, number = word.rpartition("=")
        if not text or not number.isdecimal():
            raise UserError(f"--special {word!r}: TEXT=ID is wanted, as in '<|end|>=50000'")
        tokens[text] = int(number)
    return tiktoken.load(path, pattern=pattern_named(pattern) if pattern else None, special=tokens or None)


def _write_directory(tokenizer: Tokenizer, out: Path) -> tuple[list[str], Tokenizer]:
    with atomic_directory(out) as directory:
        tokenizer.save(directory)
    return [], Tokenizer.load(out)


def _write_ranks(tokenizer: Tokenizer, out: Path) -> tuple[list[str], Tokenizer]:
    """Ranks hold neither the split pattern nor special tokens: who loads them has to be told."""
    model = tokenizer.model
    if not isinstance(model, ByteLevelBPE):
        raise UserError(f"rank files hold byte-level BPE alone, this is {model.kind}")
    _check_name(out, ".tiktoken")
    several = tiktoken.save(tokenizer, out)
    name = next((name for name, known in NAMED.items() if known == model.pattern), None)
    notes = [f"a rank file does not hold the split pattern; load it with: {name or model.pattern}"]
    if tokenizer.special:
        notes.append(f"nor special tokens; add with ids of your own: {', '.join(tokenizer.special)}")
    if model.normalizer or model.add_prefix_space:
        notes.append(f"nor what is done to a text first ({model.normalizer or 'a space before it'})")
    back = tiktoken.load(out, pattern=model.pattern, special={})
    if any(back.token_bytes(i) != data for i, data in model.bytes_of.items()):
        notes.append("ids differ: ranks count from 0, the 256 bytes first")
    if several:
        notes.append(f"{several:,} tokens can be made of other parts than was learned; tiktoken may then cut otherwise")
    return notes, back


def _write_pieces(tokenizer: Tokenizer, out: Path) -> tuple[list[str], Tokenizer]:
    from cairn.tokenizers.modelfile import write_model_file
    from cairn.tokenizers.pieces import PieceModel

    if not isinstance(tokenizer.model, PieceModel):
        raise UserError(f"a .model file holds unigram or SentencePiece BPE models, this is {tokenizer.model.kind}")
    _check_name(out, ".model")
    write_model_file(tokenizer.model.file, out)
    lost = [text for text in tokenizer.special if text not in tokenizer.model.special]
    notes = [f"left out, as a .model file knows only its own pieces: {', '.join(lost)}"] if lost else []
    if tokenizer.chat_template:
        notes.append("left out: the chat template")
    return notes, Tokenizer.load(out)


def _check_name(out: Path, suffix: str) -> None:
    if out.suffix != suffix:  # by which it is known when it is read
        raise UserError(f"{out}: the name of this form of file ends in {suffix}")


def _agreement(source: Tokenizer, back: Tokenizer) -> tuple[int, str | None]:
    """How many sample texts both cut into the same bytes, and the first that they do not."""

    def cut(tokenizer: Tokenizer, text: str) -> list[bytes]:
        return [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]

    different = [language for language, text in SENTENCES.items() if cut(source, text) != cut(back, text)]
    return len(SENTENCES) - len(different), next(iter(different), None)
