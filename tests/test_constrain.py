"""Constrained decoding: whatever a model's logits are, what comes out matches; hostile schemas are refused in time."""

import functools
import json
import re

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.inference import constrain
from cairn.inference.constrain import Constraint, Grammars
from cairn.inference.sampling import Sampler, SamplingParams
from cairn.tokenizers import StreamDecoder, Tokenizer, train_tokenizer
from cairn.tokenizers.levels import train_characters
from cairn.tokenizers.sentencepiece_training import SentencePieceBPEConfig, train_sentencepiece_bpe
from cairn.tokenizers.unigram_training import train_unigram

TEXT = [
    '{"name": "Zoë", "age": 42, "tags": ["a b", "c"], "ok": true, "rate": -1.5e3, "none": null}\n',
    "yes no 東京 maybe\n",
]
CONTROL = {"<unk>": 0, "<s>": 1, "</s>": 2}
KINDS = ("bytes", "characters", "sentencepiece", "unigram", "no stop token")


@functools.cache
def vocabulary(kind):
    names = {"eos": "</s>"}
    if kind == "bytes":
        return train_tokenizer(TEXT * 5, 320)
    if kind == "characters":
        model = train_characters([*TEXT, "".join(map(chr, range(32, 127))), "\té"])
        return Tokenizer(model, {"</s>": len(model.vocab), **model.special}, names=names)
    if kind == "sentencepiece":
        config = SentencePieceBPEConfig(coverage=1.0)
        return Tokenizer(train_sentencepiece_bpe(TEXT * 5, 340, config=config), CONTROL, names=names)
    if kind == "unigram":
        return Tokenizer(train_unigram(TEXT * 5, 310), CONTROL, names=names)
    return Tokenizer(train_tokenizer(TEXT, 300, special=()).model, {})


@functools.cache
def grammars(kind):
    return Grammars(vocabulary(kind), vocabulary(kind).stop_ids)


ENDS = ('"', "}", "]", '"}', "e", "l", ".", "@", "com")


def answer(kind, constraint, seed, max_tokens=500, temperature=1.0, wish=None):
    """What the engine would say with random logits; None when max_tokens cut it off. Later tokens tend to close brackets,
    for a random text would seldom end. `wish`: text whose characters are likelier."""
    tokenizer = vocabulary(kind)
    params = SamplingParams(temperature=temperature, constraint=constraint, max_tokens=max_tokens)
    matcher = grammars(kind).matcher(constraint)
    state = Sampler(params, [0], tokenizer.stop_ids, np.random.default_rng(seed), matcher)
    size = tokenizer.vocab_size + 5  # a model's vocabulary may be padded
    closing = torch.zeros(size)
    closing[[i for i in range(size) if tokenizer.token_bytes(i).strip().decode("utf-8", "replace") in ENDS]] = 1
    closing[sorted(tokenizer.stop_ids)] = 1
    wished = torch.tensor(
        [float(bool(wish) and tokenizer.token_bytes(i).decode("utf-8", "replace") in wish) for i in range(size)]
    )
    generator = torch.Generator().manual_seed(seed)
    decoder, text = StreamDecoder(tokenizer, skip_special=False), ""
    for step in range(max_tokens):
        if state.finished:
            return text + decoder.finish()
        logits = torch.randn(size, generator=generator) * 4 + closing * max(0, step - 30) / 2 + wished * 20
        token = state.choose(logits)
        assert token < tokenizer.vocab_size
        state.accept(token)
        if token in tokenizer.stop_ids:
            return text + decoder.finish()
        assert token not in tokenizer.special_ids
        text += decoder.push(token)
    return None


# --- regular expressions

