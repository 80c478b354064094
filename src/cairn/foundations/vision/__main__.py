"""Train a network on pictures of your own: python -m cairn.foundations.vision --images FILE --labels FILE.

The files are a pair in MNIST's format (IDX, plain or .gz), which also Fashion-MNIST, EMNIST and KMNIST have; without them it
is scikit-learn's digits. They are split here: 70 % to learn from, 10 % to watch, 20 % to test, which are looked at once.

>>> settings = parser().parse_args(["--model", "mlp", "--epochs", "3"])
>>> settings.model, settings.epochs, settings.images
('mlp', 3, None)
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cairn.foundations.data import load_digits, read_mnist, split_images
from cairn.foundations.network import Epoch, save
from cairn.foundations.vision.pictures import draw_all
from cairn.foundations.vision.train import DIGITS, MNIST, MODELS, train


def parser() -> argparse.ArgumentParser:
    """Everything that may be chosen."""
    parser = argparse.ArgumentParser(
        prog="python -m cairn.foundations.vision", description="Train a network on small pictures, in NumPy."
    )
    parser.add_argument("--images", type=Path, metavar="FILE", help="IDX file of pictures (without it: 1,797 digits)")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="IDX file of their classes")
    parser.add_argument("--model", choices=list(MODELS), default="cnn", help="default: %(default)s")
    epochs = ", ".join(f"{name} {MNIST[name].epochs} (digits {DIGITS[name].epochs})" for name in MODELS)
    parser.add_argument("--epochs", type=int, help=f"default: {epochs}")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw curves, confusion, mistakes and filters")
    parser.add_argument("--out", type=Path, metavar="FILE", help="save the weights as .npz")
    return parser


def run(chosen: argparse.Namespace) -> None:
    if (chosen.images is None) != (chosen.labels is None):
        raise ValueError("--images and --labels go together: a file of pictures and the file of their classes")
    if chosen.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {chosen.seed}")
    # Places to write to are looked at now rather than after minutes of training.
    if chosen.out and (chosen.out.is_dir() or not chosen.out.parent.is_dir()):
        raise ValueError(f"--out {chosen.out}: name a file, in a folder that is there")
    if chosen.pictures:
        chosen.pictures.mkdir(parents=True, exist_ok=True)
    split = load_digits() if chosen.images is None else split_images(*read_mnist(chosen.images, chosen.labels))
    settings = (DIGITS if chosen.images is None else MNIST)[chosen.model]
    settings = replace(settings, epochs=settings.epochs if chosen.epochs is None else chosen.epochs, seed=chosen.seed)
    _, channels, height, width = split.train_x.shape
    parts = f"{len(split.train_y):,} to learn from, {len(split.validation_y):,} to watch, {len(split.test_y):,} to test"
    print(f"pictures of {channels} x {height} x {width}: {parts}", flush=True)

    def report(epoch: Epoch) -> None:
        right = 100 * epoch.validation_measure
        print(
            f"epoch {epoch.epoch + 1} of {settings.epochs}: loss {epoch.loss:.3f}, {right:.1f} % of those watched right, "
            f"{epoch.seconds:.0f} s",
            flush=True,
        )

    result = train(split, chosen.model, settings, watch_every=20 if chosen.pictures else None, report=report)
    print(f"{chosen.model}: {result}")
    if chosen.out:
        print(f"saved: {save(result.model, chosen.out)}")
    if chosen.pictures:
        for path in draw_all(result, chosen.pictures, chosen.model):
            print(f"drawn: {path}")


def main(words: Sequence[str] | None = None) -> int:
    """0; 2 for a mistake, said in one line; 130 when interrupted."""
    try:
        run(parser().parse_args(words))
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at exit
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError) as problem:
        print(f"error: {problem or 'not enough memory'}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
