"""Train a GPT on a file of your own: python -m cairn.foundations.gpt --names FILE, or --text FILE for a story.

>>> settings = parser().parse_args(["--steps", "50"])
>>> settings.steps, settings.names, settings.text
(50, None, None)
"""

import argparse
import sys
import time
from pathlib import Path

from cairn.foundations.gpt.evaluate import compare
from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.sample import SampleConfig, write, write_lines
from cairn.foundations.gpt.save import save
from cairn.foundations.gpt.text import read_names, read_text
from cairn.foundations.gpt.train import TrainConfig, train

SHOWN = 250  # characters of a story that are written at the end


def parser() -> argparse.ArgumentParser:
    """Everything that may be chosen; the defaults are for about 30,000 names."""
    sizes, training = GPTConfig(symbols=1), TrainConfig()
    parser = argparse.ArgumentParser(prog="python -m cairn.foundations.gpt", description="Train a small GPT in NumPy.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--names", type=Path, metavar="FILE", help="a name on each line (without it: a short list)")
    source.add_argument("--text", type=Path, metavar="FILE", help="any UTF-8 text")
    for name in ("context", "width", "blocks", "heads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(sizes, name), help="default: %(default)s")
    for name in ("steps", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(training, name), help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=training.rate, help="learning rate (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the samples (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=0, help="of the samples; 0: all (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="save the model as .npz")
    return parser


def run(chosen: argparse.Namespace) -> None:
    corpus = read_text(chosen.text) if chosen.text else read_names(chosen.names)
    sizes = GPTConfig(len(corpus.alphabet), chosen.context, chosen.width, chosen.blocks, chosen.heads, chosen.seed)
    model, begun = GPT(sizes), time.perf_counter()
    weights = sum(weight.size for weight in model.weights.values())
    print(f"{weights:,} weights, {len(corpus.training):,} characters to learn from, {len(corpus.alphabet)} different")

    def watch(step: int, loss: float) -> None:
        if (step + 1) % max(chosen.steps // 20, 1) == 0:
            print(f"step {step + 1}: loss {loss:.3f}, {time.perf_counter() - begun:.0f} s", flush=True)

    training = TrainConfig(
        chosen.steps, chosen.batch, chosen.rate, warmup=max(1, min(100, chosen.steps // 10)), seed=chosen.seed
    )
    train(model, corpus.training, chosen.context, training, watch)
    print("\n".join(compare(model, corpus, chosen.context)))
    settings = SampleConfig(1 if chosen.text else 20, chosen.temperature, chosen.top_k, chosen.seed)
    if chosen.text:
        begin = corpus.held_out[: chosen.context]
        print(corpus.alphabet.decode(write(model, begin, SHOWN, chosen.context, settings)[0, len(begin) :]))
    else:
        print(", ".join(write_lines(model, corpus.alphabet, chosen.context, settings)))
    if chosen.out:
        print(f"saved: {save(chosen.out, model, corpus.alphabet)}")


def main() -> int:
    try:
        run(parser().parse_args())
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
