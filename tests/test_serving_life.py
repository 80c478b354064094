"""The server's life under load: figures, limits, slow requests, other sites, and its end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import cairn
from cairn.core.errors import UserError
from cairn.serving import ServerConfig, StoppedError, create_app, open_socket, serve, server
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
        wanted = "authorization, content-type, x-stainless-lang"  # as OpenAI's client in a page sends
        asking = {"access-control-request-method": "POST", "access-control-request-headers": wanted}
        friend = httpx.options(f"{base}/v1/completions", headers=asking | {"origin": "https://friend.example"})
        assert friend.status_code == 200
        assert friend.headers["access-control-allow-origin"] == "https://friend.example"
        stranger = httpx.options(f"{base}/v1/completions", headers=asking | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
        refused = httpx.get(f"{base}/v1/models", headers={"origin": "https://friend.example"})
        assert refused.status_code == 401  # being a friend is no key
        assert refused.headers["access-control-allow-origin"] == "https://friend.example"
        assert refused.headers["access-control-expose-headers"] == "Retry-After"
        assert friend.headers["access-control-allow-headers"] == wanted
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


@contextlib.asynccontextmanager
async def asked(engine, **settings):
    """The application without a socket: what is sent at once arrives at once."""
    app = create_app(engine, "tiny", **settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30) as http,
    ):
        yield app.state.worker, http


@pytest.mark.parametrize(
    ("size", "let_in"),
    [({}, 4), ({"n": 2}, 2), ({"prompt": ["a", "b"]}, 2), ({"n": 9}, 1)],  # more than may wait: when nothing else does
)
def test_what_arrives_during_one_step_is_counted_too(size, let_in):
    engine, free = cairn.Engine(*taught(), slots=1), threading.Event()
    step = engine.step
    engine.step = lambda: (free.wait(20), step())[1]

    async def ask():
        async with asked(engine, config=ServerConfig(waiting=4)) as (worker, http):
            body = {"prompt": "a", "max_tokens": 2} | size
            sent = [asyncio.ensure_future(http.post("/v1/completions", json=body)) for _ in range(12)]
            for _ in range(400):
                if sum(task.done() for task in sent) >= 12 - let_in:
                    break
                await asyncio.sleep(0.005)
            free.set()
            answers = await asyncio.gather(*sent)
            return Counter(answer.status_code for answer in answers), worker.waiting, worker.pending

    assert asyncio.run(ask()) == ({200: let_in, 429: 12 - let_in}, 0, 0)


def test_a_refused_prompt_does_not_wait_for_ever():
    async def ask():
        async with asked(cairn.Engine(*taught(), slots=1), config=ServerConfig(waiting=1)) as (worker, http):
            bias = {"logit_bias": {"100000": 1}}  # found by the engine
            codes = [(await http.post("/v1/completions", json={"prompt": "a"} | bias)).status_code for _ in range(3)]
            return codes, worker.waiting, worker.pending

    assert asyncio.run(ask()) == ([400] * 3, 0, 0)


def test_an_embedding_request_that_was_let_in_runs_to_its_end():
    """Between two of its batches the queue fills, and then the server is told to end."""

    async def ask():
        config = ServerConfig(waiting=2, grace=20)
        async with asked(cairn.Engine(*taught(), slots=1), config=config) as (worker, http):
            call, calls, pending = worker.call, 0, []

            async def counting(function):
                nonlocal calls
                rows = await call(function)
                calls += 1
                pending.append(worker.pending)
                if calls == 1:
                    worker.waiting += 5
                if calls == 2:
                    assert (await http.post("/v1/embeddings", json={"input": "a"})).status_code == 429
                    worker.drain()
                return rows

            worker.call = counting
            texts = ["a" * n for n in (1, 40, 120)]
            answer = await http.post("/v1/embeddings", json={"input": texts})
            assert (await http.post("/v1/embeddings", json={"input": "a"})).status_code == 503
            worker.waiting -= 5
            return answer.status_code, calls, pending, worker.pending, worker.waiting

    status, calls, pending, *left = asyncio.run(ask())
    assert (status, calls, left) == (200, 3, [0, 0])
    assert pending == [1] * 3  # the worker does not end while there is more to come


def test_a_server_whose_engine_ended_ends_too(caplog):
    engine = cairn.Engine(*taught())

    def broken():
        raise MemoryError("no room for figures")

    caplog.set_level(logging.WARNING, "asyncio")  # and put back after the test
    app = create_app(engine, "tiny")
    opened = open_socket("127.0.0.1", 0)
    address, outcome = server.url(opened), []
    runner = threading.Thread(target=lambda: outcome.append(serve(app, opened, 5)))
    with caplog.at_level(logging.ERROR):
        runner.start()
        wait_until(lambda: httpx.get(f"{address}/health").status_code == 200)
        engine.stats = broken
        answer = httpx.post(f"{address}/v1/completions", json={"prompt": "a"}, timeout=20)
        runner.join(20)
    assert answer.status_code == 503
    assert outcome == [False]
    assert "no room for figures" in caplog.text
    # asyncio warns of each piece that is sent to a client who has left.
    assert not logging.getLogger("asyncio").isEnabledFor(logging.WARNING)


def test_nobody_waits_for_a_thread_that_has_ended():
    async def ask():
        async with asked(cairn.Engine(*taught())) as (worker, _):
            job = worker.job(1)
            await worker.stop(0)
            for late in (worker.call(list), job.add([(0, [1], cairn.SamplingParams())])):
                with pytest.raises(StoppedError):
                    await asyncio.wait_for(late, 5)
            return worker.pending, worker.waiting

    assert asyncio.run(ask()) == (0, 0)


def start(directory, *options, **environment):
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
    process, base = start(model_directory, "--name", "pebble", "--api-key-file", str(keys), "--grace", "20")
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
