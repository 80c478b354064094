"""The server as its clients see it: the `openai` client and plain HTTP against a live uvicorn on a free port."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch

import cairn
from cairn.core.errors import UserError
from cairn.retrieval.tools import CALCULATOR_SCHEMA, TOOLS
from cairn.serving import CallFilter, ServerConfig
from cairn.serving.server import check_host, names_of, open_socket, read_keys
from cairn.serving.turns import fit
from live import HELLO, LONG, SUM, events, running, wait_until
from taught import CONVERSATIONS, GREETING, taught

BREAK = [{"role": "user", "content": "Break"}]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


# --- chat


def test_chat_answers_and_counts(client):
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0)
    _, tokenizer = taught()
    assert answer.choices[0].message.content == GREETING
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == len(tokenizer.encode_chat(HELLO, add_generation_prompt=True))
    assert answer.usage.completion_tokens == len(tokenizer.encode(GREETING)) + 1  # and the end of the turn


def test_chat_stream_is_the_same_text_in_whole_characters(client):
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, n=2, stream=True, stream_options={"include_usage": True}
    )
    texts, reasons, usage = ["", ""], [None, None], None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert "\ufffd" not in (choice.delta.content or "")
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [GREETING, GREETING]
    assert reasons == ["stop", "stop"]
    assert usage is not None
    assert usage.completion_tokens == 2 * (len(taught()[1].encode(GREETING)) + 1)


def test_chat_limits_stops_and_joins_parts(client):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": parts}], temperature=0, stop="東", max_completion_tokens=100
    )
    assert answer.choices[0].message.content == GREETING.split("東")[0]
    assert answer.choices[0].finish_reason == "stop"
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 2


def test_chat_without_a_limit_takes_what_fits(http):
    body = {"messages": HELLO, "ignore_eos": True, "temperature": 0}
    usage = http.post("/v1/chat/completions", json=body).json()["usage"]
    assert usage["total_tokens"] == 160  # the model's positions


def test_chat_logprobs_spell_the_content(client):
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(t.bytes) for t in content).decode() == GREETING
    assert all(len(t.top_logprobs) == 3 and t.top_logprobs[0].logprob == t.logprob <= 0 for t in content)


def test_sampling_is_repeatable_and_choices_differ(client):
    def ask():
        return client.completions.create(model="tiny", prompt="What", max_tokens=12, temperature=3, seed=-5, n=3)

    texts = [choice.text for choice in ask().choices]
    assert texts == [choice.text for choice in ask().choices]
    assert len(set(texts)) == 3


def test_typed_special_tokens_stay_text(http):
    _, tokenizer = taught()
    typed = [{"role": "user", "content": "<|end|><|system|>"}]
    body = http.post("/v1/chat/completions", json={"messages": typed, "max_tokens": 1}).json()
    ids = tokenizer.encode_chat(typed, add_generation_prompt=True)
    assert sum(i in tokenizer.special_ids for i in ids) == 3  # user, end, assistant
    assert body["usage"]["prompt_tokens"] == len(ids)


# --- tools


def test_tool_call_and_its_answer(client):
    messages = list(SUM)
    first = client.chat.completions.create(model="tiny", messages=messages, tools=[CALCULATOR_SCHEMA], temperature=0)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "calculator")
    result = TOOLS[call.function.name](**json.loads(call.function.arguments))
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    second = client.chat.completions.create(model="tiny", messages=messages, tools=[CALCULATOR_SCHEMA], temperature=0)
    assert second.choices[0].message.content == "It is 84."
    assert second.choices[0].finish_reason == "stop"


def test_streamed_tool_call_does_not_leak(client):
    stream = client.chat.completions.create(
        model="tiny", messages=SUM, tools=[CALCULATOR_SCHEMA], temperature=0, stream=True
    )
    text, calls, reason = "", [], None
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        calls += chunk.choices[0].delta.tool_calls or []
        reason = chunk.choices[0].finish_reason or reason
    assert (text, reason) == ("Let me see.", "tool_calls")
    assert [json.loads(c.function.arguments) for c in calls] == [{"expression": "12*7"}]


@pytest.mark.parametrize(
    ("messages", "extra", "content", "reason"),
    [
        (BREAK, {}, "So", "stop"),  # the call is no JSON
        (SUM, {"max_tokens": 16}, "Let me see.", "length"),  # it is cut off
        (SUM, {"tool_choice": "none"}, "Let me see.", "stop"),
    ],
)
def test_half_a_call_is_never_shown(http, messages, extra, content, reason):
    body = {"messages": messages, "tools": [CALCULATOR_SCHEMA], "temperature": 0, **extra}
    choice = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": content}
    assert choice["finish_reason"] == reason
    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
        parts = [e["choices"][0] for e in events(response)]
    assert "".join(p["delta"].get("content", "") for p in parts) == content


def test_the_servers_own_tools_run_when_the_request_brings_none(http):
    raw = http.post("/v1/chat/completions", json={"messages": SUM, "temperature": 0}).json()
    assert "<|call|>" in raw["choices"][0]["message"]["content"]  # a server without tools hides nothing
    with running(tools=TOOLS) as base:
        body = {"messages": SUM, "temperature": 0}
        answer = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=20).json()
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Let me see.It is 84."}
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] > raw["usage"]["completion_tokens"]
        theirs = httpx.post(
            f"{base}/v1/chat/completions", json=body | {"tools": [CALCULATOR_SCHEMA]}, timeout=20
        ).json()
        assert theirs["choices"][0]["finish_reason"] == "tool_calls"


def test_filter_holds_back_what_may_become_a_call():
    shown = CallFilter()
    assert [shown.push(c) for c in "a<|cal"] == ["a", "", "", "", "", ""]
    assert shown.push("x") == "<|calx"
    assert shown.push("b<") == "b"
    assert shown.finish() == ("<", None)


# --- completions


def test_completions_in_four_forms(http):
    model, tokenizer = taught()
    ids = tokenizer.encode("Hello")
    with_bos = [tokenizer.bos_id, *ids]
    alone = cairn.Engine(model, tokenizer).generate([with_bos, ids], cairn.SamplingParams(max_tokens=16))
    for prompt, expected in (
        ("Hello", [alone[0]]),
        (["Hello", "Hello"], [alone[0], alone[0]]),
        (ids, [alone[1]]),
        ([with_bos, ids], [alone[0], alone[1]]),
    ):
        body = http.post("/v1/completions", json={"prompt": prompt, "temperature": 0}).json()
        assert [c["text"] for c in body["choices"]] == [r.text for r in expected]
        assert [c["index"] for c in body["choices"]] == list(range(len(expected)))
        assert body["usage"]["completion_tokens"] == sum(len(r.output_ids) for r in expected)


def test_logprobs_in_the_shape_of_lm_eval(http):
    """The request that lm-eval's local-completions sends, and what its parse_logprobs reads."""
    model, tokenizer = taught()
    prompt = [tokenizer.bos_id, *tokenizer.encode("It is 84. Hello")]
    body = {"model": "tiny", "prompt": [prompt, prompt[:3]], "max_tokens": 1, "temperature": 0, "logprobs": 1}
    answer = http.post("/v1/completions", json=body | {"seed": 1234, "echo": True}).json()
    for choice, ids in zip(answer["choices"], (prompt, prompt[:3])):
        found = choice["logprobs"]
        assert {len(found[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")} == {len(ids) + 1}
        assert found["token_logprobs"][0] is None
        with torch.inference_mode():
            wanted_TV = model(torch.tensor([ids])).log_softmax(-1)[0]
        for t, target in enumerate(ids[1:]):
            assert found["token_logprobs"][t + 1] == pytest.approx(float(wanted_TV[t, target]), abs=1e-4)
            # Greedy is decided by equality of floats, so both must come from the same one.
            greedy = found["token_logprobs"][t + 1] == max(found["top_logprobs"][t + 1].values())
            assert greedy == (int(wanted_TV[t].argmax()) == target)
        assert found["token_logprobs"][-1] == max(found["top_logprobs"][-1].values())
        for token, offset in list(zip(found["tokens"], found["text_offset"]))[:-1]:
            assert choice["text"][offset : offset + len(token)] == token


def test_echo_of_text_scores_the_text_without_the_servers_own_token(http):
    body = {"prompt": "It is 84.", "max_tokens": 0, "echo": True, "logprobs": 0, "temperature": 0}
    whole = http.post("/v1/completions", json=body).json()["choices"][0]
    assert whole["text"] == "".join(whole["logprobs"]["tokens"]) == "It is 84."
    assert None not in whole["logprobs"]["token_logprobs"]
    more = {"stream": True, "max_tokens": 3, "ignore_eos": True}
    with http.stream("POST", "/v1/completions", json=body | more) as response:
        parts = [e["choices"][0] for e in events(response)]
    offsets = [o for p in parts for o in p["logprobs"]["text_offset"]]
    assert "".join(p["text"] for p in parts).startswith("It is 84.")
    assert offsets == sorted(offsets)
    assert len(offsets) == len(whole["logprobs"]["tokens"]) + 3


def test_pieces_of_characters_have_names_of_their_own(http):
    _, tokenizer = taught()
    raw = tokenizer.encode("龘")  # not in the training text: three single bytes
    assert len(raw) == 3
    body = {"prompt": raw, "max_tokens": 0, "echo": True, "logprobs": 0}
    tokens = http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]["tokens"]
    assert tokens == ["bytes:\\xe9", "bytes:\\xbe", "bytes:\\x98"]


def test_concurrent_requests_equal_sequential_ones(http):
    prompts = ["Hello", "What is 12*7?", "It", "Grüße", "Let me see.", "So", "84", "東京", "naïve", "friends"]

    def ask(prompt):
        return http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 24, "temperature": 0}).json()[
            "choices"
        ]

    one_by_one = [ask(p) for p in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(ask, prompts)) == one_by_one


