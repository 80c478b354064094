"""The generations of one HTTP request: what the event loop sees of the worker."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cairn.inference import Delta, SamplingParams, TokenLogprob
from cairn.serving.errors import SlowError
from cairn.serving.metrics import TokenClock

if TYPE_CHECKING:
    from cairn.serving.worker import Worker

Item = tuple[int, Sequence[int], SamplingParams]  # tag, prompt, how to generate


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
        tags = {tag for tag, _, _ in items}
        # Counted before anything is awaited: what arrives during the same step finds them waiting.
        self._count(len(items))
        self._silent |= tags
        self._worker.waiting += len(items)
        self._worker._send(functools.partial(self._worker._add, self, items, accepted), accepted)
        try:
            await accepted
        except Exception:
            self._count(-len(items))
            self._silent -= tags
            self._worker.waiting -= len(items)
            raise
        self._clocks |= {tag: self._worker.metrics.clock() for tag in tags}

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
