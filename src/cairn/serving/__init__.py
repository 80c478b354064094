"""A model behind OpenAI's HTTP interface, and a chat page."""

from cairn.serving.app import create_app
from cairn.serving.server import check_host, open_socket, serve
from cairn.serving.turns import CallFilter, answer
from cairn.serving.worker import BusyError, Job, StoppedError, Worker

__all__ = [
    "BusyError",
    "CallFilter",
    "Job",
    "StoppedError",
    "Worker",
    "answer",
    "check_host",
    "create_app",
    "open_socket",
    "serve",
]
