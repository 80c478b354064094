"""A live server for the tests: the application under uvicorn on a free port of this machine."""

import contextlib
import json
import threading
import time

import cairn
from cairn.serving import ServerConfig, create_app
from cairn.serving.server import Server, open_socket, url
from taught import taught

HELLO = [{"role": "user", "content": "Hello"}]
SUM = [{"role": "user", "content": "What is 12*7?"}]
LONG = {"prompt": "Hello", "max_tokens": 150, "ignore_eos": True, "temperature": 0}


@contextlib.contextmanager
def running(*, slots=4, slow=0.0, engine=None, server=None, **settings):
    """A server's base URL. slow: seconds added to each step, so that a test can act in the middle of an answer.
    server: a list that the `Server` is appended to."""
    engine = engine or cairn.Engine(*taught(), slots=slots)
    if slow:
        step = engine.step
        engine.step = lambda: (time.sleep(slow), step())[1]
    grace = settings.get("config", ServerConfig(grace=5)).grace
    app = create_app(engine, "tiny", **settings)
    opened = open_socket("127.0.0.1", 0)
    live = Server(app, grace)
    if server is not None:
        server.append(live)
    thread = threading.Thread(target=live.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        yield url(opened)
    finally:
        live.end()
        thread.join(20)
        opened.close()
        assert not thread.is_alive()


def events(response):
    """The data of a stream of server-sent events that ended as it should."""
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics(text):
    """Samples of Prometheus' text form by name and labels, as they are written."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
