"""Train a GPT on a file of your own: python -m cairn.foundations.gpt --names FILE, or --text FILE for a story.

What was saved with --out names.npz writes on in Python:

    from pathlib import Path
    from cairn.foundations.gpt import SampleConfig, load, write_lines
    model, alphabet = load(Path("names.npz"))
    print(write_lines(model, alphabet, model.config.context, SampleConfig(count=20, temperature=0.8), start="an"))

>>> settings = parser().parse_args(["--steps", "50"])
>>> settings.steps, settings.names, settings.text
(50, None, None)
"""

import argparse
import os
import sys
import time
from pathlib import Path

from cairn.foundations.gpt.evaluate import compare
from cairn.foundations.gpt.model import GPT, GPTConfig
from cairn.foundations.gpt.ngrams import NGram, mean_loss
from cairn.foundations.gpt.sample import SampleConfig, write, write_lines
from cairn.foundations.gpt.save import check_writable, save
from cairn.foundations.gpt.text import read_names, read_text
from cairn.foundations.gpt.train import TrainConfig, train

SHOWN = 250  # characters of a story that are written at the end
NOTES = """Ctrl-C ends the training early: what was learned until then is measured, shown and saved.
A tenth of the file is kept back, and the model is compared on it with counting. For a story, try
    --text story.txt --context 48 --steps 800 --rate 4e-3"""


def parser() -> argparse.ArgumentParser:
    """Everything that may be chosen; the defaults are for about 30,000 names."""
    sizes, training = GPTConfig(symbols=1), TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m cairn.foundations.gpt",
        description="Train a small GPT in NumPy, a character at a time, and let it write.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--names", type=Path, metavar="FILE", help="a name on each line (without it: a short list)")
    source.add_argument("--text", type=Path, metavar="FILE", help="any UTF-8 text")
    for name, default, about in (
        ("context", sizes.context, "characters that it sees at once"),
        ("width", sizes.width, "numbers for each character"),
        ("blocks", sizes.blocks, "attention and MLP, so many times"),
        ("heads", sizes.heads, "attentions side by side; a divisor of the width"),
        ("steps", training.steps, "updates of the weights"),
        ("batch", training.batch, "pieces of text in a step"),
        ("seed", training.seed, "the same seed gives the same model and text"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{about} (default: {default})")
    for name, default, about in (
        ("rate", training.rate, "highest learning rate"),
        ("temperature", 0.8, "of the samples: below 1 tame, above 1 daring, 0 the likeliest alone"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, metavar="X", help=f"{about} (default: {default})")
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="N", help="samples of the N likeliest; 0: of all (default)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="save the model as .npz")
    return parser


def run(chosen: argparse.Namespace) -> None:
    """Whatever can be wrong with what was chosen is found before the training, not after it."""
    warmup = max(1, min(100, chosen.steps // 10))
    training = TrainConfig(chosen.steps, chosen.batch, chosen.rate, warmup, seed=chosen.seed)
    samples = SampleConfig(1 if chosen.text else 20, chosen.temperature, chosen.top_k, chosen.seed)
    if chosen.out:
        check_writable(chosen.out)
    corpus = read_text(chosen.text) if chosen.text else read_names(chosen.names)
    symbols = len(corpus.alphabet)
    counted = mean_loss(NGram(corpus.training, symbols, 2).losses(corpus.held_out))
    model = GPT(GPTConfig(symbols, chosen.context, chosen.width, chosen.blocks, chosen.heads, chosen.seed))
    weights = sum(weight.size for weight in model.weights.values())
    print(f"{weights:,} weights, {len(corpus.training):,} characters to learn from, {symbols} different")
    print(f"to beat: counting which character follows which gives a loss of {counted}", flush=True)
    begun, done = time.perf_counter(), 0

    def watch(step: int, loss: float) -> None:
        nonlocal done
        done = step + 1
        if done % max(chosen.steps // 20, 1) == 0:
            print(f"step {done}: loss {loss:.3f}, {time.perf_counter() - begun:.0f} s", flush=True)

    try:
        train(model, corpus.training, chosen.context, training, watch)
    except KeyboardInterrupt:
        print(f"stopped after {done} of {chosen.steps} steps", flush=True)
    if chosen.out:
        print(f"saved: {save(chosen.out, model, corpus.alphabet)}")
    print("\n".join(compare(model, corpus, chosen.context)))
    if chosen.text:
        begin = corpus.held_out[: chosen.context]
        print(corpus.alphabet.decode(write(model, begin, SHOWN, chosen.context, samples)[0, len(begin) :]))
    else:
        print(", ".join(write_lines(model, corpus.alphabet, chosen.context, samples)))


def main() -> int:
    try:
        run(parser().parse_args())
        sys.stdout.flush()
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: not enough memory: choose a smaller --width, --blocks, --context or --batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again as it ends
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
