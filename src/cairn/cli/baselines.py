"""What came before the Transformer: n-grams, RNN, GRU, LSTM and a Transformer trained on the same tokens, in bits per byte.

    cairn baselines --out runs/baselines                       # on Python's documentation
    cairn baselines --data my-texts --out runs/baselines
    cairn baselines --corpus runs/corpus --out runs/baselines --steps 2000 --orders 3 5

An interrupted run goes on where it was when the same command is given again.
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.core.compute import set_threads
from cairn.corpus import Corpus, CorpusConfig, build_corpus
from cairn.corpus.build import complete_corpus
from cairn.journey.baselines import BaselinesConfig, baselines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--corpus", type=Path, metavar="DIR", help="corpus directory")
    source.add_argument("--data", metavar="FOLDER", default="", help="folder of texts; neither: Python's documentation")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of models, figures and pictures")
    add_settings(parser, BaselinesConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, BaselinesConfig())
    set_threads(arguments.threads)
    if arguments.corpus:
        corpus = Corpus(arguments.corpus)
    else:
        source, where = CorpusConfig(data=arguments.data), arguments.out / "corpus"
        corpus = complete_corpus(source, where) or build_corpus(source, where)
    result = baselines(config, corpus, arguments.out)
    lowest = min(result["rows"], key=lambda row: row["bits_per_byte"])
    rows = [
        [
            row["name"] + (" (lowest)" if row is lowest else ""),
            f"{row['bits_per_byte']:.3f}",
            f"{row['low']:.3f} .. {row['high']:.3f}",
            row["n"],
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            f"{row['seconds']:.0f}" if "seconds" in row else "",
        ]
        for row in result["rows"]
    ]
    columns = ["model", "bits per byte", "95 % over documents", "n", "parameters", "tokens seen", "training seconds"]
    print_table(f"{result['train']['tokens']:,} tokens to learn from (chance: 8 bits per byte)", columns, rows)
    print("All models are measured on the same documents: their differences are surer than the intervals show.")
    print(f"Pictures: {arguments.out / 'baselines.svg'}, {arguments.out / 'gradient.svg'}")
    finish(arguments, result)
