"""What stands before every route: who may come in (host, key) and how much they may bring."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Collection
from typing import Any

from cairn.serving.errors import ApiError

BODY_SECONDS = 60.0  # in which a body must have come
DRAINED = 16  # times the largest body is read and thrown away, so that a client who sends too much still hears why
OPEN_PATHS = ("/", "/health")  # the chat page asks for the key itself
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """ASGI middleware.

    hosts: names a Host header may carry, or None for any. A page of another site can point its own name at 127.0.0.1
    (DNS rebinding) and would then read a keyless server's answers; its name gives it away.
    keys: one of them is asked for on every path but OPEN_PATHS, unknown ones included; none for a server without keys.
    A body has at most `largest` bytes and must be declared as JSON: a page of another site cannot send that without
    asking first (CORS).
    """

    def __init__(self, app: Any, *, keys: Collection[str], hosts: Collection[str] | None, largest: int):
        self.app, self.hosts, self.largest = app, hosts, largest
        self.digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
                async with asyncio.timeout(BODY_SECONDS):
                    receive = await _bounded(receive, self.largest)
            except TimeoutError:
                await ApiError(408, f"the body did not come within {BODY_SECONDS:g} seconds").response()(
                    scope, receive, send
                )
                return
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Any) -> None:
        def header(name: bytes) -> list[bytes]:
            return [value for key, value in scope["headers"] if key == name]

        if self.hosts is not None:
            names = [re.sub(r":\d*$", "", value.decode("latin-1").lower()) for value in header(b"host")]
            if not names or any(name not in self.hosts for name in names):
                message = f"this server answers only to {', '.join(self.hosts)}; start it with a key to use other names"
                raise ApiError(403, message, code="host_not_allowed")
        if self.digests and scope["path"] not in OPEN_PATHS and not self._knows(header(b"authorization")):
            message = "wrong or missing API key; send it as 'Authorization: Bearer KEY'"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST":
            kind = (header(b"content-type") or [b""])[0].decode("latin-1").split(";")[0].strip().lower()
            if kind != "application/json":
                kind_given = f"not {kind}" if kind else "which is missing"
                message = f"the body must be sent as Content-Type: application/json, {kind_given}"
                raise ApiError(415, message, code="unsupported_media_type")

    def _knows(self, given: list[bytes]) -> bool:
        """Takes as long for a wrong key as for a right one, whatever its length and whichever key it resembles."""
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest = _digest(key.strip())
        found = [hmac.compare_digest(digest, known) for known in self.digests]
        return scheme.lower() == b"bearer" and any(found)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


async def _bounded(receive: Any, largest: int) -> Any:
    """Read the body, at most `largest` bytes of it, and hand it on in one piece."""
    body, size, message = bytearray(), 0, {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message.get("body", b""))
        if size <= largest:
            body += message.get("body", b"")
        elif size > DRAINED * largest:
            break
    if size > largest:
        raise ApiError(413, f"the body has more than {largest >> 20} MiB; send less", code="body_too_large")
    first = {"type": "http.request", "body": bytes(body), "more_body": False}
    if message["type"] == "http.disconnect":
        first = message
    handed = False

    async def replay() -> Any:
        nonlocal handed
        if not handed:
            handed = True
            return first
        return await receive()

    return replay
