"""Answers that must have a form: tools that must be called, JSON, and what else bends the choice of tokens."""

import json
from typing import Literal

import httpx
import pydantic
import pytest

import cairn
from cairn.core.errors import UserError
from cairn.inference.constrain import Constraint
from cairn.retrieval.tools import CALCULATOR_SCHEMA, TOOLS
from cairn.serving.calls import call_constraint
from cairn.serving.parts import Function
from live import HELLO, SUM, events, running
from taught import GREETING, taught


class Stone(pydantic.BaseModel):
    kind: Literal["granite", "slate"]
    flat: bool


class Cairn(pydantic.BaseModel):
    top: Stone
    base: Stone
    size: Literal[1, 2, 3]


def tool(name, parameters, strict=False):
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "bright": {"type": "boolean"}},
    "required": ["colour", "bright"],
    "additionalProperties": False,
}
PAINT, SUM_STRICT = tool("paint", COLOUR), tool("calculator", COLOUR, strict=True)


# --- tools


def check_colour(arguments):
    value = json.loads(arguments)
    assert set(value) == {"colour", "bright"}
    assert value["colour"] in ("red", "blue")
    assert isinstance(value["bright"], bool)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
@pytest.mark.parametrize("temperature", [0, 3])
def test_a_tool_that_must_be_called_is_called_with_valid_arguments(client, choice, temperature):
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[PAINT], tool_choice=choice, temperature=temperature, n=3, seed=1
    )
    for one in answer.choices:
        assert (one.finish_reason, one.message.content) == ("tool_calls", None)
        (call,) = one.message.tool_calls
        assert call.function.name == "paint"
        check_colour(call.function.arguments)


def test_one_of_several_tools_and_never_another(client):
    names = set()
    for seed in range(12):
        answer = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            tools=[
                PAINT,
                tool("pick", {"type": "object", "properties": {}, "additionalProperties": False}),
                SUM_STRICT,
            ],
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=5,
            seed=seed,
        )
        (call,) = answer.choices[0].message.tool_calls
        names.add(call.function.name)
        assert (
            call.function.arguments == "{}"
            if call.function.name == "pick"
            else check_colour(call.function.arguments) is None
        )
    assert names <= {"paint", "pick", "calculator"}
    assert len(names) > 1


