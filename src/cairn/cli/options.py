"""What several commands share: settings from a recipe file and the command line, threads, tables and their JSON."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from cairn.core.config import add_options, from_dict, read_options, read_toml
from cairn.core.errors import UserError
from cairn.core.files import write_json

T = TypeVar("T")
THREADS_PER_CORE = 4


def add_settings(parser: argparse.ArgumentParser, base: Any) -> None:
    """--recipe FILE and one option for each setting of the configuration `base`."""
    parser.add_argument("--recipe", metavar="FILE", help="settings in a TOML file; options typed here win over it")
    add_options(parser, type(base), base)


def read_settings(arguments: argparse.Namespace, base: T) -> T:
    """`base`, then the recipe file, then what was typed."""
    if arguments.recipe:
        base = from_dict(type(base), read_toml(arguments.recipe), base)
    return read_options(type(base), arguments, base)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=int,
        action=_Threads,
        default=0,
        metavar="N",
        help="CPU threads; 0 measures what is fastest now",
    )


class _Threads(argparse.Action):
    """More threads than a few for each core only cost time, and far more than that end the process."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        most = THREADS_PER_CORE * (os.cpu_count() or 1)
        if not 0 <= values <= most:
            raise UserError(f"--threads must be from 0 to {most}, got {values}")
        setattr(namespace, self.dest, values)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the result as JSON")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # text from outside is no markup
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a pipe has no width to fit into
    console.print(table)


def finish(arguments: argparse.Namespace, result: Any) -> None:
    if arguments.json:
        write_json(arguments.json, result)
