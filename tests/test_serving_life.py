"""The server's life under load: figures, limits, slow requests, other sites, and its end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import cairn
from cairn.core.errors import UserError
from cairn.serving import ServerConfig
from live import HELLO, LONG, events, metrics, running, wait_until
from taught import taught


def figures(base):
    response = httpx.get(f"{base}/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert list(text_string_to_metric_families(response.text))
    return metrics(response.text)


def test_metrics_count_what_happened():
    with running() as base:
        before = figures(base)
        assert before["cairn_pages_free"] == before["cairn_pages_total"] > 0
        body = {"messages": HELLO, "temperature": 0}
        usage = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=20).json()["usage"]
        with httpx.stream("POST", f"{base}/v1/completions", json=LONG | {"stream": True, "max_tokens": 7}) as response:
            events(response)
        httpx.post(f"{base}/v1/completions", json={"prompt": 1})
        for path in ("/v1/models/tiny", "/nowhere/1", "/nowhere/2"):
            httpx.get(base + path)
        wait_until(lambda: figures(base)["cairn_running"] == 0)
        after = figures(base)
    assert after["cairn_generated_tokens_total"] == usage["completion_tokens"] + 7
    assert after["cairn_time_to_first_token_seconds_count"] == 2
    # The token that ends a turn comes in the last piece like any other.
    assert after["cairn_time_per_token_seconds_count"] == usage["completion_tokens"] + 7 - 2
    assert after['cairn_requests_total{route="/v1/chat/completions",status="200"}'] == 1
    assert after['cairn_requests_total{route="/v1/completions",status="200"}'] == 1
    assert after['cairn_requests_total{route="/v1/completions",status="400"}'] == 1
    assert after['cairn_requests_total{route="/v1/models/{name:path}",status="200"}'] == 1
    assert after['cairn_requests_total{route="none",status="404"}'] == 2
    assert after["cairn_pages_free"] == after["cairn_pages_total"]
    for name in ("waiting", "preemptions_total", "cached_tokens_total", "prompt_tokens_total"):
        assert f"cairn_{name}" in after


def test_tokenize_takes_conversations():
    _, tokenizer = taught()
    with running() as base:
        for extra, generation in (({}, True), ({"add_generation_prompt": False}, False)):
            found = httpx.post(f"{base}/tokenize", json={"messages": HELLO, **extra}).json()["tokens"]
            assert found == tokenizer.encode_chat(HELLO, add_generation_prompt=generation)
        for body in ({}, {"prompt": "a", "messages": HELLO}, {"messages": []}):
            assert httpx.post(f"{base}/tokenize", json=body).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_ended_and_freed(stream):
    engine = cairn.Engine(*taught(), slots=2)
    with running(engine=engine, slow=0.05, config=ServerConfig(timeout=0.5, grace=5)) as base:
        if stream:
            with httpx.stream("POST", f"{base}/v1/completions", json=LONG | {"stream": True}) as response:
                assert response.status_code == 200
                parts = events(response)
            assert parts[-1]["error"]["code"] == "timeout"
        else:
            response = httpx.post(f"{base}/v1/completions", json=LONG)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
        wait_until(lambda: not engine.has_work())
        assert httpx.get(f"{base}/health").json()["pending"] == 0


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("cairn.serving.guard.BODY_SECONDS", 0.3)
    with running() as base:
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert b" 408 " in slow.recv(1000).splitlines()[0] + b" "


def test_smaller_bodies_when_asked_for():
    with running(config=ServerConfig(body_mib=1, grace=5)) as base:
        large = {"prompt": "x" * (1 << 20), "max_tokens": 1}
        assert httpx.post(f"{base}/v1/completions", json=large).status_code == 413


def test_only_named_origins_are_told_that_they_may():
    config = ServerConfig(origins=("https://friend.example",), grace=5)
    with running(keys=["k"], config=config) as base:
        asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        friend = httpx.options(f"{base}/v1/completions", headers=asking | {"origin": "https://friend.example"})
        assert friend.status_code == 200
        assert friend.headers["access-control-allow-origin"] == "https://friend.example"
        stranger = httpx.options(f"{base}/v1/completions", headers=asking | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
        refused = httpx.get(f"{base}/v1/models", headers={"origin": "https://friend.example"})
        assert refused.status_code == 401  # being a friend is no key
        assert refused.headers["access-control-allow-origin"] == "https://friend.example"
    for wrong in ("*", "friend.example", "https://friend.example/page"):
        with pytest.raises(UserError, match="origin"):
            ServerConfig(origins=(wrong,))


def test_while_it_ends_new_requests_are_refused_and_running_ones_finish():
    server, parts = [], []
    with running(slow=0.02, server=server) as base, httpx.Client(base_url=base, timeout=20) as http:
        body = LONG | {"stream": True, "max_tokens": 60}
        begun = threading.Event()

        def read():
            with httpx.stream("POST", f"{base}/v1/completions", json=body, timeout=20) as response:
                for line in response.iter_lines():
                    parts.append(line)
                    begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(10)
        server[0].end()
        refused = http.post("/v1/completions", json=LONG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert int(refused.headers["retry-after"]) > 0
        assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 503
        assert http.get("/health").status_code == 503
        reader.join(20)
    assert "data: [DONE]" in parts
    assert not any('"error"' in part for part in parts)


def test_what_does_not_finish_in_time_is_told_so():
    server, body = [], LONG | {"stream": True}
    with (
        running(slow=0.05, server=server, config=ServerConfig(grace=0.3)) as base,
        httpx.stream("POST", f"{base}/v1/completions", json=body, timeout=20) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        server[0].end()
        rest = [line for line in lines if line]
    assert '"code":"stopping"' in rest[-2]
    assert rest[-1] == "data: [DONE]"


def serve(directory, *options, **environment):
    command = [
        sys.executable,
        "-m",
        "cairn.cli.main",
        "serve",
        str(directory),
        "--port",
        "0",
        "--threads",
        "1",
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.partition(" at ")[2].partition(" ")[0]


def test_the_command_serves_and_ends_by_sigterm(model_directory, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    process, base = serve(model_directory, "--name", "pebble", "--api-key-file", str(keys), "--grace", "20")
    try:
        headers = {"authorization": "Bearer two"}
        assert httpx.get(f"{base}/v1/models").status_code == 401
        assert httpx.get(f"{base}/v1/models", headers=headers).json()["data"][0]["id"] == "pebble"
        body = LONG | {"stream": True, "max_tokens": 200}
        with httpx.stream("POST", f"{base}/v1/completions", json=body, headers=headers, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
