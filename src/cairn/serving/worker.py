"""The bridge between many asyncio handlers and the one thread that may touch the engine and the model.

    worker.start()                                   # inside a running event loop
    with worker.job(1) as job:                       # raises BusyError when too much waits
        await job.add([(0, ids, params)])            # raises UserError when the engine refuses the prompt
        async for event in job: ...
    with worker.admit():                             # anything else that needs the model
        vectors = await worker.call(embed_one_batch)
    await worker.stop()                              # running jobs finish first, within a bounded time

Commands go to the thread through a queue and are carried out between two steps of the engine; what a step produced goes
back with one call into the event loop, however many requests it served.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from cairn.inference import Engine, Request
from cairn.serving.config import ServerConfig
from cairn.serving.errors import BusyError, StoppedError
from cairn.serving.job import Event, Item, Job
from cairn.serving.metrics import Metrics

T = TypeVar("T")
Command = tuple[Callable[[], None], asyncio.Future | None]  # with who waits for its outcome

logger = logging.getLogger(__name__)


class Worker:
    """Owns the thread. All methods without underscore belong to the event loop's thread."""

    def __init__(self, engine: Engine, config: ServerConfig):
        self._engine, self._config = engine, config
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="cairn-engine", daemon=True)
        self._accepting = False
        self._gate = threading.Lock()  # between what is sent and the thread's end
        self._ended = False  # the thread takes no more commands
        self.failed = False  # it ended without having been asked to
        self.stats = engine.stats()  # as they were after the latest step
        self.metrics = Metrics(lambda: self.stats)
        self.pending = 0  # generations and calls that are not done
        self.waiting = 0  # those of which nothing has come yet
        # The thread's own:
        self._live: dict[int, tuple[Job, int, Request]] = {}  # by the engine's request id
        self._calls: deque[tuple[Callable[[], Any], asyncio.Future]] = deque()

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

    def job(self, count: int) -> Job:
        """A new job, to which `count` generations are added at once. Raises BusyError when too many wait, StoppedError
        when the server goes down."""
        self._check_room(count)
        return Job(self, self._config.timeout)

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Around the calls of one request: it is let in once, and then runs to its end. Raises as `job` does."""
        self._check_room(1)
        self.pending += 1
        self.waiting += 1
        try:
            yield
        finally:
            self.pending -= 1
            self.waiting -= 1

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returns, run in the thread between two steps. Keep it short: everybody waits meanwhile.
        Raises StoppedError when the thread has ended."""
        done = asyncio.get_running_loop().create_future()
        self._send(lambda: self._calls.append((function, done)), done)
        return await done

    def _check_room(self, count: int) -> None:
        """A request that alone has more generations than may wait is let in when nothing else waits."""
        if not self.alive:
            raise StoppedError("the server is stopping")
        if self.waiting and self.waiting + count > self._config.waiting:
            raise BusyError("too many requests are waiting; try again in a moment")

    def _send(self, command: Callable[[], None], outcome: asyncio.Future | None = None) -> None:
        with self._gate:
            if not self._ended:
                self._inbox.put((command, outcome))
            elif outcome is not None:
                outcome.set_exception(StoppedError("the server is stopping"))

    # --- the thread

    def _run(self) -> None:
        stopping = StoppedError("the server is stopping")
        try:
            self._work()
            self._end_all(stopping)
            self.stats = self._engine.stats()
        except Exception:
            logger.exception("the engine's thread ended")
            self.failed = True
            self._tell_jobs(stopping)
        with self._gate:
            self._ended = True
        outcomes = [done for _, done in self._calls]
        while not self._inbox.empty():  # a handler that asked meanwhile must not wait for ever
            command = self._inbox.get_nowait()
            outcomes += [command[1]] if command is not None and command[1] is not None else []
        for outcome in outcomes:
            self._tell(_refuse, outcome, stopping)

    def _work(self) -> None:
        if self._engine.threads:
            torch.set_num_threads(self._engine.threads)  # counts for the calling thread only, so it is set here
        while self._obey():
            if self._calls:  # one between two steps, so that embedding many texts does not hold up answers
                self._call(*self._calls.popleft())
            if self._engine.has_work():
                self._step()
            self.stats = self._engine.stats()

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
        self._tell_jobs(error)
        for _, _, request in self._live.values():
            self._engine.cancel(request)
        self._live.clear()

    def _tell_jobs(self, error: Exception) -> None:
        jobs = {id(job): job for job, _, _ in self._live.values()}
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
