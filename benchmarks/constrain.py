"""What a token costs after the model: sampling and JSON schemas on a vocabulary of 150,000, against `transformers`.

    python benchmarks/constrain.py [--quick] [--json FILE]

One thread. The logits fall off with the rank as a language model's do. ratio > 1 means faster than the peer.
"""

import statistics
import time

import numpy as np
import torch
from measure import Row, interleaved, main, row
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cairn.inference.constrain import Constraint, Grammars
from cairn.inference.sampling import Sampler, SamplingParams
from cairn.tokenizers import train_tokenizer

VOCABULARY, PROMPT = 150_000, list(range(4000))
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["stone", "trail", "hill"]}},
    },
    "required": ["name", "age", "tags"],
}
TEXT = '{"name": "Ada of the stones", "age": 36, "tags": ["stone", "hill"]}'
CASES = {
    "temperature": ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
    "top-k 50": ({"temperature": 1.0, "top_k": 50}, [TopKLogitsWarper(50)]),
    "top-p 0.9": ({"temperature": 0.7, "top_p": 0.9}, [TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)]),
    "repetition, top-k, top-p": (
        {"temperature": 0.7, "repetition_penalty": 1.1, "top_k": 50, "top_p": 0.95},
        [
            RepetitionPenaltyLogitsProcessor(1.1),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(50),
            TopPLogitsWarper(0.95),
        ],
    ),
}


def sampling(quick: bool) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    ranks = torch.randperm(VOCABULARY, generator=generator) + 1
    logits_V = torch.randn(VOCABULARY, generator=generator) - 2.0 * ranks.float().log()
    ids = torch.tensor([PROMPT])
    rows = []
    for name, (values, processors) in CASES.items():
        sampler = Sampler(SamplingParams(**values), PROMPT, [], np.random.default_rng(0))
        chain = LogitsProcessorList(processors)
        ours, theirs = interleaved(
            [
                lambda: sampler.choose(logits_V),  # noqa: B023 (called at once)
                lambda: torch.multinomial(chain(ids, logits_V[None]).softmax(-1), 1),  # noqa: B023
            ],
            5 if quick else 50,
        )
        rows.append(row(name, "transformers", ours * 1e3, theirs * 1e3, "ms/token", 1.5, less_is_better=True))
    return rows


def masks(quick: bool) -> list[Row]:
    """The mask of a JSON schema at each token of an answer, against what drawing a token takes anyway."""
    tokenizer = train_tokenizer([TEXT, "the stones mark the trail over the hill. " * 20], 400)
    grammars, constraint = Grammars(tokenizer, tokenizer.stop_ids), Constraint.json_schema(SCHEMA)
    sampler = Sampler(SamplingParams(temperature=1.0, top_p=0.9), [], [], np.random.default_rng(0))
    logits_V = torch.randn(tokenizer.vocab_size, generator=torch.Generator().manual_seed(0))
    mask_seconds, draw_seconds = [], []
    for _ in range(3 if quick else 30):
        matcher = grammars.matcher(constraint)
        for token in tokenizer.encode(TEXT):
            start = time.perf_counter()
            matcher.mask()
            matcher.accept(token)
            middle = time.perf_counter()
            sampler.choose(logits_V)
            mask_seconds.append(middle - start)
            draw_seconds.append(time.perf_counter() - middle)
    ours, theirs = statistics.mean(mask_seconds) * 1e6, statistics.mean(draw_seconds) * 1e6
    return [row("JSON schema, mask and state", "drawing the token", ours, theirs, "us/token", 0.5, less_is_better=True)]


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    return sampling(quick) + masks(quick)


if __name__ == "__main__":
    main(__doc__ or "", measure)
