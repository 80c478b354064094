"""TensorBoard event files from the rows of metrics.jsonl: written while a run goes on, or afterwards from its record.

    tensorboard --logdir runs

metrics.jsonl stays the one record; the event files are a copy in another form. Every number of a row is a scalar of its name,
figures of layers are `layers/grad_norm/blocks.0` and so on, one figure of all layers side by side.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError


class EventLog:
    """write(row) appends the row's numbers to an event file of its own in `folder`.

    A run that goes on after step `resume_step` runs later steps again: what an earlier file says of them is marked as
    outdated, and TensorBoard drops it. Raises UserError without the extra.
    """

    def __init__(self, folder: Path | str, resume_step: int = 0):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise UserError("TensorBoard files need an extra: pip install 'cairn[tensorboard]'") from None
        events: Any = event_pb2  # made when they are imported, unseen by a type checker
        summaries: Any = summary_pb2
        self._event, self._summary = events.Event, summaries.Summary
        self._writer = EventFileWriter(str(folder))
        start = events.SessionLog(status=events.SessionLog.START)
        self._writer.add_event(self._event(wall_time=time.time(), step=resume_step + 1, session_log=start))

    def write(self, row: dict[str, Any], wall_time: float | None = None) -> None:
        """A row with its "step"; wall_time in seconds since 1970, now unless given."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row)]
        when = time.time() if wall_time is None else wall_time
        self._writer.add_event(self._event(wall_time=when, step=int(row["step"]), summary=self._summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(tag, number) of a row.

    >>> list(scalars({"step": 3, "loss": 2.5, "layers": {"embed": {"rms": 1.0}}}))
    [('loss', 2.5), ('layers/rms/embed', 1.0)]
    """
    for key, value in row.items():
        if key == "layers":
            yield from ((f"layers/{name}/{layer}", v) for layer, found in value.items() for name, v in found.items())
        elif key != "step" and isinstance(value, (int, float)):
            yield key, float(value)


def convert(rows: Sequence[dict[str, Any]], folder: Path | str, ended: float) -> None:
    """Event files of a run that is over. ended: when, in seconds since 1970; rows lie before it by their "seconds".

    Raises UserError where there are no rows, and where `folder` holds event files already: the run would be in it twice.
    """
    if not rows:
        raise UserError("the record has no rows, there is nothing to show in TensorBoard")
    if any(Path(folder).glob("events.out.tfevents.*")):
        raise UserError(f"{folder} holds TensorBoard files already; give another folder, or delete them")
    log = EventLog(folder)
    last = rows[-1].get("seconds", 0.0)
    for row in rows:
        log.write(row, ended - (last - row.get("seconds", last)))
    log.close()
