"""The engine: the same tokens alone or together, stops that do not leak, whole characters, honest sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.inference import Engine, SamplingParams, converse, parse_tool_call
from cairn.inference.request import find_stop, partial_stop
from cairn.models import Transformer, preset
from cairn.tokenizers import StreamDecoder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Transformer(preset("pebble"))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.3 + (1.0 if p.ndim == 1 else 0.0))
    return model.eval()


def greedy(model, ids, count):
    """The definition: the whole text again for every token."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


@given(st.lists(st.lists(st.integers(0, 399), min_size=1, max_size=25), min_size=1, max_size=7), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_greedy_is_the_same_alone_and_in_any_batch(model, tokenizer, prompts, slots):
    engine = Engine(model, tokenizer, slots=slots)
    params = [SamplingParams(max_tokens=3 + i, ignore_eos=True) for i in range(len(prompts))]
    for request, prompt, p in zip(engine.generate(prompts, params), prompts, params):
        assert request.output_ids == greedy(model, prompt, p.max_tokens)
        assert request.finish_reason == "length"
    assert not engine.has_work()


def test_requests_join_and_leave_while_others_run(model, tokenizer):
    engine = Engine(model, tokenizer, slots=3)
    first = engine.submit([5, 6, 7], SamplingParams(max_tokens=12, ignore_eos=True))
    gone = engine.submit([9, 9], SamplingParams(max_tokens=50, ignore_eos=True))
    for _ in range(4):
        engine.step()
    engine.cancel(gone)
    late = engine.submit([11, 12, 13, 14], SamplingParams(max_tokens=6, ignore_eos=True))
    while engine.has_work():
        engine.step()
    assert gone.finish_reason == "cancelled"
    assert first.output_ids == greedy(model, [5, 6, 7], 12)
    assert late.output_ids == greedy(model, [11, 12, 13, 14], 6)


def test_seeded_request_does_not_depend_on_its_neighbours(model, tokenizer):
    params = SamplingParams(max_tokens=10, temperature=1.0, seed=3, ignore_eos=True)
    alone = Engine(model, tokenizer).generate([[1, 2, 3]], params)[0].output_ids
    others = SamplingParams(max_tokens=10, temperature=1.0, ignore_eos=True)
    together = Engine(model, tokenizer).generate([[4, 5], [1, 2, 3], [6]], [others, params, others])[1].output_ids
    assert alone == together


def test_context_ends_the_answer(model, tokenizer):
    engine = Engine(model, tokenizer, positions=16)
    (output,) = engine.generate([[1] * 10], SamplingParams(max_tokens=100, ignore_eos=True))
    assert (len(output.output_ids), output.finish_reason) == (6, "length")
    (output,) = engine.generate([[1] * 16], SamplingParams(max_tokens=100, ignore_eos=True))
    assert len(output.output_ids) <= 1


@pytest.mark.parametrize(
    ("prompt", "message"), [([], "empty"), ([1] * 600, "at most 512"), ([512], "outside"), ([-1], "outside")]
)
def test_prompts_that_cannot_be_run(model, tokenizer, prompt, message):
    with pytest.raises(UserError, match=message):
        Engine(model, tokenizer).submit(prompt, SamplingParams())


def test_logprobs_of_prompt_and_output(model, tokenizer):
    params = SamplingParams(max_tokens=3, logprobs=2, echo=True, ignore_eos=True)
    (output,) = Engine(model, tokenizer).generate([[1, 2, 3, 4]], params)
    whole = torch.tensor([[1, 2, 3, 4, *output.output_ids]])
    with torch.no_grad():
        logprobs = model(whole)[0].log_softmax(-1)
    found = [*output.prompt_logprobs, *output.logprobs]
    assert [t.id for t in found] == whole[0].tolist()
    assert found[0].logprob is None
    for t, entry in enumerate(found[1:]):
        assert abs(entry.logprob - float(logprobs[t, entry.id])) < 1e-4
        assert list(entry.top) == logprobs[t].topk(2).indices.tolist()
    (scored,) = Engine(model, tokenizer).generate([[1, 2, 3]], SamplingParams(max_tokens=0, echo=True))
    assert (scored.output_ids, scored.finish_reason, len(scored.prompt_logprobs)) == ([], "length", 3)


# --- streaming


class Scripted(torch.nn.Module):
    """Says a fixed sequence of tokens whatever it is asked: for everything around the model."""

    def __init__(self, model, ids):
        super().__init__()
        self.config, self.embed, self.ids = model.config, model.embed, ids
        self.said = 0

    def hidden(self, ids_BT, step):
        return torch.zeros(*ids_BT.shape, self.config.dim)

    def unembed(self, hidden):
        logits = torch.zeros(*hidden.shape[:-1], self.config.vocab_size)
        logits[..., self.ids[min(self.said, len(self.ids) - 1)]] = 10.0
        self.said += 1
        return logits


def scripted(model, tokenizer, text):
    return Engine(Scripted(model, [*tokenizer.encode(text), tokenizer.eos_id]), tokenizer, threads=1)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_stream_gives_whole_characters_and_all_of_them(model, tokenizer, text):
    engine = scripted(model, tokenizer, text)
    pieces = [d.text for d in engine.stream([1], SamplingParams(max_tokens=200))]
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in p for p in pieces)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("three", " two"), "one"),
        ("a ## b", ("###",), "a ## b"),
        ("ab\nUser: hi", ("\nUser:",), "ab"),
        ("aaab", ("aab",), "a"),
    ],
)
def test_stop_strings_never_leak(model, tokenizer, text, stop, expected):
    engine = scripted(model, tokenizer, text)
    shown = ""
    for delta in engine.stream([1], SamplingParams(max_tokens=100, stop=stop)):
        shown += delta.text
        assert expected.startswith(shown)  # nothing beyond the answer at any moment
    assert shown == expected


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_search_against_the_plain_definition(text, stops):
    places = [i for i in range(len(text)) if any(text.startswith(s, i) for s in stops)]
    assert find_stop(text, stops) == ((places[0], True) if places else (len(text), False))
    held = [n for n in range(len(text) + 1) if any(len(s) > n and s.startswith(text[len(text) - n :]) for s in stops)]
    assert partial_stop(text, stops) == max(held, default=0)


