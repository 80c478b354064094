"""Direct preference optimisation on pairs of a model's own right and wrong answers.

cairn dpo --model runs/assistant --corpus runs/corpus --out runs/preferred
"""

import argparse
from pathlib import Path

from cairn.alignment.dpo import DPOConfig, dpo
from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.cli.pretrain import print_record
from cairn.core.compute import set_threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="fine-tuned model directory to start from"
    )
    parser.add_argument(
        "--corpus", type=Path, required=True, metavar="DIR", help="corpus directory the questions are made of"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model directory to write")
    add_settings(parser, DPOConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, DPOConfig())
    set_threads(arguments.threads)
    record = dpo(config, arguments.model, arguments.corpus, arguments.out)
    print_record(arguments.out, record)
    accuracy = record["metrics"]["preference_accuracy"]
    row = [
        f"{accuracy['score']:.3f}",
        f"{accuracy['chance']:.2f}",
        accuracy["n"],
        f"{accuracy['low']:.3f} .. {accuracy['high']:.3f}",
    ]
    print_table("Preference accuracy on held-out pairs", ["score", "chance", "n", "95 % interval"], [row])
    finish(arguments, record)
