"""`cairn COMMAND`: find the command's file, read its options, run it, and say mistakes in one line.

Each command is a module of this package with `add_arguments(parser)` and `run(arguments)`.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from cairn.core.errors import UserError

# command -> (module, what it does). In the order of the way of the data.
COMMANDS = {
    "foundations": ("foundations", "list the chapters in NumPy alone, and what each has to show"),
    "foundations demo": ("foundations_demo", "make a demonstration's pictures and print what it found"),
    "journey": ("journey", "take text through every stage to an assistant and its report"),
    "corpus": ("corpus", "read, split and store a corpus"),
    "corpus build": ("corpus_build", "clean, deduplicate and encode a large corpus by a recipe"),
    "corpus download": ("corpus_download", "fetch a named corpus, with checksum, going on where it stopped"),
    "tokenizer": ("tokenizer", "train a tokenizer on a corpus or a folder"),
    "tokenizer compare": ("tokenizer_compare", "one text under several tokenizers: tokens, languages, cost, pieces"),
    "tokenizer convert": ("tokenizer_convert", "read a tokenizer of any form, write another"),
    "embeddings train": ("embeddings_train", "train word vectors on text: word2vec, GloVe or fastText"),
    "embeddings neighbours": ("embeddings_neighbours", "the words whose vectors are nearest to a word's"),
    "embeddings analogy": ("embeddings_analogy", "a is to b as c is to what?"),
    "embeddings evaluate": ("embeddings_evaluate", "word vectors against people's judgements and analogies"),
    "embeddings convert": ("embeddings_convert", "read word vectors in one form, write another"),
    "embeddings picture": ("embeddings_picture", "draw words as points on a plane"),
    "vision": ("vision", "train a small convolutional network on pictures, and test it"),
    "vocabulary": ("vocabulary", "bits per byte against the size of the vocabulary, at equal compute"),
    "baselines": ("baselines", "n-grams, recurrent networks and a Transformer on the same tokens"),
    "plan": ("plan", "what a training run will take: memory, time, money, layout"),
    "plan inference": ("plan_inference", "what serving a model will take"),
    "plan budget": ("plan_budget", "the best size and number of tokens for a budget"),
    "scaling sweep": ("scaling_sweep", "make the small runs of a scaling law, within a given time"),
    "scaling fit": ("scaling_fit", "fit scaling laws to runs: predict larger ones, share a budget"),
    "pretrain": ("pretrain", "train a base model, or go on training one on another corpus"),
    "diagnose": ("diagnose", "read a run's record: what went wrong, the evidence, what to try next"),
    "launch": ("launch", "write job files: Slurm, Kubernetes, Ray, torchrun, Accelerate, DeepSpeed"),
    "sft": ("sft", "teach a base model to answer in chat form"),
    "dpo": ("dpo", "prefer a model's right answers over its wrong ones"),
    "eval": ("eval", "bits per byte and exact match per skill"),
    "quantize": ("quantize", "store weights in 8 or 4 bits"),
    "inspect": ("inspect", "attention maps, logit lens, and what changed between stages"),
    "rag": ("rag", "answer with and without passages retrieved from a corpus"),
    "generate": ("generate", "complete a text"),
    "chat": ("chat", "talk with a model in the terminal"),
    "serve": ("serve", "serve a model over HTTP as OpenAI does, with a chat page"),
    "parity": ("parity", "compare every part with the library that professionals use"),
}

RESUMABLE = {
    "journey",
    "corpus build",
    "corpus download",
    "vocabulary",
    "baselines",
    "scaling sweep",
    "pretrain",
    "sft",
    "dpo",
    "vision",
}

EXIT_MISTAKE, EXIT_INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """One line, exit code 2."""
        self.exit(EXIT_MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser_for(command: str) -> argparse.ArgumentParser:
    """The parser of one command, with its room imported."""
    module = importlib.import_module(f"cairn.cli.{COMMANDS[command][0]}")
    formatter = argparse.RawDescriptionHelpFormatter
    # No abbreviations: --step for --steps would change meaning when an option is added.
    parser = _Parser(prog=f"cairn {command}", description=module.__doc__, formatter_class=formatter, allow_abbrev=False)
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}} {help}" for name, (_, help) in COMMANDS.items()]
    return (
        "usage: cairn COMMAND [OPTIONS]\n\nA language model, stone by stone.\n\n"
        + "\n".join(lines)
        + "\n\ncairn COMMAND --help explains a command; start with: cairn journey\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if words else EXIT_MISTAKE
    if words[0] in ("--version", "-V"):
        from importlib.metadata import version

        print(f"cairn {version('cairn')}")
        return 0
    # A command of two words ("corpus build") goes before the one its first word names.
    if " ".join(words[:2]) in COMMANDS:
        words[:2] = [" ".join(words[:2])]
    if words[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see cairn --help"
        return _mistake(f"unknown command {words[0]!r}; {hint}")
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        # Intermixed: an optional positional may follow an option (cairn generate DIR --max-tokens 5 "Once").
        options = parser_for(words[0]).parse_intermixed_args(words[1:])
        return options.run(options) or 0
    except UserError as error:
        return _mistake(str(error))
    except KeyboardInterrupt:
        again = "; the same command goes on where it was" if words[0] in RESUMABLE else ""
        print(f"\ncairn: interrupted{again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at exit
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _mistake(f"no space left on the device ({error.strerror}); free some and run the same command again")
        where = f"{error.filename}: " if error.filename else ""
        return _mistake(f"{where}{error.strerror or error}")


def _mistake(message: str) -> int:
    print(f"cairn: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
