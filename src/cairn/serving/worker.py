"""The bridge between many asyncio handlers and the one thread that may touch the engine and the model.

    worker.start()                                   # inside a running event loop
    with worker.job() as job:
        await job.add([(0, ids, params)])            # raises UserError when the engine refuses the prompt
        async for event in job: ...
    vectors = await worker.call(embed_one_batch)     # anything else that needs the model
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
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from cairn.inference import Delta, Engine, Request, SamplingParams, TokenLogprob
from cairn.serving.config import ServerConfig
from cairn.serving.errors import BusyError, SlowError, StoppedError
from cairn.serving.metrics import Metrics, TokenClock

T = TypeVar("T")
Item = tuple[int, Sequence[int], SamplingParams]  # tag, prompt, how to generate
Command = tuple[Callable[[], None], asyncio.Future | None]  # with who waits for its outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """A delta of the generation added as `tag`, with the log-probabilities of just its tokens (if asked for)."""

    tag: int
    delta: Delta
    logprobs: list[TokenLogprob]


@contextlib.asynccontextmanager
async def time_limit(seconds: float, deadline: float | None = None) -> AsyncIterator[None]:
    """SlowError when the block is not done at `deadline` (of the loop's clock), by default in `seconds` from now."""
    try:
        async with asyncio.timeout_at(deadline or asyncio.get_running_loop().time() + seconds):
            yield
    except TimeoutError:
        raise SlowError(f"the request took more than {seconds:g} seconds; ask for less at once") from None


class Job:
    """The generations of one HTTP request. Iterate for events; leaving the `with` block cancels what still runs."""

    def __init__(self, worker: "Worker", seconds: float):
        self._worker = worker
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._open = 0  # generations whose last delta has not been taken
        self._silent: set[int] = set()  # tags of generations of which nothing has come yet
        self._clocks: dict[int, TokenClock] = {}
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._worker._send(functools.partial(self._worker._close, self))
            self._count(-self._open)
        self._worker.waiting -= len(self._silent)
        self._silent.clear()

    async def add(self, items: Sequence[Item]) -> None:
        """Queue generations; none of them when the engine refuses one (UserError). `tag` comes back with events."""
        accepted = asyncio.get_running_loop().create_future()
        self._count(len(items))
        self._worker._send(functools.partial(self._worker._add, self, items, accepted), accepted)
        try:
            await accepted
        except Exception:
            self._count(-len(items))
            raise
        self._silent |= {tag for tag, _, _ in items}
        self._worker.waiting += len(items)
        self._clocks |= {tag: self._worker.metrics.clock() for tag, _, _ in items}

    async def __aiter__(self) -> AsyncIterator[Event]:
        while self._open:
            event = await self._next()
            if isinstance(event, Exception):
                raise event
            if event.tag in self._silent:
                self._silent.remove(event.tag)
                self._worker.waiting -= 1
            if event.delta.tokens:
                self._clocks[event.tag].tick(len(event.delta.tokens))
            if event.delta.finish_reason is not None:
                self._count(-1)
            if event.delta.request.error is not None:
                raise event.delta.request.error
            yield event

    async def _next(self) -> Event | Exception:
        if not self._events.empty():
            return self._events.get_nowait()
        async with time_limit(self._seconds, self._deadline):
            return await self._events.get()

    def _count(self, change: int) -> None:
        self._open += change
        self._worker.pending += change


class Worker:
    """Owns the thread. All methods without underscore belong to the event loop's thread."""

    def __init__(self, engine: Engine, config: ServerConfig):
        self._engine, self._config = engine, config
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="cairn-engine", daemon=True)
        self._accepting = False
        self.stats = engine.stats()  # as they were after the latest step
        self.metrics = Metrics(lambda: self.stats)
        self.pending = 0  # generations and calls that are not done
        self.waiting = 0  # those of which nothing has come yet
        # The thread's own:
        self._live: dict[int, tuple[Job, int, Request]] = {}  # by the engine's request id
        self._calls: deque[Callable[[], None]] = deque()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._thread.start()

    def drain(self) -> None:
        """Take nothing new from now on; what runs goes on."""
        self._accepting = False

    async def stop(self, seconds: float | None = None) -> None:
        """Take nothing new, let what runs finish for at most `seconds`, cancel the rest, end the thread."""
        self.drain()
        seconds = self._config.grace if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while self.pending and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, 10)

    @property
    def alive(self) -> bool:
        return self._accepting and self._thread.is_alive()

    def job(self) -> Job:
        """A new job. Raises BusyError when too many generations wait, StoppedError when the server goes down."""
        self._check_room()
        return Job(self, self._config.timeout)

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returns, run in the thread between two steps. Keep it short: everybody waits meanwhile."""
        self._check_room()
        done = asyncio.get_running_loop().create_future()
        self.pending += 1
        self.waiting += 1
        try:
            self._send(lambda: self._calls.append(functools.partial(self._call, function, done)), done)
            return await done
        finally:
            self.pending -= 1
            self.waiting -= 1

    def _check_room(self) -> None:
        if not self.alive:
            raise StoppedError("the server is stopping")
        if self.waiting >= self._config.waiting:
            raise BusyError("too many requests are waiting; try again in a moment")

    def _send(self, command: Callable[[], None], outcome: asyncio.Future | None = None) -> None:
        self._inbox.put((command, outcome))

    # --- the thread

    def _run(self) -> None:
        if self._engine.threads:
            torch.set_num_threads(self._engine.threads)  # counts for the calling thread only, so it is set here
        while self._obey():
            if self._calls:  # one between two steps, so that embedding many texts does not hold up answers
                self._calls.popleft()()
            if self._engine.has_work():
                self._step()
            self.stats = self._engine.stats()
        stopping = StoppedError("the server is stopping")
        self._end_all(stopping)
        for call in self._calls:
            call()
        self.stats = self._engine.stats()
        while True:  # a handler that asked meanwhile must not wait for ever
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                return
            if command is not None and command[1] is not None:
                self._tell(_refuse, command[1], stopping)

    def _obey(self) -> bool:
        """Carry out the commands that lie there; sleep until there is one when there is nothing else to do."""
        wait = not (self._engine.has_work() or self._calls)
        while True:
            try:
                command = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command[0]()
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
        self._tell(_accept, accepted, None)

    def _close(self, job: Job) -> None:
        for owner, _, request in list(self._live.values()):
            if owner is job:
                self._engine.cancel(request)
                del self._live[request.id]

    def _call(self, function: Callable[[], Any], done: asyncio.Future) -> None:
        if done.cancelled():  # whoever asked has left
            return
        try:
            result = function()
        except Exception as error:
            self._tell(_refuse, done, error)
        else:
            self._tell(_accept, done, result)

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


def _accept(outcome: asyncio.Future, result: object) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _refuse(outcome: asyncio.Future, error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)


def _deliver(events: list[tuple[Job, Event | Exception]]) -> None:
    for job, event in events:
        job._events.put_nowait(event)
