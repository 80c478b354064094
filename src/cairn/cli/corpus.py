"""Read a folder (or Python's own documentation and source), split it by document, and store it.

cairn corpus --out runs/corpus
cairn corpus --data my-texts --out runs/corpus
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, add_settings, finish, print_table, read_settings
from cairn.corpus import CorpusConfig, build_corpus
from cairn.corpus.build import complete_corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="corpus directory to write")
    add_settings(parser, CorpusConfig())
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, CorpusConfig())
    corpus = complete_corpus(config, arguments.out) or build_corpus(config, arguments.out)
    counts = corpus.info["counts"]
    print_table(
        "Corpus",
        ["part", "documents", "bytes"],
        [[k, f"{v['documents']:,}", f"{v['bytes']:,}"] for k, v in counts.items()],
    )
    quarantine = corpus.info["quarantine"]
    if quarantine["counts"]:
        print_table("Left out", ["reason", "records"], sorted(quarantine["counts"].items()))
        for example in quarantine["examples"][:5]:
            print(f"  {example['where']}: {example['reason']}")
    finish(arguments, corpus.info)
