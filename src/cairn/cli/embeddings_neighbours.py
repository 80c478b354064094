"""The words whose vectors point most nearly the same way as a word's.

    cairn embeddings neighbours runs/vectors river king
    cairn embeddings neighbours glove.6B.50d.txt river --count 5

The vectors are a directory of cairn's, or a file in the form of word2vec, GloVe or fastText (.vec).
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError
from cairn.embeddings.formats import open_vectors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_vectors(parser)
    parser.add_argument("word", nargs="+", metavar="WORD", help="a word of the vocabulary; fastText takes any")
    add_count(parser)
    add_json(parser)


def add_vectors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help="directory or file of word vectors")


def add_count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=10, metavar="N", help="words to show (default: 10)")


def check_count(arguments: argparse.Namespace) -> None:
    if arguments.count < 1:
        raise UserError(f"--count must be at least 1, got {arguments.count}")


def run(arguments: argparse.Namespace) -> None:
    check_count(arguments)
    vectors = open_vectors(arguments.vectors)
    found = {word: vectors.nearest(word, arguments.count) for word in arguments.word}
    for word, neighbours in found.items():
        print_table("Nearest", [f"to {word}", "cosine"], [[n.word, f"{n.similarity:.3f}"] for n in neighbours])
    finish(arguments, {word: [n._asdict() for n in neighbours] for word, neighbours in found.items()})
