"""Every operation on the logits against the LogitsProcessor of the same name in `transformers`: equal logits, ties and
-inf and extreme values included, and the order in which `generate` applies them."""

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cairn.inference.sampling import Sampler, SamplingParams

VOCABULARY = 300
PROMPT, ANSWER, STOPS = [1, 5, 5, 299, 17], [5, 8, 250, 8], [0, 7]
BIAS = {0: 3.5, 8: -100.0, 17: 100.0, 120: -0.25}


def cases():
    """Random logits; with ties; with -inf; of both extremes."""
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 3.0, 30.0):
        for _ in range(8):
            logits = torch.randn(VOCABULARY, generator=generator) * scale
            yield logits
            yield (logits * 4 / scale).round() / 4
            yield logits.masked_fill(torch.rand(VOCABULARY, generator=generator) < 0.5, float("-inf"))
            yield logits.masked_fill(torch.rand(VOCABULARY, generator=generator) < 0.1, 1e30)
            yield logits.masked_fill(torch.rand(VOCABULARY, generator=generator) < 0.1, -3e38)


def ours(**values):
    state = Sampler(SamplingParams(**values), PROMPT, STOPS, np.random.default_rng(0))
    for token in ANSWER:
        state.accept(token)
    return state


def theirs(processors, logits):
    ids = torch.tensor([PROMPT + ANSWER])
    return LogitsProcessorList(processors)(ids, logits[None].clone())[0]


SHAPERS = {
    "repetition 1.3": ({"repetition_penalty": 1.3}, [RepetitionPenaltyLogitsProcessor(1.3)]),
    "repetition 0.5": ({"repetition_penalty": 0.5}, [RepetitionPenaltyLogitsProcessor(0.5)]),
    "bias": ({"logit_bias": BIAS}, [SequenceBiasLogitsProcessor({(k,): v for k, v in BIAS.items()})]),
    "min_tokens, before": ({"min_tokens": 5}, [MinNewTokensLengthLogitsProcessor(len(PROMPT), 5, STOPS)]),
    "min_tokens, reached": ({"min_tokens": 4}, [MinNewTokensLengthLogitsProcessor(len(PROMPT), 4, STOPS)]),
}
SHAPERS["all"] = (
    {"logit_bias": BIAS, "repetition_penalty": 1.3, "min_tokens": 5},
    SHAPERS["bias"][1] + SHAPERS["repetition 1.3"][1] + SHAPERS["min_tokens, before"][1],
)


@pytest.mark.parametrize("name", SHAPERS)
def test_processed_logits_are_bit_for_bit_those_of_transformers(name):
    values, processors = SHAPERS[name]
    for logits in cases():
        np.testing.assert_array_equal(ours(**values).processed(logits), theirs(processors, logits).numpy())


WARPERS = {
    "temperature": ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
    "top_k 1": ({"temperature": 1.0, "top_k": 1}, [TopKLogitsWarper(1)]),
    "top_k 40": ({"temperature": 1.0, "top_k": 40}, [TopKLogitsWarper(40)]),
    "top_k above": ({"temperature": 1.0, "top_k": 1000}, [TopKLogitsWarper(1000)]),
    "top_p 0.8": ({"temperature": 1.0, "top_p": 0.8}, [TopPLogitsWarper(0.8)]),
    "top_p 0.0001": ({"temperature": 1.0, "top_p": 0.0001}, [TopPLogitsWarper(0.0001)]),
    "min_p 0.1": ({"temperature": 1.0, "min_p": 0.1}, [MinPLogitsWarper(0.1)]),
    "min_p 1": ({"temperature": 1.0, "min_p": 1.0}, [MinPLogitsWarper(1.0)]),
    "in the order of generate": (
        {"temperature": 1.3, "top_k": 60, "top_p": 0.9, "min_p": 0.02, "logit_bias": BIAS, "repetition_penalty": 1.2},
        [
            SequenceBiasLogitsProcessor({(k,): v for k, v in BIAS.items()}),
            RepetitionPenaltyLogitsProcessor(1.2),
            TemperatureLogitsWarper(1.3),
            TopKLogitsWarper(60),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.02),
        ],
    ),
}


@pytest.mark.parametrize("name", WARPERS)
def test_distribution_is_that_of_transformers(name):
    """In float64, as ours is computed. Which of equal tokens on the edge of top-p stays is undefined in `transformers`
    (its sort is not stable): there as many of them must stay."""
    values, processors = WARPERS[name]
    # Ours adds the bias in float32, as the model computes: rounding of a logit of 130 is 8e-6 of a probability.
    tolerance = 2e-5 if "logit_bias" in values else 1e-9
    for logits in cases():
        wanted = theirs(processors, logits.double()).softmax(-1).numpy()
        probs = ours(**values).probabilities(logits)
        if "top_p" in values and len(logits[logits.isfinite()].unique()) < logits.isfinite().sum():
            probs, wanted = np.sort(probs), np.sort(wanted)
        np.testing.assert_array_equal(probs > 0, wanted > 0)
        np.testing.assert_allclose(probs, wanted, rtol=tolerance, atol=1e-12)
