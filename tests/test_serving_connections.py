"""Connections that ask for nothing: they are closed, and make room for those that do."""

import asyncio
import contextlib
import errno
import logging
import socket

import httpx
import pytest

from cairn.serving import connections
from live import LONG, running, wait_until

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.contextmanager
def connected(base, count=1):
    host, port = base.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(count)]


def read(connection, end):
    """What comes until `end`, or until the connection is closed."""
    answer = b""
    while not answer.endswith(end) and (part := connection.recv(1000)):
        answer += part
    return answer


def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running() as base, connected(base, 3) as (silent, half, later):
        half.sendall(HEAD)
        later.sendall(HEAD + b"\r\n")
        assert b"pending" in read(later, b"}")
        later.sendall(HEAD)  # begins another request on the same connection
        for one in (silent, half, later):
            assert one.recv(1000) == b""
        # Whoever has asked is waited for, however long the answer takes.
        body = b'{"prompt": "a", "max_tokens": 1}'
        with connected(base) as (asking,):
            asking.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            asking.settimeout(0.6)
            with pytest.raises(TimeoutError):
                asking.recv(1000)
            asking.settimeout(10)
            asking.sendall(body)
            assert asking.recv(1000).startswith(b"HTTP/1.1 200")


def test_idle_connections_make_room(monkeypatch):
    monkeypatch.setattr("cairn.serving.server.room", lambda _limit: (3, 8))
    with running(slow=0.02) as base, connected(base, 3) as first:
        with connected(base, 2):
            refused = [one.recv(1000) for one in first[:2]]
            assert all(b" 503 " in answer for answer in refused)  # the oldest
            first[2].sendall(HEAD + b"\r\n")
            assert first[2].recv(1000).startswith(b"HTTP/1.1 200")
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                answer = httpx.stream("POST", f"{base}/v1/completions", json=LONG | {"stream": True}, timeout=20)
                response = stack.enter_context(answer)
                assert response.status_code == 200
            with connected(base) as (late,):  # the others are all being answered
                assert b" 503 " in late.recv(1000)
        wait_until(lambda: httpx.get(f"{base}/health").status_code == 200)


def test_room_is_within_the_descriptors():
    for limit in (64, 128, 1024, 8192):
        most, at_once = connections.room(limit)
        assert most >= 1
        assert at_once >= 1
        assert most + at_once <= limit
    resource = pytest.importorskip("resource")
    found = connections.descriptors()
    assert found <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_descriptors_that_run_out_are_one_line(caplog):
    loop = asyncio.new_event_loop()
    try:
        connections.report_errors(loop)
        with caplog.at_level(logging.ERROR):
            for _ in range(1000):
                error = OSError(errno.EMFILE, "Too many open files")
                loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
            loop.call_exception_handler({"message": "another", "exception": ValueError("x")})
    finally:
        loop.close()
    assert ["ulimit -n" in record.message for record in caplog.records] == [True, False]