def test_a_required_call_streams_without_a_word(http):
    body = {"messages": HELLO, "tools": [PAINT], "tool_choice": "required", "temperature": 0, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        choices = [event["choices"][0] for event in events(response)]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == ""
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert [call["function"]["name"] for call in calls] == ["paint"]
    check_colour(calls[0]["function"]["arguments"])
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_strict_tool_lets_the_model_talk_and_then_keeps_to_the_schema(http):
    """The model learned to call the calculator with an expression; the schema here wants a colour."""
    body = {"messages": SUM, "tools": [CALCULATOR_SCHEMA], "temperature": 0, "logprobs": True, "stop": ["##"]}
    free = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert "expression" in free["message"]["tool_calls"][0]["function"]["arguments"]
    answer = http.post("/v1/chat/completions", json=body | {"tools": [SUM_STRICT]}).json()
    strict = answer["choices"][0]
    assert strict["message"]["content"] == "Let me see."
    assert strict["finish_reason"] == "tool_calls"
    check_colour(strict["message"]["tool_calls"][0]["function"]["arguments"])
    spelled = b"".join(bytes(token["bytes"]) for token in strict["logprobs"]["content"]).decode()
    assert spelled == "Let me see."
    assert answer["usage"]["completion_tokens"] > len(strict["logprobs"]["content"])
    with http.stream("POST", "/v1/chat/completions", json=body | {"tools": [SUM_STRICT], "stream": True}) as response:
        parts = [event["choices"][0] for event in events(response)]
    assert "".join(part["delta"].get("content", "") for part in parts) == "Let me see."
    assert [part["finish_reason"] for part in parts if part["finish_reason"]] == ["tool_calls"]
    told = http.post("/v1/chat/completions", json={"messages": HELLO, "tools": [SUM_STRICT], "temperature": 0}).json()
    assert told["choices"][0]["message"] == {"role": "assistant", "content": GREETING}  # it need not call
    for limit in range(1, 9):  # cut before the call, at its first token, and within it
        limited = body | {"tools": [SUM_STRICT], "max_tokens": limit}
        cut = http.post("/v1/chat/completions", json=limited).json()["choices"][0]
        assert (cut["finish_reason"], "tool_calls" in cut["message"]) == ("length", False)
        assert "Let me see.".startswith(cut["message"]["content"])


def test_references_within_a_tools_schema_lead_where_they_led():
    node = {"type": "object", "properties": {"next": {"$ref": "#"}, "at": {"$ref": "#/$defs/point"}}}
    node |= {"$defs": {"point": {"enum": ["a"]}}, "required": ["at"], "additionalProperties": False}
    named = {"type": "object", "properties": {"default": {"$ref": "#/$defs/x"}, "$ref": {"enum": ["#"]}}}
    named |= {"$defs": {"x": {"const": {"$ref": "#"}}}}
    constraint = call_constraint([Function(name="walk", parameters=node), Function(name="named", parameters=named)])
    schemas = json.loads(constraint.text)["$defs"]
    assert schemas["0"]["properties"] == {"next": {"$ref": "#/$defs/0"}, "at": {"$ref": "#/$defs/0/$defs/point"}}
    assert schemas["1"]["properties"] == {"default": {"$ref": "#/$defs/1/$defs/x"}, "$ref": {"enum": ["#"]}}
    assert schemas["1"]["$defs"]["x"] == {"const": {"$ref": "#"}}
    engine = cairn.Engine(*taught())
    walk = call_constraint([Function(name="walk", parameters=node)])
    params = cairn.SamplingParams(max_tokens=80, temperature=2, seed=3, constraint=walk)
    (output,) = engine.generate(["Hello"], params)
    value = json.loads(output.text)
    assert value["name"] == "walk"
    assert value["arguments"]["at"] == "a"
    with pytest.raises(UserError, match="object"):
        call_constraint([Function(name="f", parameters={"type": "string"})])


def test_the_root_of_a_tools_schema_may_have_an_id():
    schema = {"$id": "https://example.org/s", "$defs": {"c": {"enum": ["a"]}}, "additionalProperties": False}
    schema |= {"properties": {"c": {"$ref": "#/$defs/c"}, "$id": {"type": "boolean"}}, "required": ["c", "$id"]}
    constraint = call_constraint([Function(name="f", parameters=schema)])
    (output,) = cairn.Engine(*taught()).generate(["Hello"], cairn.SamplingParams(max_tokens=80, constraint=constraint))
    arguments = json.loads(output.text)["arguments"]
    assert arguments["c"] == "a"
    assert arguments["$id"] in (True, False)  # a property of that name is no keyword
    with pytest.raises(UserError, match="\\$id"):
        call_constraint([Function(name="f", parameters={"properties": {"a": {"$id": "b", "type": "string"}}})])


def scripted(text):
    """An engine whose model says `text` wherever it may choose freely; a call in it begins with the call token."""
    model, tokenizer = taught()
    talk, found, call = text.partition("<|call|>")
    script = [*tokenizer.encode(talk), *([tokenizer.special["<|call|>"]] if found else []), *tokenizer.encode(call)]
    script.append(tokenizer.special["<|end|>"])
    engine = cairn.Engine(model, tokenizer)
    choose = engine._choose

    def say(part, logits_KV, likeliest):
        request = part.request
        if request.params.constraint is not None:
            return choose(part, logits_KV, likeliest)
        said = len(request.ids) - len(tokenizer.encode_chat(HELLO, add_generation_prompt=True))
        return [script[said]]

    engine._choose = say
    return engine


def ask(text, **body):
    with running(engine=scripted(text)) as base:
        whole = httpx.post(f"{base}/v1/chat/completions", json={"messages": HELLO, **body}, timeout=20)
        assert whole.status_code == 200, whole.text
        with httpx.stream(
            "POST", f"{base}/v1/chat/completions", json={"messages": HELLO, "stream": True, **body}, timeout=20
        ) as response:
            parts = [event["choices"][0] for event in events(response)]
    choice = whole.json()["choices"][0]
    streamed = [call for part in parts for call in part["delta"].get("tool_calls", [])]
    assert "".join(part["delta"].get("content", "") for part in parts) == (choice["message"]["content"] or "")
    calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
    assert [call["function"] for call in streamed] == calls
    assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]
    return choice["message"]["content"], calls, choice["finish_reason"]


def test_only_what_was_offered_is_called():
    said = 'Well <|call|>{"name": "calculator", "arguments": {"expression": "1+1"}}'
    assert ask(said, tools=[tool("weather", {"type": "object"})]) == ("Well ", [], "stop")
    assert ask(said, tools=[tool("weather", {"type": "object"}), CALCULATOR_SCHEMA])[2] == "tool_calls"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "[-1e999]"])
def test_arguments_that_are_no_json_are_no_call(value):
    said = f'Well <|call|>{{"name": "paint", "arguments": {{"a": {value}}}}}'
    assert ask(said, tools=[PAINT]) == ("Well ", [], "stop")


