"""Train a tokenizer with special tokens and a chat template, on the general part of a corpus or on any folder of text.

    cairn tokenizer --corpus runs/corpus --out runs/tokenizer --vocab-size 2048
    cairn tokenizer --data my-texts --out runs/tokenizer --kind unigram --vocab-size 8000

cairn tokenizer compare shows what tokenizers make of a text, cairn tokenizer convert writes other libraries' files.
"""

import argparse
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, write_json
from cairn.core.progress import say
from cairn.corpus import Corpus
from cairn.corpus.documents import Quarantine
from cairn.corpus.sources import read_folder
from cairn.corpus.vocabulary import VOCAB_SIZE, compression, tokenizer_stage
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.pretokenize import NAMED, pattern_named
from cairn.tokenizers.training import BYTE_LEVEL, KINDS, train_kind

DEFAULT_PATTERN = "qwen2"
MEASURED = 50  # documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, metavar="DIR", help="corpus directory")
    source.add_argument("--data", type=Path, metavar="FOLDER", help="folder (or file) of text of any kind")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="tokenizer directory to write")
    parser.add_argument(
        "--vocab-size", type=int, default=VOCAB_SIZE, metavar="INT", help=f"number of ids (default: {VOCAB_SIZE})"
    )
    parser.add_argument("--kind", choices=KINDS, default=BYTE_LEVEL, help=f"how text is cut (default: {BYTE_LEVEL})")
    parser.add_argument(
        "--pattern",
        metavar="NAME",
        help=f"split pattern of {BYTE_LEVEL}: {', '.join(NAMED)}, or a regular expression (default: {DEFAULT_PATTERN})",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads; 0 takes every core (default: 0)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.pattern and arguments.kind != BYTE_LEVEL:
        raise UserError(f"--pattern belongs to --kind {BYTE_LEVEL}; {arguments.kind} finds its own places to cut")
    if arguments.threads < 0:
        raise UserError(f"--threads must be at least 0, got {arguments.threads}")
    threads = arguments.threads or os.cpu_count() or 1
    corpus = Corpus(arguments.corpus) if arguments.corpus else None
    if corpus and arguments.kind == BYTE_LEVEL and arguments.pattern in (None, DEFAULT_PATTERN):
        tokenizer = tokenizer_stage(corpus, arguments.vocab_size, arguments.out, threads)
    else:
        tokenizer = _train(arguments, corpus, threads)
    if corpus:
        measured = compression(tokenizer, corpus)
    else:
        measured = {"training": _bytes_per_token(tokenizer, _documents(arguments.data, Quarantine()))}
    result = {"kind": arguments.kind, "vocab_size": tokenizer.vocab_size, "bytes_per_token": measured}
    rows = [[part, f"{value:.2f}"] for part, value in measured.items()]
    text = "validation text" if corpus else "text"
    print_table(f"Tokenizer with {tokenizer.vocab_size} ids", [text, "bytes a token"], rows)
    finish(arguments, result)


def _train(arguments: argparse.Namespace, corpus: Corpus | None, threads: int) -> Tokenizer:
    out: Path = arguments.out
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out, or delete it")
    quarantine = Quarantine()
    texts = corpus.texts("general-train") if corpus else _documents(arguments.data, quarantine)
    pattern = pattern_named(arguments.pattern or DEFAULT_PATTERN)
    tokenizer = train_kind(arguments.kind, texts, arguments.vocab_size, pattern=pattern, threads=threads)
    if quarantine.counts:
        say(f"left out: {quarantine.summary()}")
    with atomic_directory(out) as directory:
        tokenizer.save(directory)
        record = {"stage": "tokenizer", "kind": arguments.kind, "source": str(arguments.corpus or arguments.data)}
        write_json(directory / "cairn.json", record)
    return Tokenizer.load(out)


def _documents(folder: Path, quarantine: Quarantine) -> Iterator[str]:
    found = False
    for document in read_folder(folder, quarantine):
        found = True
        yield document.text
    if not found:
        raise UserError(f"no usable text in {folder}; left out: {quarantine.summary()}")


def _bytes_per_token(tokenizer: Tokenizer, texts: Iterator[str]) -> float:
    sample = list(islice(texts, MEASURED))
    tokens = sum(len(tokenizer.encode(text)) for text in sample)
    return round(sum(len(text.encode()) for text in sample) / max(tokens, 1), 4)
