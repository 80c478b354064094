"""What a person sees while work goes on: a live line in a terminal, a plain line now and then everywhere else."""

import sys
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
PLAIN_SECONDS = 10.0  # between two lines when the output is a file or a pipe


class Display:
    """`with Display("pretrain", total=1000) as display: display.update(step, "loss 3.21")`.

    `done` counts work finished; `note` is free text beside the bar. Shown on standard error, so that what a command
    prints as its result can be piped.
    """

    def __init__(self, title: str, total: int, unit: str = "", *, shown: bool = True):
        self.title, self.total, self.unit, self.shown = title, total, unit, shown
        self.live = console.is_terminal and shown
        self._start = self._last = time.monotonic()
        self._first_done: int | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> "Display":
        if self.live:
            columns = [
                TextColumn("{task.description:<22}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            ]
            self._progress = Progress(*columns, console=console)
            self._progress.start()
            self._task = self._progress.add_task(self.title, total=self.total, note="")
        return self

    def update(self, done: int, note: str = "") -> None:
        if self._progress:
            self._progress.update(self._task, completed=done, note=note)
            return
        if not self.shown:
            return
        now = time.monotonic()
        if self._first_done is None:
            self._first_done, self._start = done, now
        if now - self._last >= PLAIN_SECONDS or done >= self.total:
            self._last = now
            fresh = done - self._first_done
            left = (now - self._start) / fresh * (self.total - done) if fresh > 0 else 0.0
            time_left = str(timedelta(seconds=round(left)))
            print(f"{self.title}: {done}/{self.total} {self.unit}  {note}  {time_left} left", file=sys.stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()


def say(text: str) -> None:
    """A line for the person, on standard error."""
    console.print(text, markup=False, soft_wrap=True)