def test_stop_strings_are_for_what_is_shown():
    said = 'Well, well. <|call|>{"name": "paint", "arguments": {"a": "1+1"}}'
    arguments = [{"name": "paint", "arguments": '{"a": "1+1"}'}]
    assert ask(said, tools=[PAINT], stop=["1+1", "}", "name"]) == ("Well, well. ", arguments, "tool_calls")
    assert ask(said, tools=[PAINT], stop=["1+1"], min_tokens=4)[1:] == (arguments, "tool_calls")
    assert ask(said, tools=[PAINT], stop=[", w"]) == ("Well", [], "stop")
    for limit in (6, 20):  # before and within the call
        assert ask(said, tools=[PAINT], stop=["1+1"], max_tokens=limit)[1:] == ([], "length")


def test_the_servers_own_calls_are_not_stopped_either():
    with running(tools=TOOLS) as base:
        body = {"messages": SUM, "temperature": 0, "stop": ["12*7", "}"]}
        answer = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=20).json()["choices"][0]
        assert answer["message"]["content"] == "Let me see.It is 84."
        stopped = httpx.post(f"{base}/v1/chat/completions", json=body | {"stop": "is 8"}, timeout=20).json()["choices"][
            0
        ]
        assert (stopped["message"]["content"], stopped["finish_reason"]) == ("Let me see.It ", "stop")


# --- JSON


def test_response_format_of_a_pydantic_model(client):
    for seed in range(3):
        answer = client.chat.completions.parse(
            model="tiny", messages=HELLO, response_format=Cairn, temperature=4, seed=seed
        )
        assert isinstance(answer.choices[0].message.parsed, Cairn)
        assert answer.choices[0].finish_reason == "stop"


def test_json_object_streams_json_or_is_cut(http):
    body = {"messages": HELLO, "response_format": {"type": "json_object"}, "temperature": 1, "seed": 5, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        parts = [event["choices"][0] for event in events(response)]
    text = "".join(part["delta"].get("content", "") for part in parts)
    assert text.lstrip().startswith("{")
    if parts[-1]["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


HOSTILE_SCHEMAS = {
    "deep": {"type": "object", "properties": {"a": "DEEP"}},
    "no such reference": {"$ref": "#/$defs/nothing"},
    "reference to a file": {"$ref": "file:///etc/passwd"},
    "impossible": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "no type": {"type": "frob"},
    "large": {"enum": [str(i) * 20 for i in range(9000)]},
    "pattern": {"type": "string", "pattern": "(" * 200},
}


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
def test_schemas_that_cannot_be_kept_are_refused_and_do_no_harm(http, name):
    schema = HOSTILE_SCHEMAS[name]
    if name == "deep":
        for _ in range(200):
            schema = {"type": "object", "properties": {"a": schema}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": HELLO, "max_tokens": 5, "response_format": wanted}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    assert "\n" not in response.json()["error"]["message"]
    needed = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    forced = {"tools": [tool("f", needed)], "tool_choice": "required"}
    assert http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 5} | forced).status_code == 400
    health = http.get("/health").json()
    assert (health["status"], health["pending"]) == ("ok", 0)


# --- penalties, bias, reuse


def test_bias_and_penalties_reach_the_engine(client, http):
    _, tokenizer = taught()
    wanted = tokenizer.encode("So")[0]
    biased = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=4, logit_bias={str(wanted): 100}
    )
    assert biased.choices[0].message.content == tokenizer.decode([wanted] * 4)
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"repetition_penalty": 10}):
        body = {"prompt": "So", "max_tokens": 12, "temperature": 0, "ignore_eos": True, "logit_bias": {str(wanted): 8}}
        plain, penalised = (
            http.post("/v1/completions", json=body | extra).json()["choices"][0]["text"] for extra in ({}, penalty)
        )
        assert plain != penalised
    body = {"messages": HELLO, "temperature": 0, "min_tokens": 30, "max_tokens": 30}
    assert http.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"] == 30


def test_best_of_and_too_many_answers_are_refused(http):
    for extra, word in (({"best_of": 3}, "best_of"), ({"n": 16, "prompt": ["a"] * 17}, "n x prompt")):
        error = http.post("/v1/completions", json={"prompt": "a", "max_tokens": 1} | extra)
        assert error.status_code == 400
        assert word in error.json()["error"]["message"]
    assert http.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, "n": 2, "best_of": 2}).status_code == 200


def test_tokens_of_a_known_beginning_are_counted_as_cached():
    with running() as base:
        body = {"prompt": list(range(100, 180)), "max_tokens": 1, "temperature": 0, "n": 2}
        first, second = (httpx.post(f"{base}/v1/completions", json=body).json() for _ in range(2))
    assert first["choices"] == second["choices"]
    assert second["usage"]["prompt_tokens"] == 80
    assert 0 < second["usage"]["prompt_tokens_details"]["cached_tokens"] < 80


def test_a_constraint_and_its_request_stay_apart(client):
    """One request's grammar does not touch its neighbours in the batch."""
    plain = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0)
    assert plain.choices[0].message.content == GREETING
    assert Constraint.json_object() == Constraint.json_object()
