"""How fast the engine generates, against `transformers` with the same weights and threads in the same run.

    python benchmarks/decode.py [--quick] [--json FILE]

Weights are random: the work is the same. Rows: one request (a 1M Llama, GPT-2 124M); 16 requests at once with prompts and
answers of mixed lengths (`transformers` pads the batch and goes on until the longest is done); guesses of several tokens at
once; and the time to the first token of a short prompt that comes while a long one is being read.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from measure import Row, interleaved, main, row

from cairn.inference import Engine, Lookup, SamplingParams
from cairn.models import Transformer, load, preset, save
from cairn.tokenizers import train_tokenizer

PEER = f"transformers {transformers.__version__} generate"
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class Pair:
    """The same random weights in both libraries."""

    def __init__(self, name: str, config, where: Path):
        tokenizer = train_tokenizer(["hello world " * 50], vocab_size=300)
        save(where / name, Transformer(config).initialize(0), tokenizer)
        self.name, self.config = name, config
        self.model, self.tokenizer = load(where / name)
        self.theirs = transformers.AutoModelForCausalLM.from_pretrained(where / name).eval()

    def prompt(self, length: int, seed: int = 0) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(20, self.config.vocab_size, (length,), generator=generator).tolist()

    def generate_theirs(self, prompts: list[list[int]], tokens: int) -> None:
        """A batch padded on the left, as its users do it; no end is reached before `tokens`."""
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            self.theirs.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )


def params(tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, ignore_eos=True)


def one_request(pair: Pair, tokens: int, threads: int, goal: float, runs: int) -> Row:
    engine = Engine(pair.model, pair.tokenizer, slots=16, threads=threads, reuse=False)
    prompt = pair.prompt(16)
    ours, theirs = interleaved(
        (lambda: engine.generate([prompt], params(tokens)), lambda: pair.generate_theirs([prompt], tokens)), runs
    )
    name = f"{pair.name}, 1 request, {threads} thread{'s' * (threads > 1)}"
    return row(name, PEER, tokens / ours, tokens / theirs, "tokens/s", goal, less_is_better=False)


def many_requests(pair: Pair, tokens: int, threads: int, goal: float, runs: int) -> Row:
    """16 prompts of 8 to 128 tokens, answers of 1/8 of `tokens` to all of them."""
    engine = Engine(pair.model, pair.tokenizer, slots=16, threads=threads, reuse=False)
    prompts = [pair.prompt(8 + 8 * i, i) for i in range(16)]
    lengths = [max(1, tokens * (1 + i * 7 % 8) // 8) for i in range(16)]
    ours, theirs = interleaved(
        (
            lambda: engine.generate(prompts, [params(n) for n in lengths]),
            lambda: pair.generate_theirs(prompts, max(lengths)),
        ),
        runs,
    )
    name, total = f"{pair.name}, 16 requests, {threads} thread{'s' * (threads > 1)}", sum(lengths)
    return row(name, PEER + ", padded batch", total / ours, total / theirs, "tokens/s", goal, less_is_better=False)


def guesses(pair: Pair, tokens: int, temperature: float, goal: float, runs: int) -> Row:
    """Guesses by looking up what followed before, against none: greedy random weights repeat themselves, drawn tokens
    never do."""
    plain, guessing = (
        Engine(pair.model, pair.tokenizer, slots=16, threads=1, reuse=False, draft=draft) for draft in (None, Lookup())
    )
    prompt = pair.prompt(16)
    how = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=temperature, seed=1)
    with_them, without = interleaved(
        (lambda: guessing.generate([prompt], how), lambda: plain.generate([prompt], how)), runs
    )
    name = f"{pair.name}, guesses, text that {'never repeats' if temperature else 'repeats'}"
    return row(
        name, "the same without guesses", tokens / with_them, tokens / without, "tokens/s", goal, less_is_better=False
    )


def first_token(pair: Pair, length: int, threads: int, runs: int) -> Row:
    """A prompt of 8 tokens comes while one of `length` is read. The peer finishes reading the long one first."""
    engine = Engine(pair.model, pair.tokenizer, slots=16, threads=threads, reuse=False)
    long, short = pair.prompt(length), pair.prompt(8, 1)

    def ours() -> float:
        engine.submit(long, params(1))
        engine.step()
        start = time.perf_counter()
        request = engine.submit(short, params(1))
        while not request.output_ids:
            engine.step()
        took = time.perf_counter() - start
        while engine.has_work():
            engine.step()
        return took

    def theirs() -> float:
        start = time.perf_counter()
        pair.generate_theirs([long], 1)
        pair.generate_theirs([short], 1)
        return time.perf_counter() - start

    name = f"{pair.name}, first token beside a prompt of {length}"
    return row(name, PEER, _median(ours, runs), _median(theirs, runs), "s", 3, less_is_better=True)


def _median(function: Callable[[], float], runs: int) -> float:
    function()
    return statistics.median(function() for _ in range(runs))


def measure(quick: bool) -> list[Row]:
    rows, runs = [], 1 if quick else 5
    before = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        small = Pair("Llama 1M", dataclasses.replace(preset("stone"), max_positions=2048), Path(folder))
        large = None if quick else Pair("GPT-2 124M", preset("gpt2-124m"), Path(folder))
        for threads in (1,) if quick else (1, 2):
            torch.set_num_threads(threads)
            rows.append(one_request(small, 32 if quick else 256, threads, 3, runs))
            rows.append(many_requests(small, 32 if quick else 128, threads, 3, runs))
            if large is not None:
                rows.append(one_request(large, 64, threads, 1.5, 3))
                rows.append(many_requests(large, 64, threads, 3, 2))
        torch.set_num_threads(1)
        rows.append(guesses(small, 32 if quick else 256, 1.0, 0.9, runs))
        if large is not None:
            rows.append(guesses(large, 64, 0.0, 1.3, 3))
        rows.append(first_token(small, 256 if quick else 2000, 1, runs))
        if large is not None:
            rows.append(first_token(large, 1000, 1, 2))
    torch.set_num_threads(before)
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