# --- about the model


def test_models_health_and_tokenizer(client, http):
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    assert http.get("/health").json()["status"] == "ok"
    info = http.get("/tokenizer_info").json()
    _, tokenizer = taught()
    assert (info["eos_token"], info["chat_template"]) == (tokenizer.eos, tokenizer.chat_template)
    plain = http.post("/tokenize", json={"prompt": GREETING, "add_special_tokens": False}).json()
    assert plain["tokens"] == tokenizer.encode(GREETING)
    assert http.post("/tokenize", json={"prompt": "a"}).json()["tokens"] == [tokenizer.bos_id, *tokenizer.encode("a")]
    eos = http.post("/tokenize", json={"prompt": info["eos_token"], "add_special_tokens": False}).json()
    assert eos["tokens"] == [tokenizer.eos_id]  # how lm-eval finds it
    assert http.post("/detokenize", json={"tokens": plain["tokens"]}).json() == {"prompt": GREETING}


def test_page_is_served_and_needs_nothing_from_elsewhere(http):
    page = http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "v1/chat/completions" in page.text
    assert "innerHTML =" not in page.text
    assert not [w for w in ('src="', "@import", "https://") if w in page.text]


# --- errors


def test_errors_are_the_clients_classes(client):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "long " * 200}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body={"guided": 1})
    assert (refused.value.param, refused.value.code) == ("guided", "unsupported_parameter")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
            "response_format.json_schema.schema",
        ),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": "1"}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"400": 1}}, "logit_bias"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"frob": 1}, "frob"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"temperature": True}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [CALCULATOR_SCHEMA] * 2}, "tools"),
        ({"tools": [CALCULATOR_SCHEMA], "response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": "}", "response_format": {"type": "json_object"}}, "response_format"),
        ({"min_p": 2}, "min_p"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": None, "max_completion_tokens": -1}, "max_completion_tokens"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": HELLO * 1000}, "messages"),  # as many as may be, and too long for this model,
        ({"max_tokens": -1}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(http, changes, param):
    response = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1, **changes})
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["code"] in ("invalid_value", "unsupported_parameter", "missing_parameter", "context_length_exceeded")
    assert param in error["message"] or error["code"] == "context_length_exceeded"
    assert "\n" not in error["message"]


