"""a is to b as c is to what? The best answers that word vectors have.

    cairn embeddings analogy runs/vectors man king woman
    cairn embeddings analogy glove.6B.50d.txt Athens Greece Oslo --method mul

The score of add is the cosine with b - a + c; that of mul is cos b x cos c / cos a, with cosines moved to between 0 and 1.
"""

import argparse

from cairn.cli.embeddings_neighbours import add_count, add_vectors, check_count
from cairn.cli.options import add_json, finish, print_table
from cairn.embeddings.analogies import METHODS, answers
from cairn.embeddings.formats import open_vectors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_vectors(parser)
    for name in "abc":
        parser.add_argument(name, metavar=name.upper(), help=f"word {name} of the question")
    parser.add_argument("--method", choices=METHODS, default="add", help="3CosAdd or 3CosMul (default: add)")
    add_count(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    check_count(arguments)
    question = arguments.a, arguments.b, arguments.c
    found = answers(open_vectors(arguments.vectors), *question, arguments.count, arguments.method)
    heading = f"{question[0]} is to {question[1]} as {question[2]} is to"
    print_table("Analogy", [heading, "score"], [[answer.word, f"{answer.similarity:.3f}"] for answer in found])
    finish(arguments, {"question": question, "method": arguments.method, "answers": [a._asdict() for a in found]})
