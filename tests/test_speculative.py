"""Speculative decoding: guesses from the text itself, and the proof by enumeration that keeping them changes nothing."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cairn.inference.constrain import Constraint, Grammars
from cairn.inference.sampling import Sampler, SamplingParams
from cairn.inference.speculative import DraftLength, NgramDraft, residual, verify
from cairn.tokenizers import train_tokenizer

V = 5


class Numbers:
    """A generator whose numbers are given; it tells how many were taken."""

    def __init__(self, *numbers):
        self.numbers, self.taken = numbers, 0

    def random(self):
        self.taken += 1
        return self.numbers[self.taken - 1]


def sampler(rng=None, stops=(), matcher=None, **values):
    rng = np.random.default_rng(values.pop("seed", 0)) if rng is None else rng
    return Sampler(SamplingParams(**{"temperature": 1.0, **values}), [0], stops, rng, matcher)


def random_logits(rows, seed=0, size=V, scale=2.0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * scale


def random_probs(rows, seed, size=V):
    return np.random.default_rng(seed).dirichlet(np.ones(size), rows)


# --- verify


def outcomes(drafted, draft_probs, logits_KV, **values):
    """Every way `verify` can go and its exact probability: {tokens: probability}.

    The ways are found by running it: a number just below a bound takes one side, a number at it the other. The bounds are
    those of the definition: q u < p keeps a guess; u in a token's part of the running sum draws that token.
    """
    found = {}

    def explore(path, probability):
        # Walk the definition beside the code: `path` are the numbers drawn so far.
        state = sampler(Numbers(*path, *[0.5] * 9), **values)
        before = state.rng.taken
        tokens = verify(drafted, draft_probs, logits_KV, state)
        if state.rng.taken - before == len(path):
            found[tuple(tokens)] = found.get(tuple(tokens), 0) + probability
            return
        for number, share in choices(path):
            explore([*path, number], probability * share)

    def choices(path):
        # Which question the next number answers: follow the guesses that the path has kept.
        state, i, used = sampler(**values), 0, 0
        while True:
            p = state.probabilities(logits_KV[i])
            if i < len(drafted) and draft_probs is not None:
                keep = min(1.0, p[drafted[i]] / draft_probs[i][drafted[i]])
                if used == len(path):
                    return [(u, s) for u, s in ((keep / 2, keep), ((1 + keep) / 2, 1 - keep)) if s > 0]
                kept = path[used] < keep
                used += 1
                if not kept:
                    return middles(residual(p, draft_probs[i]))
            else:
                return middles(p)
            state.accept(drafted[i])
            i += 1

    def middles(p):
        ends = p.cumsum()
        return [(float(end - share / 2), float(share)) for end, share in zip(ends, p) if share > 0]

    explore([], 1.0)
    return found


@given(st.integers(0, 2**31), st.sampled_from([{}, {"temperature": 0.5}, {"top_k": 3}, {"frequency_penalty": 1.5}]))
@settings(max_examples=15, deadline=None)
def test_distribution_is_unchanged_exactly(seed, values):
    """Over all guesses the draft may make, and all numbers drawn: the first token has p's distribution, and the second,
    where there is one, p's given the first, to 1e-12 (vocabulary of 5, two guesses)."""
    q = random_probs(2, seed)
    logits_KV = random_logits(3, seed)
    p0 = sampler(**values).probabilities(logits_KV[0])
    first, second, reached = np.zeros(V), np.zeros((V, V)), np.zeros(V)
    for guesses in itertools.product(range(V), repeat=2):
        chance = q[0][guesses[0]] * q[1][guesses[1]]
        for tokens, probability in outcomes(list(guesses), list(q), logits_KV, **values).items():
            first[tokens[0]] += chance * probability
            if len(tokens) > 1:
                second[tokens[:2]] += chance * probability
                reached[tokens[0]] += chance * probability
    np.testing.assert_allclose(first, p0, rtol=0, atol=1e-12)
    for token in np.flatnonzero(reached):
        state = sampler(**values)
        state.accept(int(token))
        np.testing.assert_allclose(
            second[token] / reached[token], state.probabilities(logits_KV[1]), rtol=0, atol=1e-12
        )
    kept = np.minimum(q[0], p0).sum()  # the share of first guesses that are kept: 1 - total variation distance
    np.testing.assert_allclose(reached.sum(), kept, rtol=0, atol=1e-12)


def test_drawn_tokens_follow_the_distribution():
    logits_KV, q = random_logits(3, 5), random_probs(2, 5)
    rng, pairs = np.random.default_rng(1), np.zeros((V, V))
    state = sampler(rng)
    p = [state.probabilities(row) for row in logits_KV]
    for _ in range(20_000):
        guesses = [int(rng.choice(V, p=row)) for row in q]
        tokens = verify(guesses, list(q), logits_KV, state)
        if len(tokens) == 1:
            tokens.append(int(rng.choice(V, p=p[1])))
        pairs[tuple(tokens[:2])] += 1
    expected = np.outer(p[0], p[1]) * pairs.sum()
    assert chisquare(pairs.ravel(), expected.ravel()).pvalue > 1e-4
    assert chisquare(pairs.ravel(), np.outer(q[0], p[1]).ravel() * pairs.sum()).pvalue < 1e-4  # it can fail


def plain(logits_KV, state, count):
    tokens = []
    for row in logits_KV[:count]:
        tokens.append(state.choose(row))
        state.accept(tokens[-1])
    return tokens


