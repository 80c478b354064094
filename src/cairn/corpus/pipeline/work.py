"""Running pieces of work: several processes, a marker for each finished piece, nothing done twice, nothing half done.

A piece is pure: it reads what earlier phases wrote and writes its own files, each atomically, then its marker with the
result. A process may be killed at any instruction; the next run does what has no marker.
"""

import concurrent.futures
import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import write_json

Work = Callable[[int], dict[str, Any]]  # piece -> result, JSON-able; picklable


def marker(folder: Path, phase: str, piece: int) -> Path:
    return folder / "done" / f"{phase}-{piece:05d}.json"


def do(folder: Path, phase: str, work: Work, piece: int) -> None:
    """Do one piece unless its marker is there."""
    path = marker(folder, phase, piece)
    if not path.exists():
        write_json(path, work(piece))


def run(
    folder: Path, phase: str, work: Work, pieces: Sequence[int], workers: int, progress: Callable[[int], None]
) -> None:
    """Do pieces in `workers` processes (1: in this one). `progress(n)` is told how many of them are done."""
    if workers <= 1 or len(pieces) <= 1:
        for done, piece in enumerate(pieces, 1):
            do(folder, phase, work, piece)
            progress(done)
        return
    # Spawned, not forked: a fork of a process with threads (numba, torch) may hang.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(pieces)), mp_context=context, initializer=_begin, initargs=(folder, os.getpid())
    )
    try:
        with _interrupts_ignored():  # which the processes started here inherit: Ctrl-C is for their parent
            futures = [pool.submit(do, folder, phase, work, piece) for piece in pieces]
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            future.result()
            progress(done)
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?); run the same command again, or with fewer --workers"
        ) from None
    except BaseException:
        for process in multiprocessing.active_children():  # else Ctrl-C waits for every piece that was begun
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(folder: Path, parent: int) -> None:
    """A worker holds a lock as long as it lives, and ends when its parent is gone."""
    global _held
    _held = open(folder / "workers.lock", "w")  # noqa: SIM115
    fcntl.flock(_held, fcntl.LOCK_SH)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One build at a time in a folder; waits until the workers of a killed one have noticed and ended."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "build.lock", "w") as build, open(folder / "workers.lock", "w") as workers:
        try:
            fcntl.flock(build, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another build is at work in {folder.parent}; wait for it, or choose another --out"
            ) from None
        fcntl.flock(workers, fcntl.LOCK_EX)
        fcntl.flock(workers, fcntl.LOCK_UN)
        yield
