"""Train a base model on a corpus, or go on training one (continued pretraining).

    cairn pretrain --corpus runs/corpus --tokenizer runs/tokenizer --out runs/base
    cairn pretrain --corpus runs/corpus --model runs/base --part domain --replay 0.2 --out runs/domain
    cairn pretrain --corpus runs/corpus --tokenizer runs/tokenizer --preset gpt2-124m --out runs/gpt2    # on a GPU

An interrupted run goes on where it was when the same command is given again.
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.core.compute import set_threads
from cairn.training.pretrain import PretrainConfig, pretrain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="corpus directory")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer directory, for a new model")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model directory to go on with")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model directory to write")
    add_settings(parser, PretrainConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, PretrainConfig())
    set_threads(arguments.threads)
    record = pretrain(config, arguments.corpus, arguments.out, tokenizer=arguments.tokenizer, model=arguments.model)
    print_record(arguments.out, record)
    finish(arguments, record)


def print_record(out: Path, record: dict) -> None:
    """The figures of a training stage."""
    rows = [
        ["parameters", f"{record['parameters']:,}"],
        ["steps", record["steps"]],
        ["tokens", f"{record['tokens']:,}"],
    ]
    rows += [["seconds", record["seconds"]]]
    rows += [
        [k, f"{v:.4g}" if isinstance(v, float) else v]
        for k, v in record["metrics"].items()
        if isinstance(v, (int, float))
    ]
    print_table(f"{record['stage']}: {out}", ["figure", "value"], rows)
