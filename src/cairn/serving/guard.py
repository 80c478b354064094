"""What stands before every route: who may come in (host, key) and how much they may bring."""

import hmac
import re
from collections.abc import Collection
from typing import Any

from cairn.serving.protocol import ApiError

MAX_BODY = 4 << 20  # bytes
DRAINED = 16 * MAX_BODY  # read and thrown away, so that a client who sends too much still hears why
OPEN_PATHS = ("/", "/health")  # the chat page asks for the key itself
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """ASGI middleware.

    hosts: names a Host header may carry, or None for any. A page of another site can point its own name at 127.0.0.1
    (DNS rebinding) and would then read a keyless server's answers; its name gives it away.
    api_key: asked for on every path but OPEN_PATHS, unknown ones included.
    A body must be declared as JSON: a page of another site cannot send that without asking first (CORS).
    """

    def __init__(self, app: Any, *, api_key: str | None, hosts: Collection[str] | None):
        self.app, self.hosts = app, hosts
        self.key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
                receive = await _bounded(receive)
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
                message = (
                    f"this server answers only to {', '.join(self.hosts)}; start it with --api-key to use other names"
                )
                raise ApiError(403, message, code="host_not_allowed")
        if self.key is not None and scope["path"] not in OPEN_PATHS:
            given = header(b"authorization")
            scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self.key):
                message = "wrong or missing API key; send it as 'Authorization: Bearer KEY'"
                raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST":
            kind = (header(b"content-type") or [b""])[0].decode("latin-1").split(";")[0].strip().lower()
            if kind != "application/json":
                message = f"the body must be sent as Content-Type: application/json, not {kind or 'without a type'}"
                raise ApiError(415, message, code="unsupported_media_type")


async def _bounded(receive: Any) -> Any:
    """Read the body, at most MAX_BODY of it, and hand it on in one piece."""
    body, size, message = bytearray(), 0, {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message.get("body", b""))
        if size <= MAX_BODY:
            body += message.get("body", b"")
        elif size > DRAINED:
            break
    if size > MAX_BODY:
        raise ApiError(413, f"the body has more than {MAX_BODY >> 20} MiB; send less", code="body_too_large")
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
