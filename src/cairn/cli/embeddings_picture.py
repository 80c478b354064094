"""Draw words as points on a plane, near each other where their vectors are.

    cairn embeddings picture runs/vectors --out words.svg
    cairn embeddings picture runs/vectors --out seasons.svg --words spring summer autumn winter king queen --method tsne
    cairn embeddings picture runs/vectors --out words.svg --count 500 --export projector

--export also writes vectors.tsv and metadata.tsv, which projector.tensorflow.org and TensorBoard's projector open.
"""

import argparse
from pathlib import Path

from cairn.cli.embeddings_neighbours import add_vectors
from cairn.cli.options import add_json, finish
from cairn.embeddings.formats import open_vectors
from cairn.embeddings.projector import METHODS, chosen, export, picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_vectors(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write: .svg or .png")
    parser.add_argument(
        "--words", nargs="+", default=[], metavar="WORD", help="words to draw (default: the most frequent)"
    )
    parser.add_argument(
        "--count", type=int, default=150, metavar="N", help="how many of the most frequent (default: 150)"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="pca",
        help="principal components, or t-SNE, which keeps neighbours (default: pca)",
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="also write the pair of files of TensorFlow's projector"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    vectors = open_vectors(arguments.vectors)
    words = chosen(vectors, arguments.words, arguments.count)
    files = [picture(vectors, words, arguments.out, arguments.method)]
    if arguments.export:
        files += export(vectors, words, arguments.export)
    for file in files:
        print(f"{file}: {len(words)} words")
    finish(arguments, {"words": words, "method": arguments.method, "files": [str(file) for file in files]})
