"""Train a base model on a corpus, or go on training one (continued pretraining).

    cairn pretrain --corpus runs/corpus --tokenizer runs/tokenizer --out runs/base
    cairn pretrain --corpus runs/corpus --model runs/base --part domain --replay 0.2 --out runs/domain
    cairn pretrain --shards runs/clean=0.7,runs/code=0.3 --preset gpt2-124m --out runs/gpt2    # of cairn corpus build
    torchrun --nproc-per-node 8 --no-python cairn pretrain ... --train.parallel.shard 8

An interrupted run goes on where it was when the same command is given again. Before a long run:

    cairn pretrain ... --check                       # can it learn one batch by heart?
    cairn pretrain ... --rate-test rates.svg         # which rate?
"""

import argparse
import tempfile
from pathlib import Path

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.core.compute import set_threads
from cairn.core.errors import UserError
from cairn.core.files import write_bytes
from cairn.training.forgetting import HEADER, to_table
from cairn.training.pretrain import PretrainConfig, Source, pretrain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="corpus directory")
    parser.add_argument(
        "--shards", default="", metavar="DIR=SHARE,...", help="folders of cairn corpus build, instead of a corpus"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer directory, for a new model")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model directory to go on with")
    parser.add_argument("--out", type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument("--check", action="store_true", help="only see whether one batch can be learned by heart")
    parser.add_argument(
        "--rate-test", type=Path, metavar="SVG", help="only look for the best rate, and draw the search"
    )
    add_settings(parser, PretrainConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int | None:
    config = read_settings(arguments, PretrainConfig())
    set_threads(arguments.threads)
    source = {"shards": arguments.shards, "tokenizer": arguments.tokenizer, "model": arguments.model}
    if arguments.check or arguments.rate_test:
        return _try(arguments, Source(config, arguments.corpus, **source))
    if arguments.out is None:
        raise UserError("name the model directory to write: --out DIR")
    record = pretrain(config, arguments.corpus, arguments.out, **source)
    print_record(arguments.out, record)
    if "forgetting" in record["metrics"]:
        print_table("before and after", HEADER, to_table(record["metrics"]["forgetting"]))
    finish(arguments, record)


def _try(arguments: argparse.Namespace, source: Source) -> int:
    """What is looked at before a long run; nothing is kept but the picture."""
    from cairn.training.overfit import overfit_one_batch
    from cairn.training.rate_test import picture, rate_test

    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        lesson = source.lesson(Path(scratch))
        task = lesson.model, lesson.objective, lesson.data, source.config.train
        if arguments.check:
            result = overfit_one_batch(*task)
            print(result.text)
            failed = not result.passed
        if arguments.rate_test:
            test = rate_test(*task)
            print(test.text)
            write_bytes(arguments.rate_test, picture(test))
    return int(failed)


def print_record(out: Path, record: dict) -> None:
    """The figures of a training stage."""
    rows = [
        ["parameters", f"{record['parameters']:,}"],
        ["steps", record["steps"]],
        ["tokens", f"{record['tokens']:,}"],
        ["seconds, all together", record["seconds"]],
    ]
    rows += [
        [k, f"{v:.4g}" if isinstance(v, float) else v]
        for k, v in record["metrics"].items()
        if isinstance(v, (int, float)) and k not in ("tokens", "seconds")
    ]
    print_table(f"{record['stage']}: {out}", ["figure", "value"], rows)