def test_null_and_harmless_and_neutral_parameters_are_accepted(http):
    names = ("temperature", "top_p", "n", "stop", "seed", "stream", "stream_options", "tools", "max_tokens", "logprobs")
    extra = {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True}
    neutral = {"frequency_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"}, "functions": None}
    body = {"messages": HELLO, "max_completion_tokens": 1, **dict.fromkeys(names), **extra, **neutral}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text


def test_other_mistakes_have_openais_form_too(http):
    json_type = {"content-type": "application/json"}
    for response, status in (
        (http.get("/v1/nowhere"), 404),
        (http.get("/v1/completions"), 405),
        (http.post("/v1/completions", content=b"{", headers=json_type), 400),
        (http.post("/v1/completions", content=b"[" * 100_000, headers=json_type), 400),
        (http.post("/v1/completions", content=b"[1]", headers=json_type), 400),
        (http.post("/v1/completions", content=b'{"prompt": "\xff"}', headers=json_type), 400),
        (http.post("/v1/completions", content=b'{"prompt": "x", "frob": "\\ud800"}', headers=json_type), 400),
        (http.post("/v1/completions", content=b'{"model": "\\ud800", "prompt": "x"}', headers=json_type), 404),
        (http.post("/v1/completions", content=b'{"prompt": "x", "temperature": NaN}', headers=json_type), 400),
        (http.post("/v1/completions", content=b'{"prompt": "x"}', headers={"content-type": "text/plain"}), 415),
        (http.post("/v1/completions", json={"prompt": ["x"] * 65}), 400),
        (http.post("/v1/completions", json={"prompt": [True]}), 400),
        (http.post("/v1/completions", json={"prompt": []}), 400),
        (http.post("/v1/completions", json={"prompt": [-1]}), 400),
        (http.post("/v1/completions", json={"prompt": [10**9]}), 400),
        (http.post("/detokenize", json={"tokens": [-1]}), 400),
        (http.post("/detokenize", json={"tokens": [400]}), 400),
        (http.post("/detokenize", json={"tokens": [10**30]}), 400),
        (http.post("/v1/completions", json={}), 400),
        (http.post("/v1/completions", content=b" " * ((4 << 20) + 1), headers=json_type), 413),
    ):
        assert response.status_code == status, response.text
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    echoed = http.post(
        "/v1/completions", content=b'{"prompt": "\\ud800", "echo": true, "max_tokens": 0}', headers=json_type
    )
    assert echoed.json()["choices"][0]["text"] == "\ud800"
    assert http.get("/health").json() | {"pending": 0, "running": 0} == http.get("/health").json()


