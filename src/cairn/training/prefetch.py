"""The next step's batches made while the device works on this one's."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cairn.training.objective import Data, Part


class Prefetch:
    """`data`, with a thread that makes what will most likely be asked for next. Steps may still be asked for in any order.

    What goes wrong in the thread is raised where its batch is asked for. Close it, or use it in a `with` block.
    """

    def __init__(self, data: Data):
        self.data, self.context = data, data.context
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._next: tuple[tuple[int, Part], Future[list[Any]]] | None = None

    def batch(self, step: int, part: Part = Part()) -> list[Any]:
        made = self._next
        if made is not None and made[0] == (step, part):
            batches = made[1].result()
        else:
            if made is not None:
                made[1].cancel()
            batches = self._thread.submit(self.data.batch, step, part).result()  # one thread alone touches the data
        self._next = (step + 1, part), self._thread.submit(self.data.batch, step + 1, part)
        return batches

    def weight(self, batch: Any) -> float:
        return self.data.weight(batch)

    def tokens(self, batch: Any) -> int:
        return self.data.tokens(batch)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
