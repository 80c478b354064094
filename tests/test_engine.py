"""The engine's laws: what a request gets does not depend on who else is there, on pages, or on guesses."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.inference import Constraint, Engine, Lookup, ModelDraft, SamplingParams
from cairn.inference.pages import PagePool
from cairn.models import PAGE, ModelConfig, PagedCache, Transformer, preset

torch.set_num_threads(1)

SHAPES = {
    "llama": ModelConfig(vocab_size=300, dim=32, layers=2, heads=4, kv_heads=2, ffn_dim=64, max_positions=256),
    "gpt2": dataclasses.replace(
        preset("gpt2-124m"), vocab_size=300, dim=32, layers=2, heads=4, kv_heads=4, head_dim=8, ffn_dim=64,
        max_positions=256,
    ),
    "window, sinks, caps": ModelConfig(
        vocab_size=300, dim=32, layers=2, heads=4, kv_heads=1, ffn_dim=64, max_positions=256, window=24, sinks=3,
        window_layers=(True, False), score_cap=20.0, logit_cap=30.0, norm_place="sandwich", qk_norm="head",
    ),
}  # fmt: skip


def lively(config, seed=1):
    """A random model whose next token depends on what came before."""
    model = Transformer(config).initialize(seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter *= 8
    return model


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    return lively(SHAPES[request.param])


@pytest.fixture(scope="module")
def small():
    return lively(SHAPES["llama"])


@torch.no_grad()
def greedy(model, ids, count):
    """One token at a time over the whole text, without a cache."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


def drain(engine):
    while engine.has_work():
        engine.step()


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_greedy_is_the_same_in_any_schedule(model, small, tokenizer, data):
    """Requests that share beginnings arrive and are cancelled at any time, in a cache too small for all of them, in steps
    too short for their prompts, with and without reuse and guesses: each gets the tokens it would get alone."""
    draw = data.draw
    draft = draw(st.sampled_from([None, Lookup(2, 3), "model"]))
    engine = Engine(
        model,
        tokenizer,
        slots=draw(st.integers(1, 6)),
        positions=80,
        memory=PagedCache.page_bytes(model.config, torch.float32) * draw(st.integers(5, 14)),
        reuse=draw(st.booleans()),
        draft=ModelDraft(small) if draft == "model" else draft,
    )
    engine.scheduler.budget = max(engine.scheduler.slots, draw(st.integers(3, 40)))
    base = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 300, 60).tolist()
    wanted = []
    for i in range(draw(st.integers(1, 9))):
        prompt = [*base[: draw(st.integers(0, 50))], draw(st.integers(0, 299))]
        count = draw(st.integers(1, 12))
        params = SamplingParams(
            max_tokens=count, ignore_eos=True, logprobs=draw(st.sampled_from([None, 1])), echo=i == 2
        )
        request = engine.submit(prompt, params)
        if draw(st.integers(0, 5)) == 0:
            engine.step()
            engine.cancel(request)
        else:
            wanted.append((request, prompt, count))
        for _ in range(draw(st.integers(0, 4))):
            engine.step()
    drain(engine)
    for request, prompt, count in wanted:
        assert request.output_ids == greedy(model, prompt, count)
        assert request.finish_reason == "length"
        if request.params.echo:
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt]))[0].log_softmax(-1)
            assert [t.id for t in request.prompt_logprobs] == prompt
            for t, entry in enumerate(request.prompt_logprobs[1:]):
                assert entry.logprob == pytest.approx(float(logprobs[t, entry.id]), abs=1e-3)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pages_free) == (0, 0, stats.pages_total)
    if draft == "model":
        assert engine.draft.pool.free == engine.draft.pool.size


def test_preemption_loses_nothing(model, tokenizer):
    """More requests than pages: some are turned out and computed again, the seeded draws included."""
    memory = PagedCache.page_bytes(model.config, torch.float32) * 8
    prompts = [[i, i + 1, 5] for i in range(6)]
    params = [SamplingParams(max_tokens=45, temperature=1.0, seed=i, ignore_eos=True, logprobs=0) for i in range(6)]
    tight = Engine(model, tokenizer, positions=64, memory=memory, reuse=False)
    outputs = tight.generate(prompts, params)
    assert tight.stats().preemptions > 0
    roomy = Engine(model, tokenizer, positions=64).generate(prompts, params)
    assert [o.output_ids for o in outputs] == [o.output_ids for o in roomy]
    assert [len(o.logprobs) for o in outputs] == [45] * 6


