"""Build a large corpus by a recipe: read, clean, deduplicate, encode. Interrupted, the same command goes on.

cairn corpus build corpus.toml --out runs/corpus --workers 2
cairn corpus build --example > corpus.toml
cairn corpus build --settings
"""

import argparse
import os
from pathlib import Path

from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError

EXAMPLE = """\
# Where the text comes from: path (a folder or file), corpus (a name from `cairn corpus download`), url or hub.
[[sources]]
path = "texts"
licence = "CC BY 4.0"

# What each document passes, in this order. Every setting of a step has the published value as its default.
[[steps]]
kind = "normalize"

[[steps]]
kind = "language"
languages = ["en"]

[[steps]]
kind = "gopher-repetition"

[[steps]]
kind = "gopher-quality"

[[steps]]
kind = "c4"

[[steps]]
kind = "fineweb-quality"

[[steps]]
kind = "pii"

# Equal and nearly equal documents; of each group the first one stays.
[dedup]
near = true
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE", help="a corpus.toml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="corpus directory to write")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)"
    )
    parser.add_argument("--example", action="store_true", help="print a recipe to start from")
    parser.add_argument("--settings", action="store_true", help="print every table and setting a recipe can have")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.example:
        print(EXAMPLE, end="")
        return
    if arguments.settings:
        from cairn.corpus.pipeline.recipe import settings

        print(settings())
        return
    if arguments.recipe is None or arguments.out is None:
        raise UserError("a recipe and --out are needed; print a recipe to start from: cairn corpus build --example")
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1, got {arguments.workers}")
    from cairn.corpus.pipeline import build, read_recipe

    info = build(read_recipe(arguments.recipe), arguments.out, arguments.workers)
    rows = [[step["name"], f"{step['documents']:,}", f"{step['bytes']:,}"] for step in info["steps"]]
    print_table("Documents that reached each step", ["step", "documents", "bytes"], rows)
    dropped = sorted(info["tally"]["dropped"].items(), key=lambda item: -item[1])
    if dropped:
        print_table("Dropped", ["rule", "documents"], [[rule, f"{n:,}"] for rule, n in dropped])
    if info["duplicates"]:
        print(f"Duplicates: {info['duplicates']['removed']:,} documents in {info['duplicates']['clusters']:,} clusters")
    if info["quarantine"]["counts"]:
        print_table("Could not be read", ["reason", "records"], sorted(info["quarantine"]["counts"].items()))
    rows = [
        [side, f"{part['documents']:,}", f"{part['bytes']:,}", f"{part['tokens']:,}" if "tokens" in part else "-"]
        for side, part in info["parts"].items()
    ]
    print_table("Corpus", ["part", "documents", "bytes", "tokens"], rows)
    print(
        f"{arguments.out / 'card.html'} shows what each rule did; train on it with: "
        f"cairn journey --data {arguments.out / 'documents' / 'train'}"
    )
    finish(arguments, info)
