"""From logits to the next token. Every operation is the one of the same name in `transformers`."""

from dataclasses import dataclass

import numpy as np
import torch

from cairn.core.errors import UserError

MAX_STOP_STRINGS, MAX_STOP_LENGTH = 16, 256


@dataclass(frozen=True)
class SamplingParams:
    """How to generate. temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 leave the distribution whole.

    stop: strings that end the answer (and are cut off). logprobs: how many alternatives to report at each token, or None.
    echo: report the prompt's log-probabilities too. seed: makes a request repeatable whatever runs beside it.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    ignore_eos: bool = False
    logprobs: int | None = None
    echo: bool = False

    def __post_init__(self) -> None:
        checks = (
            (self.max_tokens >= 0, "max_tokens must be at least 0"),
            (self.seed is None or self.seed >= 0, "seed must be at least 0"),
            (0 <= self.temperature <= 100, "temperature must lie between 0 and 100"),
            (self.top_k >= 0, "top_k must be at least 0"),
            (0 < self.top_p <= 1, "top_p must be above 0 and at most 1"),
            (0 <= self.min_p <= 1, "min_p must lie between 0 and 1"),
            (self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs must lie between 0 and 20"),
            (len(self.stop) <= MAX_STOP_STRINGS, f"at most {MAX_STOP_STRINGS} stop strings"),
            (
                all(0 < len(s) <= MAX_STOP_LENGTH for s in self.stop),
                f"a stop string has 1 to {MAX_STOP_LENGTH} characters",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise UserError(message)


def shape_logits(logits_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Logits after temperature, top-k, top-p and min-p, in the order of `transformers`; excluded tokens are -inf."""
    logits_V = logits_V.float() / params.temperature
    if 0 < params.top_k < logits_V.shape[-1]:
        kth = logits_V.topk(params.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < kth, float("-inf"))
    if params.top_p < 1:
        # Ascending; a token goes when all that is at most as likely sums to at most 1 - top_p. The likeliest stays.
        values, order = logits_V.sort()
        gone = values.softmax(-1).cumsum(-1) <= 1 - params.top_p
        gone[-1] = False
        logits_V = logits_V.masked_fill(torch.zeros_like(gone).scatter(0, order, gone), float("-inf"))
    if params.min_p > 0:
        probs = logits_V.softmax(-1)
        logits_V = logits_V.masked_fill(probs < params.min_p * probs.max(), float("-inf"))
    return logits_V


def sample(logits_V: torch.Tensor, params: SamplingParams, rng: np.random.Generator) -> int:
    """One token. A request draws one number of its own generator per token, so its neighbours cannot change it."""
    if params.temperature == 0:
        return int(logits_V.argmax())
    cumulative = shape_logits(logits_V, params).softmax(-1).double().cumsum(-1)
    draw = rng.random() * float(cumulative[-1])
    return min(int(torch.searchsorted(cumulative, draw, right=True)), logits_V.shape[-1] - 1)