PATTERNS = [
    r"yes|no|maybe",
    r"[a-z]{3,8}@[a-z]+\.(com|org)",
    r"(\d{1,3}\.){3}\d{1,3}",
    r" ?[A-Z][a-z]*( [a-z]+){0,4}\.",
    r"(?i)abc{1,9}",
    r"^\[(0|[1-9][0-9]*)(, (0|[1-9][0-9]*))*\]$",
    r"[^a-z/]{2,5}/\"x\"\n?",
    r"[äöü東京🙂]{1,4}",
    r"",
    r"a|",
    r"(a/b\\c){1,2}",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_answers_match_the_pattern(kind, pattern):
    if kind == "characters" and "🙂" in pattern:
        pattern = r"[東京]{1,4}"
    whole = 0
    for seed in range(8):
        text = answer(kind, Constraint.regex(pattern), seed)
        if text is not None:
            assert re.fullmatch(pattern, text), text
            whole += 1
    assert whole >= 6


def test_greedy_follows_the_pattern_too():
    assert answer("bytes", Constraint.regex("yes|no"), 3, temperature=0.0) in {"yes", "no"}


def test_special_tokens_are_never_inside():
    """A pattern may ask for their text; it is then written in ordinary tokens."""
    tokenizer = vocabulary("bytes")
    assert answer("bytes", Constraint.regex(r"<\|end\|>x"), 0) == "<|end|>x"
    mask = grammars("bytes").matcher(Constraint.regex(r"(?s).*")).mask()
    allowed = {i for i in tokenizer.special_ids if mask[i]}
    assert allowed == tokenizer.stop_ids


def test_stop_tokens_come_only_where_the_pattern_is_fulfilled():
    tokenizer = vocabulary("bytes")
    matcher = grammars("bytes").matcher(Constraint.regex("ab?"))
    stop, a, b = min(tokenizer.stop_ids), *(tokenizer.encode(c)[0] for c in "ab")
    assert np.flatnonzero(matcher.mask()).tolist() == [a]
    assert not matcher.finished
    matcher.accept(a)
    assert set(np.flatnonzero(matcher.mask())) == {b, *tokenizer.stop_ids}
    assert not matcher.finished
    matcher.accept(b)
    assert matcher.finished
    assert set(np.flatnonzero(matcher.mask())) == tokenizer.stop_ids
    matcher.accept(stop)
    matcher.accept(stop)
    assert matcher.finished


def test_a_token_that_is_not_allowed_is_an_error():
    matcher = grammars("bytes").matcher(Constraint.regex("a"))
    with pytest.raises(UserError, match="token"):
        matcher.accept(vocabulary("bytes").encode("b")[0])


def test_min_tokens_does_not_hold_back_a_fulfilled_constraint():
    tokenizer = vocabulary("bytes")
    matcher = grammars("bytes").matcher(Constraint.regex("a"))
    params = SamplingParams(min_tokens=5, max_tokens=9, constraint=Constraint.regex("a"))
    state = Sampler(params, [], tokenizer.stop_ids, np.random.default_rng(0), matcher)
    state.accept(state.choose(torch.zeros(tokenizer.vocab_size)))
    assert state.finished
    assert state.choose(torch.zeros(tokenizer.vocab_size)) in tokenizer.stop_ids


def test_what_the_vocabulary_cannot_write_is_refused():
    with pytest.raises(UserError, match="vocabulary"):
        grammars("characters").matcher(Constraint.regex("🙂"))


def test_a_request_does_not_change_the_next_one():
    grammar = Grammars(vocabulary("bytes"), vocabulary("bytes").stop_ids)
    constraint = Constraint.json_schema({"type": "integer"})
    first = grammar.matcher(constraint)
    before = first.mask().copy()
    first.accept(int(np.flatnonzero(before)[-1]))
    assert np.array_equal(grammar.matcher(constraint).mask(), before)
    for i in range(constrain.CACHED_GRAMMARS + 3):
        grammar.matcher(Constraint.regex(f"a{{{i + 1}}}"))
    assert len(grammar._compiled) == constrain.CACHED_GRAMMARS


# --- JSON

NAMES = st.sampled_from(["name", "age", "é", "a b", 'q"', "ok"])
SMALL = st.integers(0, 4)


@st.composite
def strings(draw):
    choice = draw(st.integers(0, 3))
    if choice == 0:
        low = draw(SMALL)
        return {"type": "string", "minLength": low, "maxLength": low + draw(SMALL)}
    if choice == 1:
        return {"type": "string", "pattern": draw(st.sampled_from([r"^[a-c]+$", r"\d{2}", r"^(x|yz){1,3}$", r"é$"]))}
    if choice == 2:
        return {"type": "string", "format": draw(st.sampled_from(["date", "ipv4", "uuid", "email"]))}
    return {"type": "string"}


@st.composite
def numbers(draw):
    kind, low = draw(st.sampled_from(["integer", "number"])), draw(st.integers(-200, 200))
    schema = {"type": kind}
    if draw(st.booleans()):
        schema |= {"minimum": low, "maximum": low + draw(st.integers(1, 300))}
    elif draw(st.booleans()):
        schema |= {"exclusiveMinimum": low}
    elif kind == "integer":
        schema |= {"multipleOf": draw(st.integers(1, 20))}
    return schema


@st.composite
def objects(draw, children):
    properties = draw(st.dictionaries(NAMES, children, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    more = draw(st.one_of(st.booleans(), children))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


@st.composite
def arrays(draw, children):
    low = draw(SMALL)
    schema = {"type": "array", "items": draw(children), "minItems": low, "maxItems": low + draw(SMALL)}
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(children, max_size=2))
    return schema


def combined(children):
    return st.one_of(
        objects(children),
        arrays(children),
        st.builds(lambda some: {"anyOf": some}, st.lists(children, min_size=1, max_size=3)),
        st.just({"$ref": "#/$defs/tree"}),
    )


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "é\n", "", '"']))
LEAVES = st.one_of(
    strings(),
    numbers(),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"]}]),
    st.builds(lambda v: {"enum": v}, st.lists(VALUES, min_size=1, max_size=4)),
    st.builds(lambda v: {"const": v}, VALUES),
)
TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["value"],
    "additionalProperties": False,
}
SCHEMAS = st.recursive(LEAVES, combined, max_leaves=6).map(lambda schema: {**schema, "$defs": {"tree": TREE}})