def test_a_known_beginning_is_not_computed_again(model, tokenizer):
    engine = Engine(model, tokenizer)
    beginning = list(range(3 * PAGE))
    params = SamplingParams(max_tokens=4, ignore_eos=True)
    (first,) = engine.generate([[*beginning, 7]], params)
    assert first.cached_tokens == 0
    (again,) = engine.generate([[*beginning, 9, 9]], params)
    assert again.cached_tokens == 3 * PAGE
    (exact,) = engine.generate([beginning], params)  # its last token has to be computed: its logits are wanted
    assert exact.cached_tokens == 2 * PAGE
    assert exact.output_ids == greedy(model, beginning, 4)
    (other,) = engine.generate([[1, *beginning]], params)  # the same tokens one place later are something else
    assert other.cached_tokens == 0
    assert engine.stats().cached_tokens == 5 * PAGE
    (echo,) = engine.generate([[*beginning, 7]], dataclasses.replace(params, echo=True))
    assert (echo.cached_tokens, len(echo.prompt_logprobs)) == (0, 3 * PAGE + 1)


def test_a_conversation_goes_on_from_its_own_answer(model, tokenizer):
    """Pages of the answer are known too: the next turn begins behind it."""
    engine = Engine(model, tokenizer)
    (turn,) = engine.generate([list(range(20))], SamplingParams(max_tokens=40, ignore_eos=True))
    (following,) = engine.generate([[*turn.ids, 3, 4]], SamplingParams(max_tokens=2, ignore_eos=True))
    assert following.cached_tokens == len(turn.ids) // PAGE * PAGE - (PAGE if len(turn.ids) % PAGE == 0 else 0)


