"""Teach a base model to answer in chat form: supervised fine-tuning on skills with exact answers.

cairn sft --model runs/base --corpus runs/corpus --out runs/assistant
"""

import argparse
from pathlib import Path

from cairn.alignment.sft import SFTConfig, sft
from cairn.cli.options import add_json, add_settings, add_threads, finish, read_settings
from cairn.cli.pretrain import print_record
from cairn.core.compute import set_threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory to start from")
    parser.add_argument(
        "--corpus", type=Path, required=True, metavar="DIR", help="corpus directory the skills are made of"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="model directory to write")
    add_settings(parser, SFTConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, SFTConfig())
    set_threads(arguments.threads)
    record = sft(config, arguments.model, arguments.corpus, arguments.out)
    print_record(arguments.out, record)
    finish(arguments, record)
