"""How large should a vocabulary be? Train a small model for each size with the same compute and plot bits per byte.

    cairn vocabulary --corpus runs/corpus --out runs/vocabulary
    cairn vocabulary --corpus runs/corpus --out runs/vocabulary --sizes 512 2048 8192 --preset stone --flops 1e13 --seeds 3

Compute is training FLOPs, the output layer's included: small vocabularies see more tokens, large ones more text a token.
An interrupted run goes on where it was when the same command is given again.
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, add_settings, add_threads, finish, print_table, read_settings
from cairn.core.compute import set_threads
from cairn.journey.vocabulary_size import VocabularyConfig, vocabulary_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="corpus directory")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of models, figures and plots")
    add_settings(parser, VocabularyConfig())
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config = read_settings(arguments, VocabularyConfig())
    set_threads(arguments.threads)
    result = vocabulary_experiment(config, arguments.corpus, arguments.out)
    lowest = min(result["rows"], key=lambda row: row["bits_per_byte"])
    rows = [
        [
            f"{row['ids']:,}" + (" (lowest)" if row is lowest else ""),
            f"{row['bits_per_byte']:.3f}",
            f"{row['low']:.3f} .. {row['high']:.3f}",
            f"{row['parameters']:,}",
            f"{row['flops_per_token'] / 1e6:.2f}",
            f"{row['tokens']:,}",
            f"{row['text_bytes']:,}",
            f"{row['epochs']:.2f}",
        ]
        for row in result["rows"]
    ]
    columns = ["ids", "bits per byte", f"95 % over {lowest['interval']}", "parameters", "MFLOPs a token", "tokens seen"]
    title = f"{config.preset}, {config.flops:.3g} training FLOPs each (chance: 8 bits per byte)"
    print_table(title, [*columns, "bytes seen", "epochs"], rows)
    if config.seeds == 1:
        print(
            "All sizes are measured on the same documents. Whether a difference is luck of the seed, --seeds 3 tells."
        )
    print(f"Plot: {arguments.out / 'vocabulary.svg'}")
    finish(arguments, result)