def test_half_a_character_at_the_end_is_replaced(tokenizer):
    decoder = StreamDecoder(tokenizer)
    first = tokenizer.encode("🜨")[0]
    assert decoder.push(first) == ""
    assert decoder.finish() == "\ufffd"


# --- sampling


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"logprobs": 99},
        {"stop": ("",)},
        {"max_tokens": -1},
    ],
)
def test_wrong_parameters_are_refused(values):
    with pytest.raises(UserError):
        SamplingParams(**values)


# --- tools


def test_tool_is_run_and_the_answer_goes_on(model, tokenizer):
    call = '{"name": "calculator", "arguments": {"expression": "2*3"}}'
    ids = [
        tokenizer.special["<|call|>"],
        *tokenizer.encode(call),
        tokenizer.special["<|end|>"],
        *tokenizer.encode("six"),
    ]
    engine = Engine(Scripted(model, [*ids, tokenizer.special["<|end|>"]]), tokenizer, threads=1)
    asked = []
    tools = {"calculator": lambda expression: asked.append(expression) or "6"}
    (added,) = converse(engine, [[{"role": "user", "content": "?"}]], SamplingParams(), tools)
    assert asked == ["2*3"]
    assert [m["role"] for m in added] == ["assistant", "tool", "assistant"]
    assert (added[1]["content"], added[2]["content"]) == ("6", "six")
    assert added[0]["tool_calls"][0]["function"]["name"] == "calculator"


@pytest.mark.parametrize(
    "text",
    [
        "no call",
        "<|call|>",
        "<|call|>{",
        "<|call|>[1]",
        '<|call|>{"name": 3, "arguments": {}}',
        "<|call|>" + "[" * 9999,
    ],
)
def test_what_is_no_call_is_none(text):
    assert parse_tool_call(text) is None


def test_mistaken_call_is_told_to_the_model():
    from cairn.inference import ToolCall, run_tool

    assert "no tool" in run_tool(ToolCall("rm", {}), {})
    assert run_tool(ToolCall("f", {"wrong": 1}), {"f": lambda right: "x"}).startswith("error")
