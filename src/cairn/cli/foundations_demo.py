"""Make a demonstration's pictures and print what it found.

    cairn foundations demo scalar-graph
    cairn foundations demo low-rank power-iteration --out pictures
    cairn foundations demo all --out pictures

`cairn foundations` lists them. Each takes seconds unless its title says minutes; `all` leaves those of minutes out.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.cli.options import add_json

    parser.add_argument("names", nargs="+", metavar="NAME", help="a demonstration, or all")
    parser.add_argument("--out", type=Path, default=Path("pictures"), metavar="DIR", help="folder for the pictures")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.cli.options import finish
    from cairn.core.errors import UserError
    from cairn.foundations.chapters import CHAPTERS, demonstrations, find

    if "all" in arguments.names:
        every = [pair for chapter in CHAPTERS for pair in demonstrations(chapter).items()]
        chosen = {name: demo for name, demo in every if "(minutes)" not in demo.title}
    else:
        try:
            chosen = {name: find(name) for name in arguments.names}
        except ValueError as error:
            raise UserError(str(error)) from None
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, demo in chosen.items():
        print(f"{name}: {demo.title}", flush=True)
        try:
            found[name] = demo.draw(arguments.out)
        except ValueError as error:  # the foundations know no other error: what was wrong, and what to do
            raise UserError(f"{name}: {error}") from None
        print("".join(f"  {line}\n" for line in found[name]), flush=True)
    finish(arguments, found)
