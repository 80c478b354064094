"""A model behind OpenAI's HTTP interface, and a chat page."""

from cairn.serving.app import create_app
from cairn.serving.config import ServerConfig
from cairn.serving.errors import BusyError, StoppedError
from cairn.serving.job import Job
from cairn.serving.server import check_host, open_socket, serve
from cairn.serving.turns import CallFilter, answer
from cairn.serving.worker import Worker

__all__ = [
    "BusyError",
    "CallFilter",
    "Job",
    "ServerConfig",
    "StoppedError",
    "Worker",
    "answer",
    "check_host",
    "create_app",
    "open_socket",
    "serve",
]
