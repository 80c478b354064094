"""Write the job files of a training command for a cluster, and say the command that submits them.

    cairn launch torchrun --gpus 8 --out job -- cairn pretrain --corpus c --tokenizer t --out runs/base --train.parallel.shard 8
    cairn launch slurm --nodes 2 --gpus 8 --slurm.time 24:00:00 --out job -- cairn pretrain ... --train.parallel.shard 16
    cairn launch kubernetes --gpus 8 --kubernetes.image IMAGE --kubernetes.volumes work:/work --out job -- cairn pretrain ...
    cairn launch accelerate --gpus 4 --accelerate.shard --out job -- --model runs/base --corpus c --out runs/more
    cairn launch deepspeed --gpus 4 --deepspeed.zero 3 --out job -- --model runs/base --corpus c --out runs/more

What is preempted or killed runs again and goes on from its newest checkpoint. Nothing is submitted here.
Settings of a cluster can stand in a recipe (--recipe cluster.toml) with a table for each target.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NoReturn

from cairn.cli.options import add_json, add_settings, finish, read_settings
from cairn.core.config import from_dict, read_toml
from cairn.core.errors import UserError
from cairn.core.progress import say
from cairn.planning.launch import ENGINES, TARGETS, Job, LaunchConfig, check_layout, write_files
from cairn.planning.layout import Layout

RECIPE_MODULE = "cairn.training.recipes.accelerate_train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", choices=tuple(TARGETS), help="what starts the job")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="the training command, after --")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the job's files")
    parser.add_argument("--replace", action="store_true", help="write over files of another job")
    add_settings(parser, LaunchConfig())
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    target, config = arguments.target, read_settings(arguments, LaunchConfig())
    _refuse_foreign_settings(arguments)
    command = arguments.command
    if not command:
        raise UserError("give the training command after --: cairn launch TARGET ... --out DIR -- cairn pretrain ...")
    if target in ENGINES:
        words, layout, run_out = _recipe(command)
        notes = []
    else:
        words, layout, run_out = _command(command)
        if layout is None and config.total > 1:
            raise UserError(
                f"cairn {_name(words[1:])} runs in one process, the job starts {config.total}: give --gpus 1 (or --gpus 0)"
            )
        notes = check_layout(layout, config) if layout else []
    made = TARGETS[target](Job(config, words, layout), config, arguments.out, run_out)
    notes += made.notes
    write_files(arguments.out, made.files, arguments.replace)
    for note in notes:
        say(f"note: {note}")
    for name in made.files:
        print(arguments.out / name)
    print(made.submit)  # last, alone on its line: a pipe can take it from there
    result = {"target": target, "files": [str(arguments.out / name) for name in made.files], "submit": made.submit}
    machines = {"nodes": config.nodes, "processes": config.total, "layout": layout.describe() if layout else None}
    finish(arguments, result | machines | {"notes": notes})


def _refuse_foreign_settings(arguments: argparse.Namespace) -> None:
    """A recipe may hold settings for several clusters; one that is typed must mean something."""
    for key in vars(arguments):
        table, _, name = key.removeprefix("option:").partition(".")
        if name and table != arguments.target:
            raise UserError(f"--{table}.{name.replace('_', '-')} means nothing to {arguments.target}")


def _command(command: list[str]) -> tuple[tuple[str, ...], Layout | None, str | None]:
    """What `python -m` runs for a cairn command, its layout (None where it has none to set), and its --out.

    The command's own parser reads it here: a mistake is found before a queue has been waited for.
    """
    from cairn.cli.main import COMMANDS, RESUMABLE, parser_for

    words = command[1:] if PurePath(command[0]).name == "cairn" else command
    name = _name(words)
    if name not in RESUMABLE:
        known = ", ".join(n for n in COMMANDS if n in RESUMABLE)
        raise UserError(
            f"{shlex.join(command[:2])!r} is no command that goes on after an interruption; these are: {known}"
        )
    parser = parser_for(name)
    options = parser.parse_intermixed_args(words[len(name.split()) :])
    out = getattr(options, "out", None)
    layout = _layout(options) if "--train.parallel.shard" in parser.format_help() else None
    return ("cairn.cli.main", *words), layout, None if out is None else str(out)


def _name(words: Sequence[str]) -> str:
    """The command that the words begin with: of two words (`corpus build`) before the one its first word names."""
    from cairn.cli.main import COMMANDS

    two = " ".join(words[:2])
    return two if two in COMMANDS else " ".join(words[:1])


def _layout(options: argparse.Namespace) -> Layout:
    """The layout that a command's recipe and options give."""
    layout = Layout()
    if options.recipe:
        layout = from_dict(
            Layout, read_toml(options.recipe).get("train", {}).get("parallel", {}), where="train.parallel"
        )
    prefix = "option:train.parallel."
    typed = {key.removeprefix(prefix): value for key, value in vars(options).items() if key.startswith(prefix)}
    return from_dict(Layout, typed, layout, where="train.parallel")


def _recipe(command: list[str]) -> tuple[tuple[str, ...], None, str]:
    """The training script for Accelerate and DeepSpeed with its options, which its own parser reads here."""
    from cairn.training.recipes.accelerate_train import make_parser

    parser = make_parser()
    parser.error = _refuse  # one line, as every mistake; argparse prints its usage too
    options = parser.parse_args(command)
    return (RECIPE_MODULE, *command), None, str(options.out)


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; python -m {RECIPE_MODULE} --help lists the options after --")
