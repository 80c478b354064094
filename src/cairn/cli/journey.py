"""Take text through every stage, from corpus to a served, grounded, understood assistant, and write its report.

    cairn journey                                   # Python's own documentation, about a million parameters
    cairn journey --data my-texts --out runs/mine   # a folder of .txt, .md, .py, .jsonl or .parquet
    cairn journey --recipe mine.toml                # settings from a file; every one is an option too

Interrupted (or killed), the same command goes on where it was.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.journey.recipe import RECIPES

    preset = _early("--preset", "stone")
    parser.add_argument(
        "--preset", choices=tuple(RECIPES), default="stone", help="recipe to start from (default: stone)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/journey"), metavar="DIR", help="where (default: runs/journey)"
    )
    parser.add_argument("--data", metavar="PATH", help="your own folder of text; short for --corpus.data")
    add_settings(parser, RECIPES.get(preset, RECIPES["stone"]))
    add_threads(parser)
    add_json(parser)


def _early(flag: str, default: str) -> str:
    """The preset decides the defaults that the help shows, so it is looked up before the options are made."""
    words = sys.argv
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return default


def run(arguments: argparse.Namespace) -> None:
    from cairn.journey.recipe import RECIPES
    from cairn.journey.run import FINAL, Journey

    recipe = read_settings(arguments, RECIPES[arguments.preset])
    if arguments.data:
        recipe = dataclasses.replace(recipe, corpus=dataclasses.replace(recipe.corpus, data=arguments.data))
    summary = Journey(recipe, arguments.out, arguments.threads).run()
    print_summary(summary)
    final = arguments.out / FINAL
    print(f"\nreport:  {arguments.out / 'report.html'}\nfigures: {arguments.out / 'summary.json'}")
    print(f"chat:    cairn chat {final}\nserve:   cairn serve {final}     (then open http://127.0.0.1:8000/)")
    finish(arguments, summary)


def print_summary(summary: dict[str, Any]) -> None:
    rows = []
    for stage in summary["stages"]:
        mean = stage["mean"]
        shown = f"{mean['score']:.3f} ({mean['low']:.2f} .. {mean['high']:.2f})" if mean else "-"
        bits = [f"{stage[k]['bits_per_byte']:.3f}" for k in ("general", "domain")]
        rows.append([stage["name"], stage["title"], f"{stage['seconds']:.0f}", *bits, shown])
    columns = ["stage", "what", "seconds", "general b/byte", "domain b/byte", "exact match (95 %)"]
    print_table("Stages", columns, rows)
    xz, base = summary["xz"], summary["stages"][0]["general"]["bits_per_byte"]
    print(f"bits per byte of unseen documents: base model {base:.3f}, xz -9 {xz['bits_per_byte']:.3f}, chance 8")
    names = list(summary["stages"][-1]["skills"])
    columns = ["skill", "chance", "n", *(stage["name"] for stage in summary["stages"])]
    last = summary["stages"][-1]["skills"]
    rows = [
        [
            name,
            f"{last[name]['chance']:.2f}",
            last[name]["n"],
            *(f"{s['skills'][name]['score']:.2f}" for s in summary["stages"]),
        ]
        for name in names
    ]
    print_table("Exact match on held-out questions", columns, rows)
    accuracy = summary["dpo"]["accuracy"]
    print(
        f"preference accuracy on {accuracy['n']} held-out pairs: {accuracy['score']:.3f} "
        f"({accuracy['low']:.2f} .. {accuracy['high']:.2f}), chance 0.5"
    )
    rows = [
        [
            p["name"],
            f"{p['bytes']:,}",
            f"{p['bits_per_byte']:.4f}",
            f"{p['cost']:+.4f}",
            f"{p['tokens_per_second']:.0f}",
            f"{p['ratio']:.2f}",
        ]
        for p in summary["precisions"]
    ]
    if rows:
        print_table("Precision", ["format", "bytes", "bits/byte", "cost", "tokens/s", "speed ratio"], rows)
    if summary["retrieval"]:
        without, grounded, n = (
            summary["retrieval"]["without"],
            summary["retrieval"]["with"],
            summary["retrieval"]["with"]["n"],
        )
        print(f"module questions (n {n}): {without['score']:.3f} without retrieval, {grounded['score']:.3f} with")
