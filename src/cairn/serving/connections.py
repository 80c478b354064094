"""Connections that cost the server something before they ask for anything.

uvicorn waits for ever for a request's head, and asyncio takes connections until the process has no descriptor left, when
nobody is served any more. Here a head must come within `HEAD_SECONDS`, and beyond a number that the descriptors allow the
connection that has been without a request for longest makes room for a new one.
"""

import asyncio
import contextlib
import errno
import logging
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # in which the head of a request must have come
WANTED_DESCRIPTORS = 8192
RESERVED_DESCRIPTORS = 48  # for files, the event loop, and the process of the chat templates
REPORT_SECONDS = 60.0  # between two lines about descriptors that ran out
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

logger = logging.getLogger(__name__)


def descriptors() -> int:
    """How many descriptors the process may open: raised towards `WANTED_DESCRIPTORS` where the system lets it."""
    try:
        import resource
    except ImportError:  # Windows, where sockets do not count as such
        return WANTED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED_DESCRIPTORS
    if soft < WANTED_DESCRIPTORS:
        raised = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return min(soft, WANTED_DESCRIPTORS)


def room(limit: int) -> tuple[int, int]:
    """Connections that may be open, and that may come at once (asyncio accepts all of those before it shows us one).

    >>> room(8192), room(128)
    ((6096, 2048), (48, 32))
    """
    at_once = min(2048, max(1, limit // 4))
    return max(1, limit - at_once - RESERVED_DESCRIPTORS), at_once


def protocol(most: int) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with at most `most` connections open."""

    class Bounded(_Timed):
        most_connections = most

    return Bounded


class _Timed(H11Protocol):
    most_connections: int
    _since = 0.0
    _head: asyncio.TimerHandle | None = None  # runs while the first request is waited for, or another has begun

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._wait_for_head()
        if len(self.connections) > self.most_connections:
            idle = [other for other in self.connections if isinstance(other, _Timed) and other.idle]
            longest = min((other for other in idle if other is not self), key=lambda other: other._since, default=self)
            longest.refuse()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.idle:
            self._wait_for_head()
        else:
            self._since = self.loop.time()
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """No request has come, or the latest has been answered."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def refuse(self) -> None:
        """Close a connection that is idle, with a word why where the client has asked for nothing yet."""
        if self.cycle is None:
            self.transport.write(REFUSAL)
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def report_errors(loop: asyncio.AbstractEventLoop) -> None:
    """asyncio reports descriptors that ran out thousands of times a second; here one line a minute says so."""
    reported = -REPORT_SECONDS

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal reported
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            logger.error("no descriptor is left for new connections; allow more of them (ulimit -n)")

    loop.set_exception_handler(handle)
