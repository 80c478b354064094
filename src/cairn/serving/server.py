"""Listening on a port: checked and opened before a model is loaded, closed cleanly after."""

import contextlib
import ipaddress
import socket

import uvicorn
from fastapi import FastAPI

from cairn.core.errors import UserError
from cairn.serving.guard import LOOPBACK_NAMES
from cairn.serving.worker import STOP_SECONDS


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


def check_host(host: str, api_key: str | None, allow_open: bool) -> None:
    """Refuse to offer a model to a network without a key, unless that is said to be wanted."""
    if api_key == "":
        raise UserError("the API key is empty; give one, or leave --api-key and CAIRN_API_KEY out")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise UserError("the API key must be printable ASCII without spaces: it travels in an HTTP header")
    if not is_loopback(host) and api_key is None and not allow_open:
        raise UserError(
            f"host {host} can be reached from other machines: add --api-key KEY, or --allow-open to serve everybody"
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


def serve(app: FastAPI, opened: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; running answers get STOP_SECONDS to finish."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(STOP_SECONDS),
    )
    with opened, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[opened])
