"""Listening on a port: checked and opened before a model is loaded, closed cleanly after."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from cairn.core.errors import UserError
from cairn.serving.connections import descriptors, protocol, report_errors, room
from cairn.serving.guard import LOOPBACK_NAMES
from cairn.serving.worker import Worker

KEYS_VARIABLE = "CAIRN_API_KEY"
LAST_WORDS = 5.0  # seconds for what is already generated to reach its clients


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> tuple[str, ...] | None:
    """Host headers to accept when listening on `host` without a key: a loopback address has few names, others any."""
    if not is_loopback(host):
        return None
    own = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys((*LOOPBACK_NAMES, own)))


def read_keys(file: Path | None) -> list[str]:
    """The keys in `file`, one a line (# begins a comment), else those in CAIRN_API_KEY, between white space.

    Never from the command line, which every user of a machine can read. UserError when a key cannot be used.
    """
    if file is None:
        where, keys = KEYS_VARIABLE, os.environ.get(KEYS_VARIABLE, "").split()
    else:
        where = str(file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"the keys in {file} cannot be read: {reason}") from None
        keys = [key for line in lines if (key := line.strip()) and not key.startswith("#")]
        if not keys:
            raise UserError(f"{file} has no key; write one a line")
    for number, key in enumerate(keys, 1):
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(
                f"{where}: key {number} must be printable ASCII without spaces: it travels in an HTTP header"
            )
    return keys


def check_host(host: str, keys: Collection[str], no_key: bool) -> None:
    """Refuse to offer a model to a network without a key, unless that is said to be wanted."""
    if not is_loopback(host) and not keys and not no_key:
        raise UserError(
            f"host {host} can be reached from other machines: give --api-key-file FILE or set {KEYS_VARIABLE}, "
            "or add --no-key to serve everybody"
        )


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UserError when the address cannot be had."""
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} does not exist; take one from 1 to 65535, or 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"host {host!r} is not an address of this machine") from None
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        # From here on the port is taken: whoever connects while the model loads waits instead of being refused.
        opened.listen(2048)
    except OSError as error:
        opened.close()
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None
    return opened


def url(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn that ends in two steps. The first signal: new generations get 503 while running ones finish, for at most
    `grace` seconds. Then, or at the second signal, the port is closed. It also ends when the engine's thread did."""

    def __init__(self, app: FastAPI, grace: float):
        connections, at_once = room(descriptors())
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(LAST_WORDS),
                http=protocol(connections),
                ws="none",
                backlog=at_once,
            )
        )
        self._worker: Worker = app.state.worker
        self._grace = grace
        self._deadline: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the engine's thread ended by itself."""
        return self._worker.failed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        report_errors(asyncio.get_running_loop())
        await super().startup(sockets)

    def end(self) -> None:
        """Begin to end; safe in a signal handler and from another thread."""
        self._worker.drain()
        self._deadline = time.monotonic() + self._grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._deadline is None:
            self.end()
        else:  # as uvicorn does, but without raising the signal once more at the end
            self.force_exit = self.should_exit
            self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Until `serve` is done: uvicorn lets go of them before its last tasks have ended, which a late Ctrl-C would break."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.handle_exit)
        yield

    async def on_tick(self, counter: int) -> bool:
        if self._deadline is not None and (not self._worker.pending or time.monotonic() > self._deadline):
            await self._worker.stop(0)  # what still runs is told so, and its connections end
            self.should_exit = True
        elif self.failed:  # nothing can be answered; whoever started the server can start it again
            self.should_exit = True
        return await super().on_tick(counter)


def serve(app: FastAPI, opened: socket.socket, grace: float) -> bool:
    """Serve until Ctrl-C or SIGTERM; running answers get `grace` seconds to finish. False when the engine failed."""
    # A client that leaves a stream is no news: asyncio would warn of each piece that is sent after it.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    server = Server(app, grace)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with opened:
            server.run(sockets=[opened])
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
    return not server.failed
