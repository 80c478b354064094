"""Make the small runs that a scaling law is fitted to: sizes times budgets, within a given time, all measured alike.

    cairn scaling sweep --out runs/scaling                                     # Python's documentation, bytes, 10 CPU minutes
    cairn scaling sweep --out runs/scaling --data my-texts --vocab-size 4096 --minutes 60
    cairn scaling sweep --out runs/scaling --widths 128 --flops 4e12 --minutes 30    # a larger one, to predict

What each run will cost is measured first and shown; `--plan` stops there. An interrupted sweep goes on where it was when the same
command is given again; finished runs also serve a sweep of more sizes or more minutes. Then: cairn scaling fit OUT.
"""

import argparse
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.planning.scaling.design import Planned, SweepConfig

BYTES_ALONE = 264  # ids: 256 bytes and 8 special tokens
VALID_BYTES_A_TOKEN = 5  # text to hold out: more bytes than a token of a large vocabulary has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--corpus", type=Path, metavar="DIR", help="corpus directory; else one is made in OUT/corpus")
    source.add_argument(
        "--data", default="", metavar="PATH", help="of this folder or file; else of Python's documentation"
    )
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer directory")
    words.add_argument(
        "--vocab-size",
        type=int,
        default=BYTES_ALONE,
        metavar="INT",
        help=f"ids of a tokenizer that is trained on the corpus; {BYTES_ALONE} is bytes alone (default: {BYTES_ALONE})",
    )
    parser.add_argument("--plan", action="store_true", help="only say which runs there would be and what they cost")
    add_settings(parser, SweepConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.core.compute import set_threads
    from cairn.corpus import Corpus, CorpusConfig, build_corpus
    from cairn.corpus.build import complete_corpus
    from cairn.corpus.vocabulary import tokenizer_stage
    from cairn.tokenizers import Tokenizer
    from cairn.training.sweep import Sweep

    config = read_settings(arguments, SweepConfig())
    set_threads(arguments.threads)
    if arguments.corpus:
        corpus = Corpus(arguments.corpus)
    else:
        wanted = CorpusConfig(data=arguments.data, valid_bytes=VALID_BYTES_A_TOKEN * config.valid_tokens)
        corpus = complete_corpus(wanted, arguments.out / "corpus") or build_corpus(wanted, arguments.out / "corpus")
    if arguments.tokenizer:
        tokenizer = Tokenizer.load(arguments.tokenizer)
    else:
        tokenizer = tokenizer_stage(corpus, arguments.vocab_size, arguments.out / "tokenizer")
    sweep = Sweep(config, corpus, tokenizer, arguments.out)
    plan = sweep.plan()
    _print_plan(plan, config)
    if arguments.plan:
        finish(arguments, {"plan": [{"name": planned.name, **vars(planned)} for planned in plan]})
        return
    rows = sweep.run(plan)
    _print_rows(rows, sweep.spent(), sweep.device.type == "cpu")
    finish(arguments, {"runs": rows, "spent": sweep.spent()})


def _print_plan(plan: list[Planned], config: SweepConfig) -> None:
    rows = [
        [p.name, f"{p.parameters:,}", f"{p.tokens:,}", f"{p.flops:.3g}", f"{p.estimate:.1f}", p.refused or "yes"]
        for p in plan
    ]
    made = [p for p in plan if not p.refused]
    title = f"{len(made)} runs, about {sum(p.estimate for p in made) / 60:.1f} of {config.minutes:g} minutes"
    print_table(title, ["run", "parameters", "tokens", "FLOPs", "seconds", "made"], rows)


def _print_rows(rows: list[dict[str, Any]], spent: float, cpu: bool) -> None:
    table = []
    for row in rows:
        sizes = [row["name"], f"{row['parameters']:,}", f"{row['tokens']:,}", f"{row['flops']:.3g}"]
        table.append([*sizes, f"{row['loss']:.4f}", f"{row['standard_error']:.4f}", f"{row['spent']:.1f}"])
    columns = ["run", "parameters", "tokens", "FLOPs", "loss (nats a token)", "standard error", "seconds"]
    print_table("Runs", columns, table)
    print(f"{len(rows)} runs, {spent / 60:.2f} {'CPU ' if cpu else ''}minutes with preparation")
