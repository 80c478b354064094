"""Processes of their own for tests that kill some, or need several: forked from one that has imported torch already."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    "torch._dynamo",
    "cairn.kernels.cross_entropy",
    "cairn.kernels.attention",
    "checkpoint_worker",
    "kill_worker",
]


def process(function: Callable, *args) -> BaseProcess:
    """A process, not started yet, that calls function(*args); both are importable or picklable."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # the server finds what to import there alone
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context.Process(target=function, args=args)


class Countdown:
    """Kills the process when it has been called `count` times; 0 never does."""

    def __init__(self, count: int):
        self.left = count

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def count_file_events(folder: Path, event: Countdown) -> None:
    """Call `event` before everything Python does to a file in a folder: open, rename, remove, make a directory."""

    def hook(name: str, arguments: tuple) -> None:
        if name in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree") and str(folder) in str(
            arguments[0]
        ):
            event()

    sys.addaudithook(hook)
