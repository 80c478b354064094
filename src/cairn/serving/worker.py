"""The bridge between many asyncio handlers and the one thread that may touch the engine.

    worker.start()                                   # inside a running event loop
    with worker.job() as job:
        await job.add([(0, ids, params)])            # raises UserError when the engine refuses the prompt
        async for event in job: ...
    await worker.stop()                              # running jobs finish first, within a bounded time

Commands go to the thread through a queue and are carried out between two steps of the engine; what a step produced goes
back with one call into the event loop, however many requests it served.
"""

import asyncio
import contextlib
import functools
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import torch

from cairn.inference import Delta, Engine, Request, SamplingParams, TokenLogprob

WAITING = 256  # generations that may wait for a slot; more are told to come back
STOP_SECONDS = 10.0  # that running generations have to finish when the server stops

logger = logging.getLogger(__name__)

Item = tuple[int, Sequence[int], SamplingParams]  # tag, prompt, how to generate


@dataclass(frozen=True)
class Event:
    """A delta of the generation added as `tag`, with the log-probabilities of just its tokens (if asked for)."""

    tag: int
    delta: Delta
    logprobs: list[TokenLogprob]


class BusyError(Exception):
    """The waiting queue is full."""


class StoppedError(Exception):
    """The server is going down."""


class Job:
    """The generations of one HTTP request. Iterate for events; leaving the `with` block cancels what still runs."""

    def __init__(self, worker: "Worker"):
        self._worker = worker
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._open = 0  # generations whose last delta has not been taken

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._worker._command(functools.partial(self._worker._close, self))
            self._count(-self._open)

    async def add(self, items: Sequence[Item]) -> None:
        """Queue generations; none of them when the engine refuses one (UserError). `tag` comes back with events."""
        accepted = asyncio.get_running_loop().create_future()
        self._count(len(items))
        self._worker._command(functools.partial(self._worker._add, self, items, accepted))
        try:
            await accepted
        except Exception:
            self._count(-len(items))
            raise

    async def __aiter__(self) -> AsyncIterator[Event]:
        while self._open:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            if event.delta.finish_reason is not None:
                self._count(-1)
            yield event

    def _count(self, change: int) -> None:
        self._open += change
        self._worker.pending += change


class Worker:
    """Owns the thread. All methods without underscore belong to the event loop's thread."""

    def __init__(self, engine: Engine, *, threads: int = 1, waiting: int = WAITING):
        self._engine, self._threads = engine, threads
        self._room = engine.cache.slots + waiting
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._live: dict[int, tuple[Job, int, Request]] = {}  # by the engine's request id; the thread's own
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="cairn-engine", daemon=True)
        self._accepting = False
        self.pending = 0  # generations queued or running

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._thread.start()

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take nothing new, let what runs finish for at most `seconds`, cancel the rest, end the thread."""
        self._accepting = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.pending:
                    await asyncio.sleep(0.02)
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, seconds)

    @property
    def alive(self) -> bool:
        return self._accepting and self._thread.is_alive()

    def job(self) -> Job:
        """A new job. Raises BusyError when too many generations wait, StoppedError when the server goes down."""
        if not self.alive:
            raise StoppedError("the server is stopping")
        if self.pending >= self._room:
            raise BusyError("too many requests are waiting; try again in a moment")
        return Job(self)

    def _command(self, command: Callable[[], None]) -> None:
        self._inbox.put(command)

    # --- the thread

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # counts for the calling thread only, so it is set here
        while self._obey():
            if self._engine.has_work():
                self._step()
        self._end_all(StoppedError("the server is stopping"))
        while True:  # a handler that asked meanwhile must not wait for ever
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, functools.partial) and command.func == self._add:
                self._tell(_refuse, command.args[2], StoppedError("the server is stopping"))

    def _obey(self) -> bool:
        """Carry out the commands that lie there; sleep until there is one when the engine has nothing to do."""
        wait = not self._engine.has_work()
        while True:
            try:
                command = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _add(self, job: Job, items: Sequence[Item], accepted: asyncio.Future[None]) -> None:
        requests: list[Request] = []
        try:
            for _, ids, params in items:
                requests.append(self._engine.submit(ids, params))
        except Exception as error:
            for request in requests:
                self._engine.cancel(request)
            self._tell(_refuse, accepted, error)
            return
        for (tag, _, _), request in zip(items, requests):
            self._live[request.id] = (job, tag, request)
        self._tell(_accept, accepted)

    def _close(self, job: Job) -> None:
        for owner, _, request in list(self._live.values()):
            if owner is job:
                self._engine.cancel(request)
                del self._live[request.id]

    def _step(self) -> None:
        try:
            deltas = self._engine.step()
        except Exception as error:  # one bad step must not leave every later request hanging
            logger.exception("the engine failed")
            self._end_all(RuntimeError(f"the engine failed: {error}"))
            return
        events = []
        for delta in deltas:
            job, tag, _ = self._live[delta.request.id]
            if delta.finish_reason is not None:
                del self._live[delta.request.id]
            # Taken here, between two steps: later the request has more of them than this delta.
            logprobs = delta.request.logprobs[-len(delta.tokens) :] if delta.tokens else []
            events.append((job, Event(tag, delta, logprobs)))
        self._tell(_deliver, events)

    def _end_all(self, error: Exception) -> None:
        jobs = {id(job): job for job, _, _ in self._live.values()}
        for _, _, request in self._live.values():
            self._engine.cancel(request)
        self._live.clear()
        self._tell(_deliver, [(job, error) for job in jobs.values()])

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed by force: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *arguments)


# Run in the event loop. A future whose handler was cancelled meanwhile takes no result.


def _accept(accepted: asyncio.Future[None]) -> None:
    if not accepted.done():
        accepted.set_result(None)


def _refuse(accepted: asyncio.Future[None], error: Exception) -> None:
    if not accepted.done():
        accepted.set_exception(error)


def _deliver(events: list[tuple[Job, Event | Exception]]) -> None:
    for job, event in events:
        job._events.put_nowait(event)
