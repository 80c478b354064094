"""Train a small convolutional network on pictures, and test it.

    cairn vision --data cifar-10-binary.tar.gz --out runs/cifar --picture confusion.svg
    cairn vision --data pictures.zip --out runs/pictures --train.steps 400       # train/CLASS/*.jpg and test/CLASS/*.jpg
    cairn vision --data pictures.zip --model runs/cifar                          # only test what is there

DATA is CIFAR-10's binary version, as it is downloaded or unpacked, or a folder or zip of pictures of 32 x 32. An interrupted
run goes on where it was when the same command is given again. A picture is what the display counts as a token.
"""

import argparse
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.core.errors import UserError
from cairn.generative.classify import VisionConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="pictures with their classes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model directory to test, instead of training one")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the confusion matrix into an .svg or .png")
    add_settings(parser, VisionConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.core.compute import set_threads
    from cairn.core.progress import say
    from cairn.generative.classify import score_classifier, train_classifier
    from cairn.generative.directory import load_classifier
    from cairn.generative.images import read_pictures

    config = read_settings(arguments, VisionConfig())
    if (arguments.out is None) == (arguments.model is None):
        raise UserError("name the model directory to write, --out DIR, or the one to test, --model DIR")
    if arguments.picture and arguments.picture.suffix not in (".svg", ".png"):
        raise UserError(f"--picture {arguments.picture}: the name must end in .svg or .png")
    set_threads(arguments.threads)
    pictures = read_pictures(arguments.data)
    if pictures.refused:
        say(f"left out {len(pictures.refused)} files, the first: {pictures.refused[0]}")
    if arguments.model:
        model = load_classifier(arguments.model)
        if model.config.classes != pictures.classes:
            raise UserError(
                f"{arguments.model} knows the classes {', '.join(model.config.classes)}; others are in --data"
            )
        result: dict[str, Any] = {"metrics": {"test": score_classifier(model, pictures.test)}}
    else:
        result = train_classifier(config, pictures, arguments.out)
    tested = result["metrics"]["test"]
    _print(result, tested)
    if arguments.picture:
        from cairn.generative.confusion import draw_confusion

        draw_confusion(tested["confusion"], pictures.classes, tested["accuracy"], arguments.picture)
    finish(arguments, result)


def _print(result: dict[str, Any], tested: dict[str, Any]) -> None:
    rows: list[tuple[str, Any]] = [
        ("accuracy", f"{tested['accuracy']:.4f}"),
        ("95 % interval", f"{tested['low']:.4f} .. {tested['high']:.4f}"),
        ("chance", f"{tested['chance']:.4f}"),
        ("pictures tested", f"{tested['n']:,}"),
        ("log-loss", f"{tested['log_loss']:.4f}"),
        ("calibration error", f"{tested['calibration_error']:.4f}"),
    ]
    if "seconds" in result:
        rows += [
            ("parameters", f"{result['parameters']:,}"),
            ("steps", f"{result['steps']:,}"),
            ("pictures seen", f"{result['pictures']:,}"),
            ("seconds", result["seconds"]),
        ]
    print_table("vision", ("figure", "value"), rows)