def check(schema, text):
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(
        value
    )
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_random_schemas_are_always_obeyed(kind):
    whole = total = 0

    @given(SCHEMAS, st.integers(0, 2**31))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def obey(schema, seed):
        nonlocal whole, total
        text = answer(kind, Constraint.json_schema(schema), seed)
        total += 1
        if text is not None:
            check(schema, text)
            whole += 1

    obey()
    assert whole > 0.8 * total, (whole, total)  # cut off by max_tokens is the only excuse


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_text_may_be_written_as_the_tokenizer_writes_it(kind):
    """A model was taught that way of cutting a text; a mask that forces another one makes it worse."""
    tokenizer = vocabulary(kind)
    matcher = grammars(kind).matcher(
        Constraint.json_schema({"type": "object", "properties": {"name": {"type": "string"}}})
    )
    for token in tokenizer.encode(TEXT[0].strip()):
        assert matcher.mask()[token], tokenizer.token_bytes(token)
        matcher.accept(token)
    assert matcher.finished


def test_any_object():
    values = [answer("bytes", Constraint.json_object(), seed) for seed in range(20)]
    assert sum(isinstance(json.loads(v), dict) for v in values if v is not None) >= 15


def test_white_space_comes_to_an_end():
    """A model that likes nothing but white space must not fill the answer with it."""
    text = answer("bytes", Constraint.json_schema({"type": "array", "items": False}), 0, wish=" \n\t")
    assert text is not None
    assert json.loads(text) == []
    assert len(text) <= 2 + 32


# --- refusals


def deep(levels):
    schema = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def endless():
    schema = {"type": "object"}
    schema["properties"] = {"again": schema}
    return schema


BAD_SCHEMAS = {
    "not a schema": [1],
    "too deep": deep(40),
    "deeper than the stack": deep(100_000),
    "contains itself": endless(),
    "too large": {"enum": ["x" * 1000] * 100},
    "too many": {"enum": list(range(100_000))},
    "not a number": {"const": float("nan")},
    "not JSON": {"const": {1, 2}},
    "digits": {"const": 10**5000},
    "options": {"x-guidance": {"lenient": True}},
    "remote reference": {"$ref": "http://localhost:1/schema.json"},
    "missing reference": {"$ref": "#/$defs/nothing"},
    "refers to itself": {"$ref": "#"},
    "not supported": {"type": "array", "uniqueItems": True},
    "not supported inside": {"properties": {"a": {"x-guidance": {"lenient": True}, "not": {}}}},
    "unknown type": {"type": "text"},
    "unknown format": {"type": "string", "format": "regex"},
    "unsatisfiable": {"type": "integer", "minimum": 5, "maximum": 1},
    "half a character": {"const": "\ud800"},
    "bad pattern": {"type": "string", "pattern": "("},
    "wide": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}},
    # Without the checks of `_check_work` these run for minutes or eat gigabytes.
    "joined patterns": {
        "allOf": [{"type": "string", "pattern": f"[^{chr(97 + i)}]*{chr(98 + i)}.*"} for i in range(25)]
    },
    "remainders": {"type": "integer", "multipleOf": 9_999_991},
    "joined remainders": {"allOf": [{"type": "integer", "multipleOf": p} for p in (997, 991, 983)]},
    "choices of choices": {
        "allOf": [{"anyOf": [{"properties": {f"a{i}": {}}}, {"properties": {f"b{i}": {}}}]} for i in range(25)]
    },
}
BAD_PATTERNS = ["(", "[", "a)|(b", r"(.*)\1", "(?=a)b", r"\bfoo", "a^b", "\\", "a\\\n", "\ud800", "x" * 5000]
BAD_PATTERNS += ["(a{1000}){1000}", "((a{100}){100}){100}"]


@pytest.mark.timeout(20)  # a hang fails; each takes less than half a second
@pytest.mark.parametrize("name", BAD_SCHEMAS)
def test_bad_schemas_are_refused_at_once(name):
    with pytest.raises(UserError, match=r"schema|multipleOf") as caught:
        grammars("bytes").matcher(Constraint.json_schema(BAD_SCHEMAS[name]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.timeout(20)  # a hang fails; each takes less than half a second
@pytest.mark.parametrize("pattern", BAD_PATTERNS)
def test_bad_patterns_are_refused_at_once(pattern):
    with pytest.raises(UserError, match="regular expression"):
        grammars("bytes").matcher(Constraint.regex(pattern))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": {}, "minItems": 10**6},
        {"type": "string", "pattern": "^[a-z]*a[a-z]{30}b$"},
        {"type": "string", "pattern": "(x+x+)+y"},
        {"enum": [f"v{i}" for i in range(5000)]},
    ],
)
def test_heavy_schemas_go_on_token_by_token(schema):
    text = answer("bytes", Constraint.json_schema(schema), 1, max_tokens=200)
    if text is not None:
        check(schema, text)


def test_unknown_bytes_in_a_message_do_not_reach_the_pattern():
    with pytest.raises(UserError, match="text"):
        Constraint.regex(b"a")  # type: ignore[arg-type]
