"""How good is a model: bits per byte on unseen documents and exact match per skill, with chance, n and 95 % intervals.

cairn eval runs/assistant --corpus runs/corpus
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, add_threads, finish, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR", help="model directory")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="corpus directory")
    parser.add_argument("--per-skill", type=int, default=200, metavar="N", help="questions a skill (default: 200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the questions (default: 1)")
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    import cairn
    from cairn.alignment import skills_of
    from cairn.core.compute import set_threads
    from cairn.corpus import Corpus
    from cairn.evaluation.stage import evaluate_model
    from cairn.models import check_decoder
    from cairn.retrieval.tools import TOOLS

    corpus = Corpus(arguments.corpus)
    model, tokenizer = cairn.load(arguments.model)
    check_decoder(model)
    set_threads(arguments.threads)
    tests = skills_of(corpus).test(arguments.per_skill, arguments.seed)
    result = evaluate_model(model, tokenizer, corpus, tests, TOOLS)
    rows = [[kind, f"{b['bits_per_byte']:.4f}", "8", b["documents"], f"{b['low']:.3f} .. {b['high']:.3f}"]
            for kind, b in ((k, result[k]) for k in ("general", "domain"))]  # fmt: skip
    print_table("Bits per byte of unseen documents", ["corpus", "score", "chance", "n", "95 % interval"], rows)
    scores = result["skills"] | ({"mean": result["mean"]} if result["mean"] else {})
    rows = [
        [name, f"{s['score']:.3f}", f"{s['chance']:.3f}", s["n"], f"{s['low']:.3f} .. {s['high']:.3f}"]
        for name, s in scores.items()
    ]
    print_table("Exact match on held-out questions", ["skill", "score", "chance", "n", "95 % interval"], rows)
    finish(arguments, result)
