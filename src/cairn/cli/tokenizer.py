"""Train a byte-level BPE with special tokens and a chat template on the general part of a corpus.

cairn tokenizer --corpus runs/corpus --out runs/tokenizer --vocab-size 2048
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, finish, print_table
from cairn.corpus import Corpus
from cairn.corpus.vocabulary import VOCAB_SIZE, compression, tokenizer_stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="corpus directory")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="tokenizer directory to write")
    parser.add_argument(
        "--vocab-size", type=int, default=VOCAB_SIZE, metavar="INT", help=f"number of ids (default: {VOCAB_SIZE})"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    corpus = Corpus(arguments.corpus)
    tokenizer = tokenizer_stage(corpus, arguments.vocab_size, arguments.out)
    result = {"vocab_size": tokenizer.vocab_size, "bytes_per_token": compression(tokenizer, corpus)}
    rows = [[part, f"{value:.2f}"] for part, value in result["bytes_per_token"].items()]
    print_table(f"Tokenizer with {tokenizer.vocab_size} ids", ["validation text", "bytes a token"], rows)
    finish(arguments, result)
