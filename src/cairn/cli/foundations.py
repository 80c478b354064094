"""List what there is to see of the foundations: every chapter and its demonstrations.

    cairn foundations
    cairn foundations demo scalar-graph --out pictures

The chapters are written in NumPy alone and are meant to be read: `src/cairn/foundations/`.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.cli.options import add_json

    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.cli.options import finish
    from cairn.foundations.chapters import CHAPTERS, demonstrations

    found = {chapter: demonstrations(chapter) for chapter in CHAPTERS}
    width = max(len(name) for demos in found.values() for name in demos)
    for chapter, about in CHAPTERS.items():
        print(f"{chapter}: {about}")
        print("".join(f"  {name:<{width}}  {demo.title}\n" for name, demo in found[chapter].items()))
    print("see one with: cairn foundations demo NAME --out pictures")
    finish(arguments, {chapter: {name: demo.title for name, demo in demos.items()} for chapter, demos in found.items()})