def test_what_another_model_computed_is_not_reused(tokenizer):
    """Training goes on between two rollouts of one engine: the beginnings it knows are of the model before."""
    model = lively(SHAPES["llama"])
    engine = Engine(model, tokenizer)
    prompt, params = list(range(40)), SamplingParams(max_tokens=8, ignore_eos=True)
    engine.generate([prompt], params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    (after,) = engine.generate([prompt], params)
    assert (after.cached_tokens, after.output_ids) == (0, greedy(model, prompt, 8))
    assert engine.generate([prompt], params)[0].cached_tokens == 2 * PAGE
    assert engine.pool.free == engine.pool.size


def test_weights_that_change_in_the_middle(tokenizer):
    """What a request began under the old weights is not handed on under the new ones."""
    model = lively(SHAPES["llama"])
    engine = Engine(model, tokenizer)
    prompt = list(range(40))
    engine.submit(prompt, SamplingParams(max_tokens=30, ignore_eos=True))
    for _ in range(5):
        engine.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    engine.submit([5], SamplingParams(max_tokens=1, ignore_eos=True))
    drain(engine)
    (after,) = engine.generate([prompt], SamplingParams(max_tokens=8, ignore_eos=True))
    assert (after.cached_tokens, after.output_ids) == (0, greedy(model, prompt, 8))
    engine.forget()
    assert engine.generate([prompt], SamplingParams(max_tokens=1))[0].cached_tokens == 0


def test_several_answers_to_one_prompt_read_it_once(model, tokenizer):
    engine = Engine(model, tokenizer)
    engine.scheduler.budget = 40
    prompt = list(range(100))
    params = [SamplingParams(max_tokens=6, temperature=1.0, seed=i, ignore_eos=True) for i in range(4)]
    outputs = engine.generate([*[prompt] * 4, [1, 2]], [*params, params[0]])
    assert [o.cached_tokens for o in outputs] == [0, 96, 96, 96, 0]
    alone = [Engine(model, tokenizer, reuse=False).generate([prompt], p)[0].output_ids for p in params]
    assert [o.output_ids for o in outputs[:4]] == alone


def test_a_short_prompt_does_not_wait_for_a_long_one(model, tokenizer):
    engine = Engine(model, tokenizer)
    engine.scheduler.budget = 64
    long = engine.submit(list(range(240)), SamplingParams(max_tokens=2, ignore_eos=True))
    engine.step()
    short = engine.submit([1, 2, 3], SamplingParams(max_tokens=2, ignore_eos=True))
    engine.step()
    assert len(short.output_ids) == 1
    assert long.output_ids == []
    drain(engine)
    assert long.output_ids == greedy(model, range(240), 2)


def test_those_who_generate_go_on_while_a_prompt_is_read(model, tokenizer):
    engine = Engine(model, tokenizer)
    engine.scheduler.budget = 64
    writer = engine.submit([1, 2], SamplingParams(max_tokens=20, ignore_eos=True))
    engine.step()
    engine.submit(list(range(200)), SamplingParams(max_tokens=1, ignore_eos=True))
    for done in range(2, 6):
        engine.step()
        assert len(writer.output_ids) == done


def test_a_prompt_that_fills_the_context(model, tokenizer):
    engine = Engine(model, tokenizer, slots=1, positions=48)
    params = SamplingParams(max_tokens=0, echo=True)
    (scored,) = engine.generate([list(range(48))], params)
    assert (len(scored.prompt_logprobs), scored.finish_reason) == (48, "length")


def test_requests_cancelled_by_a_callback(model, tokenizer):
    """Those that were to be served in the same step come out as cancelled, and nobody waits for them."""
    engine = Engine(model, tokenizer)
    params, requests = SamplingParams(max_tokens=20, ignore_eos=True), []
    first = engine.submit([1, 2], params, on_delta=lambda delta: [engine.cancel(r) for r in requests])
    requests += [engine.submit(list(range(n)), params) for n in (3, PAGE, 2 * PAGE + 1)]
    drain(engine)
    assert (first.finish_reason, len(first.output_ids)) == ("length", 20)
    assert {(r.finish_reason, len(r.output_ids)) for r in requests} == {("cancelled", 0)}
    assert engine.pool.free == engine.pool.size


def test_a_callback_that_fails_does_not_count_a_prompt_twice(model, tokenizer):
    engine = Engine(model, tokenizer)
    engine.scheduler.budget = 60

    def failing(delta):
        raise RuntimeError("of the caller")

    engine.submit([1], SamplingParams(max_tokens=1, ignore_eos=True), on_delta=failing)
    echo = engine.submit(list(range(100)), SamplingParams(max_tokens=1, echo=True, ignore_eos=True))
    with pytest.raises(RuntimeError, match="of the caller"):
        engine.step()
    drain(engine)
    assert [t.id for t in echo.prompt_logprobs] == list(range(100))


# --- speculation


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_change_nothing_and_save_steps(small, tokenizer, temperature):
    """The draft is the model itself: every guess of a greedy request is right."""
    params = SamplingParams(max_tokens=40, temperature=temperature, seed=5, ignore_eos=True)
    prompts = [[5, 6, 7], [9] * 30, [1]]
    plain = [o.output_ids for o in Engine(small, tokenizer).generate(prompts, params)]
    for draft in (ModelDraft(small), Lookup()):
        engine = Engine(small, tokenizer, draft=draft)
        assert [o.output_ids for o in engine.generate(prompts, params)] == plain
        stats = engine.stats()
        assert stats.accepted_tokens <= stats.guessed_tokens
        if temperature == 0 and isinstance(draft, ModelDraft):
            assert stats.accepted_tokens == stats.guessed_tokens > 60


def test_guesses_leave_prompts_their_share(small, tokenizer):
    engine = Engine(small, tokenizer, slots=64, draft=ModelDraft(small, cost=0.01))
    engine.scheduler.budget = 64
    writers = [engine.submit([i, 7], SamplingParams(max_tokens=60, ignore_eos=True)) for i in range(20)]
    for _ in range(5):
        engine.step()
    late = engine.submit(list(range(30)), SamplingParams(max_tokens=1, ignore_eos=True))
    for _ in range(3):
        engine.step()
    assert late.finish_reason == "length"
    assert not any(writer.finish_reason for writer in writers)


def test_a_draft_with_room_for_few(small, tokenizer):
    """More requests than the draft has pages for: the others go on without guesses."""
    prompts, params = [[i, 5, 6] for i in range(6)], SamplingParams(max_tokens=20, ignore_eos=True)
    draft = ModelDraft(small, requests=1, cost=0.01)
    draft.pool = PagePool(3)
    engine = Engine(small, tokenizer, draft=draft)
    outputs = [o.output_ids for o in engine.generate(prompts, params)]
    assert outputs == [greedy(small, prompt, 20) for prompt in prompts]
    assert draft.pool.free == 3
    assert engine.stats().accepted_tokens > 0


def test_guesses_stop_where_the_answer_does(small, tokenizer):
    """A stop token among accepted guesses ends the answer, and what comes behind it is not told."""
    ids = greedy(small, [5, 6, 7], 30)
    stop = ids[4]
    engine = Engine(small, tokenizer, draft=ModelDraft(small))
    original = type(tokenizer).stop_ids
    try:
        type(tokenizer).stop_ids = property(lambda self: frozenset({stop}))
        (output,) = engine.generate([[5, 6, 7]], SamplingParams(max_tokens=30, logprobs=0))
    finally:
        type(tokenizer).stop_ids = original
    assert output.output_ids == ids[: ids.index(stop) + 1]
    assert (output.finish_reason, len(output.logprobs)) == ("stop", len(output.output_ids))


# --- what shapes the answer


def test_constraint_penalties_and_bias_reach_the_engine(small, tokenizer):
    engine = Engine(small, tokenizer)
    (number,) = engine.generate(["x"], SamplingParams(max_tokens=20, constraint=Constraint.regex("[0-9]{4}-[0-9]{2}")))
    assert (len(number.text), number.text[4], number.finish_reason) == (7, "-", "stop")
    (biased,) = engine.generate([[1]], SamplingParams(max_tokens=5, logit_bias={77: 100.0}, ignore_eos=True))
    assert biased.output_ids == [77] * 5
    (varied,) = engine.generate(
        [[1]], SamplingParams(max_tokens=5, logit_bias={77: 3.0}, repetition_penalty=100.0, ignore_eos=True)
    )
    assert len(set(varied.output_ids)) == 5
    with pytest.raises(UserError, match="300 is outside"):
        engine.submit([1], SamplingParams(logit_bias={300: 1.0}))


def test_streaming_callback(small, tokenizer):
    engine, seen = Engine(small, tokenizer), []
    request = engine.submit([1, 2], SamplingParams(max_tokens=5, ignore_eos=True), on_delta=seen.append)
    drain(engine)
    assert [t for delta in seen for t in delta.tokens] == request.output_ids
    assert "".join(delta.text for delta in seen) == request.text
    assert [delta.finish_reason for delta in seen] == [None] * 4 + ["length"]


def test_constraint_with_guesses(small, tokenizer):
    """Several tokens at once under a constraint: none is lost."""
    params = SamplingParams(max_tokens=60, constraint=Constraint.regex("(ab){12}"))
    (plain,) = Engine(small, tokenizer).generate(["abababab"], params)
    engine = Engine(small, tokenizer, draft=Lookup())
    (guessed,) = engine.generate(["abababab"], params)
    assert plain.text == guessed.text == "ab" * 12
    assert engine.stats().accepted_tokens > 0


def test_an_error_ends_its_request_alone(small, tokenizer):
    engine = Engine(small, tokenizer)
    everything = SamplingParams(max_tokens=3, ignore_eos=True)
    good, bad = engine.submit([1, 2], everything), engine.submit([1, 2], everything)

    def choose(logits_V):
        raise UserError("no token can follow")

    bad.sampler.choose = choose
    bad.sampler.params = dataclasses.replace(everything, temperature=1.0)
    drain(engine)
    assert (bad.finish_reason, str(bad.error)) == ("error", "no token can follow")
    assert good.output_ids == greedy(small, [1, 2], 3)
    assert engine.pool.free == engine.pool.size


# --- sizes


def test_memory_decides_how_much_fits(small, tokenizer):
    page = PagedCache.page_bytes(small.config, torch.float32)
    assert page == PAGE * 2 * (8 + 8) * 2 * 4
    engine = Engine(small, tokenizer, memory=3 * page + 1)
    assert (engine.stats().pages_total, engine.positions) == (3, 3 * PAGE)
    with pytest.raises(UserError, match="at most 48"):
        engine.submit([1] * 49, SamplingParams())
    (full,) = engine.generate([[1] * 40], SamplingParams(max_tokens=100, ignore_eos=True))
    assert (len(full.output_ids), full.finish_reason) == (8, "length")
    with pytest.raises(UserError, match="needs"):
        Engine(small, tokenizer, memory=page - 1)


@pytest.mark.parametrize(
    "settings",
    [{"slots": 0}, {"positions": -5}, {"positions": 1.5}, {"memory": -1}, {"threads": -1}, {"threads": 10**6}],
)
def test_sizes_that_make_no_sense(small, tokenizer, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Engine(small, tokenizer, **settings)


def test_encoders_do_not_generate(tokenizer):
    encoder = Transformer(dataclasses.replace(SHAPES["llama"], causal=False))
    with pytest.raises(UserError, match="does not generate"):
        Engine(encoder, tokenizer)


# --- pages


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_page_pool(data):
    """Against a model that knows the content of every page: no page has two writers, what is found is what was asked."""
    pool = PagePool(data.draw(st.integers(2, 12)))
    content: dict[int, tuple] = {}
    held: list[tuple[list[int], list[int]]] = []  # tokens, pages
    for _ in range(data.draw(st.integers(1, 40))):
        if held and data.draw(st.booleans()):
            _, pages = held.pop(data.draw(st.integers(0, len(held) - 1)))
            for page in reversed(pages):
                pool.release(page)
        else:
            ids = [data.draw(st.integers(0, 1)) for _ in range(data.draw(st.integers(1, 3)))]
            ids = [i for i in ids for _ in range(PAGE)]
            pages = pool.find(ids)
            for i, page in enumerate(pages):
                assert content[page] == tuple(ids[: (i + 1) * PAGE])
            assert len(pages) * PAGE < len(ids)
            if len(ids) // PAGE - len(pages) > pool.free:
                for page in pages:
                    pool.release(page)
                continue
            for i in range(len(pages), len(ids) // PAGE):
                pages.append(pool.take())
                assert pool.alone(pages[-1])
                content[pages[-1]] = tuple(ids[: (i + 1) * PAGE])
            pool.remember(ids, pages, len(ids))
            held.append((ids, pages))
        used = {page for _, pages in held for page in pages}
        assert pool.free == pool.size - len(used)
        for page in used:
            assert pool.alone(page) == (sum(page in pages for _, pages in held) == 1)


def test_beginnings_are_found_by_a_secret_key():
    first, second = PagePool(4), PagePool(4)
    assert first._digest(b"", (1, 2)) != second._digest(b"", (1, 2))


def test_what_is_found_is_compared(monkeypatch):
    """Two beginnings with one hash: the second is not given the first one's pages."""
    monkeypatch.setattr(PagePool, "_digest", lambda self, before, tokens: b"same")
    pool = PagePool(4)
    pool.remember([1] * PAGE, [pool.take()], PAGE)
    assert pool.find([2] * PAGE + [0]) == []
    assert len(pool.find([1] * PAGE + [0])) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_number_formats_without_kernels(tokenizer, dtype):
    """What the kernels do not compute goes through gathered keys and values: the way of a GPU."""
    model = lively(SHAPES["window, sinks, caps"]).to(dtype)
    engine = Engine(model, tokenizer, slots=4)
    engine.scheduler.budget = 30
    prompts = [list(range(n, 2 * n)) for n in (1, 20, 50, 5)]
    outputs = engine.generate(prompts, SamplingParams(max_tokens=8, ignore_eos=True, logprobs=0))
    for output, prompt in zip(outputs, prompts):
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([output.ids]))[0].float().log_softmax(-1)
        if dtype == torch.float64:
            assert output.output_ids == greedy(model, prompt, 8)
        for t, entry in enumerate(output.logprobs, len(prompt) - 1):
            tolerance = 1e-5 if dtype == torch.float64 else 0.3
            assert entry.logprob == pytest.approx(float(logprobs_TV[t, entry.id]), abs=tolerance)
