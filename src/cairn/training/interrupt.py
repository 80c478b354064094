"""Ctrl-C, `kill` and a cluster's warning end a run after the step it is in, with a checkpoint of it."""

import signal
import threading
from types import FrameType, TracebackType

from cairn.core.progress import say

# SIGUSR1 is what Slurm is asked to send some time before it takes the machine away (sbatch --signal).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupt:
    """`with Interrupt() as interrupt:` makes a signal set `interrupt.asked`; Ctrl-C a second time interrupts at once.

    The others may come twice by themselves: a cluster signals every process, and torchrun passes its own on.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = True
        say("stopping after this step, with a checkpoint; Ctrl-C once more stops at once, without")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
