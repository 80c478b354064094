"""Chat templates: Jinja, in a sandbox, within bounds of size, memory and time.

Jinja's sandbox keeps a template from reaching Python; it does not keep it from looping for ever, from multiplying a text
until the memory is full, or from comparing lists that contain themselves a million times, and such work cannot be broken
off within a process. So a template that is not cairn's own renders in a process of its own, which is given little memory
and is killed when its time is over. This file is that process too: it needs nothing but Jinja.
"""

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE = 256 << 10  # characters; the longest in use have 20,000
MAX_RENDERED = 4 << 20  # characters
SECONDS = 5.0  # for one conversation, which takes a millisecond
MEMORY = 512 << 20  # bytes of the process


class TemplateError(Exception):
    """A template that cannot be used, or refused the messages; one line."""


class _Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %} marks what the assistant wrote; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's form)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True), lineno=line)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
    """With the settings, filters and functions that `transformers` gives its templates."""
    if len(template) > MAX_TEMPLATE:
        raise TemplateError(f"it has {len(template)} characters; at most {MAX_TEMPLATE} are accepted")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = _tojson
    return environment.from_string(template)


def render_here(template: str, variables: dict[str, Any]) -> str:
    """The rendered template, in this process: for a template that can be trusted. Raises TemplateError."""
    try:
        text = _compile(template).render(variables)
    except RecursionError:
        raise TemplateError("it calls itself too often") from None
    except MemoryError:
        raise TemplateError(f"it needs more than {MEMORY >> 20} MiB") from None
    except TemplateError:
        raise
    except Exception as error:  # whatever a template does wrong is the template's fault
        raise TemplateError(" ".join(str(error).split())[:500] or type(error).__name__) from None
    if len(text) > MAX_RENDERED:
        raise TemplateError(f"it made {len(text)} characters; at most {MAX_RENDERED} are accepted")
    return text


def render_apart(template: str, variables: dict[str, Any]) -> str:
    """The rendered template, from another process, within its bounds. `variables` must be JSON. Raises TemplateError."""
    try:
        asked = json.dumps([template, variables])
    except (TypeError, ValueError, RecursionError) as error:
        raise TemplateError(f"the messages are not JSON: {error}") from None
    kind, text = json.loads(_process.ask(asked.encode() + b"\n"))
    if kind == "error":
        raise TemplateError(text)
    return text


class _Process:
    """The one child that renders; started when first needed, and again after it was killed or this process forked."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None
        self._owner = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, line: bytes) -> bytes:
        with self._lock:
            try:
                child = self._child if self._child is not None and self._child.poll() is None else self._start()
                answer = _exchange(child, line)
                if answer is None:
                    raise TemplateError(f"it did not end within {SECONDS:g} seconds")
                return answer
            except (OSError, ValueError) as error:  # no more processes or descriptors are to be had
                self.stop()
                raise TemplateError(f"the process that renders it failed: {error}") from None
            except BaseException:  # Ctrl-C too: an answer left in the pipe would be taken for the next conversation's
                self.stop()
                raise

    def stop(self) -> None:
        if self._child is not None:
            with self._child as child:  # closes its pipes
                child.kill()
            self._child = None

    def _start(self) -> subprocess.Popen:
        # -P: the folder of this file is not where the child looks for modules. A session of its own: Ctrl-C is not for it.
        self._child = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        if _exchange(self._child, b"", seconds=60) is None:  # its first line: it is ready, and now the clock is fair
            raise TemplateError("the process that renders it did not start")
        return self._child

    def _forget(self) -> None:
        """In a forked child: the renderer belongs to the parent."""
        self._child, self._lock = None, threading.Lock()


def _exchange(child: subprocess.Popen, line: bytes, seconds: float | None = None) -> bytes | None:
    """Write a line, read a line; None when the time (SECONDS) is over or the child has died."""
    assert child.stdin is not None
    assert child.stdout is not None
    answer = bytearray()
    deadline = time.monotonic() + (SECONDS if seconds is None else seconds)
    # Not select.select, which takes no descriptor above 1023.
    with contextlib.suppress(BrokenPipeError), selectors.DefaultSelector() as selector:
        rest = memoryview(line)
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdout, selectors.EVENT_READ)
        if rest:
            selector.register(child.stdin, selectors.EVENT_WRITE)
        while not answer.endswith(b"\n"):
            ready = [key.fileobj for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
            if not ready:
                return None
            if child.stdin in ready:
                rest = rest[os.write(child.stdin.fileno(), rest[:65536]) :]
                if not rest:
                    selector.unregister(child.stdin)
            if child.stdout in ready:
                part = os.read(child.stdout.fileno(), 1 << 20)
                if not part:
                    return None
                answer += part
        return bytes(answer)
    return None


_process = _Process()
atexit.register(_process.stop)


def _serve() -> None:
    """The child: a line of JSON in, a line of JSON out, until there are no more."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system can bound the memory of a process
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)  # the end of a child whose parent was killed while it looped
        template, variables = json.loads(line)
        try:
            answer = ["text", render_here(template, variables)]
        except TemplateError as error:
            answer = ["error", str(error)]
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
