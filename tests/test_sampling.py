"""Sampling by itself: refusals, what each parameter does, draws that follow the distribution and depend on the seed alone.
Against `transformers`: tests/parity/test_sampling_parity.py."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cairn.core.errors import UserError
from cairn.inference.constrain import Constraint
from cairn.inference.sampling import BLOCK, Sampler, SamplingParams, _nucleus, draw


def sampler(prompt=(), stops=(), seed=0, matcher=None, **values):
    return Sampler(SamplingParams(**values), list(prompt), stops, np.random.default_rng(seed), matcher)


# --- parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", v) for v in (-1, 101, math.nan, math.inf, "1", True)],
        *[("top_p", v) for v in (0, -0.1, 1.1, math.nan)],
        *[("top_k", v) for v in (-1, 1.5, math.nan)],
        *[("min_p", v) for v in (2, math.nan)],
        *[("repetition_penalty", v) for v in (0, -1, math.inf, math.nan, 1000)],
        *[("frequency_penalty", v) for v in (-2.1, 2.1, math.nan)],
        *[("presence_penalty", v) for v in (-2.1, 2.1, -math.inf)],
        *[("logprobs", v) for v in (99, -1)],
        *[("max_tokens", v) for v in (-1, 1.0, None)],
        *[("min_tokens", v) for v in (-1, 200)],
        ("seed", -1),
        ("stop", ("",)),
        ("stop", ("x" * 1000,)),
        ("stop", ("x",) * 100),
        *[("logit_bias", v) for v in ({-1: 1.0}, {1: 101}, {1: math.nan}, {1: 10**400}, {"1": 1.0})],
    ],
)
def test_wrong_parameters_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=name):
        SamplingParams(**{name: value})


def test_parameters_cannot_change_and_can_be_keys():
    bias = {3: 1.0}
    params = SamplingParams(logit_bias=bias, constraint=Constraint.json_object())
    bias[4] = 2.0
    assert dict(params.logit_bias) == {3: 1.0}
    with pytest.raises(TypeError):
        params.logit_bias[4] = 2.0  # type: ignore[index]
    assert params == SamplingParams(logit_bias={3: 1.0}, constraint=Constraint.json_object())
    assert len({params, SamplingParams(), SamplingParams()}) == 2
    assert params != SamplingParams(logit_bias={3: 2.0}, constraint=Constraint.json_object())


def test_constraint_without_an_end_is_refused():
    with pytest.raises(UserError, match="ignore_eos"):
        SamplingParams(ignore_eos=True, constraint=Constraint.regex("a"))


# --- what shapes the logits


def test_plain_means_that_the_likeliest_token_follows():
    assert sampler().plain
    for shaped in (
        {"temperature": 0.5},
        {"repetition_penalty": 1.1},
        {"frequency_penalty": 0.1},
        {"presence_penalty": -0.1},
        {"logit_bias": {1: 1}},
    ):
        assert not sampler(**shaped).plain, shaped
    early = sampler(stops=[2], min_tokens=2)
    assert not early.plain
    early.accept(1)
    early.accept(1)
    assert early.plain
    assert sampler(repetition_penalty=1.0, top_k=5, top_p=0.1, min_p=0.5).plain  # greedy: nothing of it can matter


def test_frequency_and_presence_follow_the_formula():
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, c counted over the answer (OpenAI's documentation)."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=50).astype(np.float32))
    state = sampler(prompt=[1, 1, 7], frequency_penalty=0.75, presence_penalty=-0.5)
    answer = [7, 7, 3, 49, 7, 0]
    for token in answer:
        state.accept(token)
    counts = np.bincount(answer, minlength=50)
    expected = logits.numpy() - counts * 0.75 - (counts > 0) * -0.5
    np.testing.assert_allclose(state.processed(logits), expected, rtol=1e-6, atol=1e-6)


def test_no_stop_token_before_min_tokens():
    logits = torch.tensor([0.0, 9.0, 3.0])
    state = sampler(stops=[1], min_tokens=2)
    tokens = []
    for _ in range(3):
        tokens.append(state.choose(logits))
        state.accept(tokens[-1])
    assert tokens == [2, 2, 1]


def test_bias_forbids_and_forces():
    logits = torch.tensor([3.0, 2.0, 1.0])
    assert sampler(logit_bias={0: -100}).choose(logits) == 1
    assert sampler(logit_bias={2: 100}).choose(logits) == 2
    logits = torch.tensor([3.0, 2.0, -math.inf])
    assert sampler(logit_bias={2: 100}).probabilities(logits)[2] == 0


@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.nan], [-math.inf, -math.inf], [math.inf, 1.0]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_are_an_error_not_a_token(values, temperature):
    with pytest.raises(UserError, match="finite"):
        sampler(temperature=temperature).choose(torch.tensor(values))


@pytest.mark.parametrize("temperature", [1e-320, 1e-8])
def test_a_temperature_near_zero_is_nearly_greedy(temperature):
    probs = sampler(temperature=temperature, top_p=0.9).probabilities(torch.tensor([1.0, 5.0, 4.0]))
    np.testing.assert_array_equal(probs, [0, 1, 0])


def test_equal_logits_are_broken_as_argmax_breaks_them():
    logits = torch.tensor([1.0, 4.0, 4.0, 2.0])
    assert sampler().choose(logits) == int(logits.argmax()) == 1
    assert sampler(temperature=1.0, top_k=1).probabilities(logits).nonzero()[0].tolist() == [1, 2]  # as in transformers


# --- the fast ways against the plain ones


def plain_nucleus(weights, top_p):
    order = weights.argsort(kind="stable")
    gone = weights[order].cumsum() <= (1 - top_p) * weights.sum()
    gone[-1] = False
    return np.sort(order[~gone])


@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([1, 2, 9, 500, 5000, 40_000]),
    top_p=st.floats(1e-9, 1, exclude_max=True),
    spread=st.sampled_from([0.0, 0.01, 1.0, 6.0, 50.0]),
    ties=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_nucleus_is_that_of_a_full_sort(seed, size, top_p, spread, ties):
    logits = np.random.default_rng(seed).normal(size=size) * spread
    if ties:
        logits = logits.round()
    logits[1:][np.random.default_rng(seed + 1).random(size - 1) < 0.2] = -math.inf
    scaled = logits - logits.max()
    weights = np.exp(scaled)
    kept, expected = _nucleus(scaled, weights, top_p), plain_nucleus(weights, top_p)
    if not np.array_equal(kept, expected):  # only where the edge is nearer than rounding
        assert abs(len(kept) - len(expected)) == 1
        edge = weights.sum() - weights[expected if len(expected) < len(kept) else kept].sum()
        assert math.isclose(edge, (1 - top_p) * weights.sum(), rel_tol=1e-9, abs_tol=1e-12)
    assert (np.diff(kept) > 0).all()


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.5, 1e-12]), min_size=1, max_size=2 * BLOCK), st.floats(0, 1, exclude_max=True)
)
@settings(max_examples=60, deadline=None)
def test_draw_inverts_the_running_sum_and_never_takes_a_zero(weights, uniform):
    weights = np.array([*weights, 1.0, 0.0, 0.0])
    place = draw(weights, uniform)
    assert weights[place] > 0
    total = weights.sum()
    assert weights[:place].sum() <= uniform * total + 1e-9 * total
    assert weights[: place + 1].sum() >= uniform * total - 1e-9 * total


def test_draws_follow_the_distribution():
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0)) * 2
    for values in ({}, {"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.05}, {"top_k": 30, "top_p": 0.9, "min_p": 0.01}):
        state = sampler(temperature=0.8, seed=4, **values)
        probs = state.probabilities(logits)
        counts = np.bincount([state.choose(logits) for _ in range(10_000)], minlength=40)
        possible = probs > 0
        assert counts[~possible].sum() == 0
        assert chisquare(counts[possible], probs[possible] * 10_000).pvalue > 1e-4, values
    wrong = sampler(temperature=0.9).probabilities(logits)  # the test can fail: a temperature a little higher is seen
    right = sampler(temperature=0.8)
    counts = np.bincount([right.choose(logits) for _ in range(10_000)], minlength=40)
    assert chisquare(counts, wrong * 10_000).pvalue < 1e-4


@given(st.integers(0, 2**32), st.integers(2, 3000))
@settings(max_examples=25, deadline=None)
def test_probabilities_sum_to_one(seed, size):
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 4
    for values in ({}, {"temperature": 1.0}, {"temperature": 0.3, "top_k": 3, "repetition_penalty": 1.2}):
        probs = sampler(prompt=[0, 1], **values).probabilities(logits)
        assert probs.dtype == np.float64
        assert probs.shape == (size,)
        assert math.isclose(probs.sum(), 1, abs_tol=1e-12)


def test_a_seed_gives_the_same_tokens_whatever_runs_beside_it():
    rows = torch.randn(30, 500, generator=torch.Generator().manual_seed(1))

    def run(*others):
        states = [sampler(temperature=1.0, top_p=0.95, seed=7), *others]
        tokens = []
        for row in rows:
            for state in states:
                token = state.choose(row)
                state.accept(token)
                tokens += [token] if state is states[0] else []
        return tokens

    alone = run()
    assert run(sampler(temperature=1.5, seed=3), sampler()) == alone
    assert len(set(alone)) > 10
