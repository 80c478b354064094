"""The server against its own OpenAPI description: whatever schemathesis makes up, no answer is a 5xx."""

import contextlib
import json
import re
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

import cairn
from cairn.serving import create_app
from taught import taught

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
CALM = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
PHASES = (Phase.explicit, Phase.generate)
ROUTES = re.compile(r"^\| `(GET|POST) (\S+)` \|", re.MULTILINE)


def check(base, examples):
    """`examples` requests to every route, half of them with mistakes in them."""
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    count = 0
    with httpx.Client(base_url=base, timeout=60) as http:
        for operation in (result.ok() for result in schema.get_all_operations()):
            for mode in schemathesis.GenerationMode:

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(max_examples=examples, phases=PHASES, **CALM)
                def send(case):
                    nonlocal count
                    if "completions" in case.path and isinstance(case.body, dict):
                        case.body.setdefault("max_tokens", 3)  # else an answer is as long as the model is
                    response = case.call(session=None, timeout=60)
                    count += 1
                    assert response.status_code < 500, response.text
                    if response.status_code >= 400:
                        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

                with contextlib.suppress(Unsatisfiable):  # a route that takes nothing cannot be asked wrongly
                    send()
        assert http.get("/health").json() == {"status": "ok", "running": 0, "pending": 0}
    return count


def test_no_request_of_its_own_description_breaks_it(base):
    assert check(base, 8) > 80


@pytest.mark.slow
def test_nor_many_requests(base):
    assert check(base, 300) > 2000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = (
    "prompt",
    "messages",
    "input",
    "tokens",
    "n",
    "stop",
    "logprobs",
    "top_logprobs",
    "temperature",
    "seed",
    "echo",
    "tools",
)
NAMES += (
    "tool_choice",
    "response_format",
    "logit_bias",
    "stream_options",
    "top_k",
    "top_p",
    "min_p",
    "dimensions",
    "suffix",
)


@given(
    route=st.sampled_from(["completions", "chat/completions", "embeddings"]),
    body=st.dictionaries(st.sampled_from(NAMES), JSON),
)
@settings(max_examples=50, **CALM)
def test_nor_do_values_of_any_kind(base, route, body):
    content = json.dumps(
        {"prompt": "a", "input": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1} | body
    )
    wanted = {
        "completions": ("messages", "input"),
        "chat/completions": ("prompt", "input"),
        "embeddings": ("prompt", "messages"),
    }
    values = json.loads(content)
    for name in (*wanted[route], *(("max_tokens",) if route == "embeddings" else ())):
        if name not in body:
            values.pop(name, None)
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{base}/v1/{route}", content=json.dumps(values), headers=headers, timeout=60)
    assert response.status_code < 500, response.text


def test_the_documented_routes_are_the_routes():
    app = create_app(cairn.Engine(*taught(), slots=1), "tiny")
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods} | {
        ("GET", "/"),
        ("GET", "/openapi.json"),
    }
    documentation = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    assert set(ROUTES.findall(documentation)) == described