@given(
    st.integers(0, 2**31),
    st.lists(st.integers(0, V - 1), max_size=4),
    st.sampled_from(
        [{}, {"temperature": 0.0}, {"presence_penalty": 1.0}, {"temperature": 0.0, "repetition_penalty": 2.0}]
    ),
)
@settings(max_examples=80, deadline=None)
def test_certain_guesses_do_not_change_one_token_of_a_seed(seed, guesses, values):
    """Without draft probabilities: the tokens of a request with a seed are those it gets without guesses."""
    logits_KV = random_logits(len(guesses) + 1, seed)
    tokens = verify(guesses, None, logits_KV, sampler(seed=3, **values))
    assert tokens == plain(logits_KV, sampler(seed=3, **values), len(tokens))
    kept = len(tokens) - 1
    assert tokens[:kept] == guesses[:kept]
    assert kept == len(guesses) or tokens[kept] != guesses[kept]


def test_greedy_keeps_what_is_equal():
    logits_KV = torch.nn.functional.one_hot(torch.tensor([3, 1, 4, 2])).float()
    for q in (None, list(random_probs(3, 0))):
        assert verify([3, 1, 4], q, logits_KV, sampler(temperature=0.0)) == [3, 1, 4, 2]
        assert verify([3, 2, 4], q, logits_KV, sampler(temperature=0.0)) == [3, 1]
        assert verify([0, 1, 4], q, logits_KV, sampler(temperature=0.0)) == [3]
    assert verify([], None, logits_KV[:1], sampler(temperature=0.0)) == [3]


def test_nothing_follows_a_stop_token():
    logits_KV = torch.nn.functional.one_hot(torch.tensor([3, 1, 4, 2])).float()
    state = sampler(temperature=0.0, stops=[1])
    assert verify([3, 1, 4], None, logits_KV, state) == [3, 1]


def test_the_sampler_hears_of_every_token():
    state = sampler(temperature=0.0, presence_penalty=2.0)
    logits_KV = torch.tensor([[0.0, 5.0, 4.0], [0.0, 5.0, 4.0], [0.0, 5.0, 4.0]])
    assert verify([1, 2], None, logits_KV, state) == [1, 2, 1]  # 5 - 2 < 4, then both are marked down
    assert verify([], None, logits_KV[:1], state) == [1]


def test_a_constraint_holds_and_ends_the_answer():
    tokenizer = train_tokenizer(["abc"], 264)
    grammar = Grammars(tokenizer, tokenizer.stop_ids)
    a, b, c = (tokenizer.encode(x)[0] for x in "abc")
    for temperature in (0.0, 1.0):
        state = sampler(matcher=grammar.matcher(Constraint.regex("ab[bc]")), temperature=temperature)
        logits_KV = torch.zeros(4, tokenizer.vocab_size)
        tokens = verify([a, b, b], None, logits_KV, state)
        assert tokens[:2] == [a, b]
        assert tokens[2] in {b, c}
        assert len(tokens) == 3
        assert state.finished


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="rows"):
        verify([1, 2], None, random_logits(2), sampler())


# --- guesses


def definition(ids, size, tokens, least, limit):
    """What `NgramDraft` promises, by looking everywhere."""
    for n in range(min(size, len(ids) - 1), least - 1, -1):
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + min(tokens, limit)]
    return []


@given(
    st.lists(st.integers(0, 3), max_size=60),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 2),
    st.integers(0, 6),
    st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_lookup_is_that_of_a_full_search(ids, size, tokens, least, limit, stride):
    draft = NgramDraft(size, tokens, least)
    for end in range(0, len(ids) + 1, stride):  # the answer grows by several tokens at a time
        assert draft.propose(ids[:end], limit) == definition(ids[:end], size, tokens, least, limit)


def test_longest_match_wins_then_the_latest():
    assert NgramDraft(size=2, tokens=1).propose([1, 2, 7, 2, 8, 2, 9, 1, 2], 5) == [7]
    assert NgramDraft(size=1, tokens=1, least=1).propose([1, 2, 7, 2, 8, 2, 9, 1, 2], 5) == [9]
    assert NgramDraft().propose([1, 2, 3], 5) == []
    assert NgramDraft().propose([], 5) == []


def test_length_follows_the_acceptance():
    good, bad = DraftLength(most=6, cost=0.1), DraftLength(most=6, cost=0.1)
    for _ in range(30):
        good.record(guessed=good.limit, kept=good.limit)
        bad.record(guessed=bad.limit, kept=0)
    assert good.limit == 6
    assert bad.limit <= 1
    silent = [bad.record(guessed=0, kept=0) or bad.limit for _ in range(200)]
    assert silent[-1] > 0  # guesses are tried again
    assert DraftLength(most=0).limit == 0


def test_length_is_the_one_that_brings_most_per_work():
    """Leviathan et al. 2023, theorem 3.8, evaluated by simulation of the process itself."""
    rng = np.random.default_rng(0)
    for rate, cost in ((0.9, 0.1), (0.5, 0.1), (0.3, 0.3), (0.05, 0.2)):
        length = DraftLength(most=8, cost=cost)
        length._kept, length._tried = rate, 1.0
        kept = (np.cumprod(rng.random((200_000, 8)) < rate, axis=1)).cumsum(axis=1).mean(axis=0)
        gains = [1.0, *((1 + kept) / (1 + cost * np.arange(1, 9)))]
        assert gains[length.limit] >= max(gains) * 0.995