def test_errors_beyond_the_bodys_form_name_their_parameter(http):
    for path, body, param in (
        ("/v1/completions", {"prompt": [400]}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt"),
        ("/v1/completions", {"prompt": "a", "temperature": 101}, "temperature"),
        ("/v1/completions", {"prompt": "a", "logprobs": 21}, "logprobs"),
        ("/v1/completions", {"prompt": ["a"] * 17, "n": 16}, "n"),
        ("/v1/chat/completions", {"messages": HELLO * 1001}, "messages"),
        ("/tokenize", {"messages": HELLO * 1001}, "messages"),
        ("/v1/embeddings", {"input": [[400]]}, "input"),
        ("/v1/embeddings", {"input": "long " * 200}, "input"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ):
        error = http.post(path, json=body).json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_value"), body
    stop = http.post("/v1/completions", json={"prompt": "a", "stop": 5}).json()["error"]
    assert stop["message"] == "stop: must be a string or a list of strings"


def test_a_body_that_cannot_be_read_says_why(http):
    json_type = {"content-type": "application/json"}
    for content, reason in (
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b'{"prompt": "a", "seed": ' + b"1" * 5000 + b"}", "too many digits"),
    ):
        error = http.post("/v1/completions", content=content, headers=json_type).json()["error"]
        assert error["code"] == "invalid_json"
        assert reason in error["message"]
    untyped = http.post("/v1/completions", content=b"{}")
    assert untyped.status_code == 415
    assert untyped.json()["error"]["message"].endswith("application/json, which is missing")


def test_errors_do_not_say_everything_again(http):
    for body in ({"prompt": "a", "x" * 300_000: 1}, {"prompt": "a", "model": "x" * 300_000}):
        response = http.post("/v1/completions", json=body)
        assert response.status_code in (400, 404)
        assert len(response.content) < 500
    kind = [{"role": "user", "content": [{"type": "x" * 300_000}]}]
    assert len(http.post("/v1/chat/completions", json={"messages": kind}).content) < 2000


def test_foreign_host_names_are_refused(http):
    assert http.get("/health", headers={"host": "evil.example"}).status_code == 403
    assert http.get("/health", headers={"host": "evil.example:80"}).json()["error"]["code"] == "host_not_allowed"
    assert http.get("/health", headers={"host": "localhost:1"}).status_code == 200
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = http.options("/v1/completions", headers=preflight)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_key_is_asked_for_everywhere_but_on_the_page():
    with running(keys=["first", "s3cret"]) as base, httpx.Client(base_url=base) as http:
        for path in ("/v1/models", "/tokenizer_info", "/metrics", "/openapi.json", "/nowhere"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
                refused = http.get(path, headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert http.post("/v1/completions", json={"prompt": "x"}).status_code == 401
        assert http.get("/v1/models", headers={"authorization": "Bearer s3cret"}).status_code == 200
        assert http.get("/v1/models", headers={"authorization": "bearer s3cret", "host": "any"}).status_code == 200
        assert http.get("/").status_code == http.get("/health").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{base}/v1", api_key="x", max_retries=0).models.list()


# --- load, leaving, failing, stopping


def test_full_queue_is_told_to_come_back():
    with (
        running(slots=1, slow=0.01, config=ServerConfig(waiting=1, grace=5)) as base,
        httpx.Client(base_url=base, timeout=20) as http,
    ):
        with http.stream("POST", "/v1/completions", json=LONG | {"n": 2, "stream": True}) as first:
            lines = first.iter_lines()  # held: an iterator that is dropped closes the connection
            next(lines)
            refused = httpx.post(f"{base}/v1/completions", json=LONG)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
        wait_until(lambda: http.get("/health").json()["pending"] == 0)
        assert http.post("/v1/completions", json=LONG | {"max_tokens": 1}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(stream):
    engine = cairn.Engine(*taught(), slots=2)
    with running(engine=engine, slow=0.02) as base:
        body = LONG | {"n": 3, "stream": stream}  # two run, one waits
        leaving = httpx.Client(base_url=base, timeout=0.4)
        if stream:
            with leaving.stream("POST", "/v1/completions", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post("/v1/completions", json=body)
        leaving.close()
        wait_until(lambda: not engine.has_work())
        state = httpx.get(f"{base}/health").json()
        assert (state["running"], state["pending"]) == (0, 0)
        answer = httpx.post(
            f"{base}/v1/chat/completions", json={"messages": HELLO, "temperature": 0}, timeout=20
        ).json()
        assert answer["choices"][0]["message"]["content"] == GREETING


def test_a_failing_step_is_an_error_and_not_the_end():
    engine = cairn.Engine(*taught())
    step, failures = engine.step, iter([True])

    def failing():
        if next(failures, False):
            raise RuntimeError("out of memory")
        return step()

    engine.step = failing
    with running(engine=engine) as base:
        failed = httpx.post(f"{base}/v1/chat/completions", json={"messages": HELLO})
        assert failed.status_code == 500
        assert failed.json()["error"]["type"] == "server_error"
        assert "memory" not in failed.text
        counted = 'cairn_requests_total{route="/v1/chat/completions",status="500"} 1.0'
        assert counted in httpx.get(f"{base}/metrics").text
        answer = httpx.post(
            f"{base}/v1/chat/completions", json={"messages": HELLO, "temperature": 0}, timeout=20
        ).json()
        assert answer["choices"][0]["message"]["content"] == GREETING


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_cannot_go_on_is_told_why_and_its_neighbours_go_on(stream):
    engine = cairn.Engine(*taught())
    choose = engine._choose

    def failing(part, *rest):
        if part.request.params.seed == 7 and len(part.request.output_ids) == 3:
            raise UserError("no token can follow")
        return choose(part, *rest)

    engine._choose = failing
    with running(engine=engine) as base, ThreadPoolExecutor(4) as pool:
        body = {"messages": HELLO, "temperature": 0, "stream": stream}

        def ask(seed):
            return httpx.post(f"{base}/v1/chat/completions", json=body | {"seed": seed}, timeout=20)

        told, *fine = pool.map(ask, (7, 1, 2, 3))
        assert "no token can follow" in told.text
        assert told.status_code == (200 if stream else 400)
        assert all('"finish_reason":"stop"' in answer.text and "error" not in answer.text for answer in fine)
        wait_until(lambda: httpx.get(f"{base}/health").json()["pending"] == 0)


def test_stopping_lets_a_stream_finish():
    lines: list[str] = []

    def read(base, started):
        with httpx.stream("POST", f"{base}/v1/completions", json=LONG | {"stream": True, "max_tokens": 40}) as response:
            for line in response.iter_lines():
                lines.append(line)
                started.set()

    started = threading.Event()
    with running(slow=0.01) as base:
        reader = threading.Thread(target=read, args=(base, started))
        reader.start()
        assert started.wait(10)
    reader.join(10)
    assert "data: [DONE]" in lines
    assert json.loads(lines[-4].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


# --- listening


def test_other_machines_need_a_key_or_a_word():
    check_host("127.0.0.1", [], False)
    check_host("0.0.0.0", ["key"], False)
    check_host("0.0.0.0", [], True)
    for host in ("0.0.0.0", "example.org"):
        with pytest.raises(UserError, match="--no-key"):
            check_host(host, [], False)
    assert names_of("0.0.0.0") is None
    assert "[::1]" in (names_of("localhost") or ())


def test_keys_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("CAIRN_API_KEY", raising=False)
    assert read_keys(None) == []
    monkeypatch.setenv("CAIRN_API_KEY", " one two ")
    assert read_keys(None) == ["one", "two"]
    file = tmp_path / "keys"
    file.write_text("# for the team\nthree\n\n  four  \n")
    assert read_keys(file) == ["three", "four"]
    for content, reason in (
        (b"# none\n", "no key"),
        ("k\u00e9y".encode(), "printable"),
        (b"a b", "key 1"),
        (b"\xff", "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            read_keys(file)
    with pytest.raises(UserError, match="No such file"):
        read_keys(tmp_path / "nothing")


def test_a_port_in_use_is_one_line():
    with open_socket("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}.*choose another --port"):
            open_socket("127.0.0.1", port)
    for bad in (("127.0.0.1", 70000), ("no such host", 0)):
        with pytest.raises(UserError):
            open_socket(*bad)


def test_oldest_turns_make_room():
    engine = cairn.Engine(*taught())
    system = {"role": "system", "content": "Be kind."}
    messages = [system, *CONVERSATIONS[1], *CONVERSATIONS[0], *HELLO]
    free = engine.positions - len(engine.chat_prompt(messages))
    assert fit(engine, list(messages), free) == 0
    assert fit(engine, messages, free + 1) == 1
    assert messages == [system, *CONVERSATIONS[0], *HELLO]
    with pytest.raises(UserError, match="shorter"):
        fit(engine, [{"role": "user", "content": "long " * 200}], 10)
