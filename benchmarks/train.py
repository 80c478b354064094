"""Training speed and memory of cairn's trainer, against a plain loop and a loop over `transformers`, in the same run.

    python benchmarks/train.py [--quick] [--json FILE]

Three processes train the same GPT-2 shape from random weights with AdamW, clipping and the same rows, and take turns of a
few steps each, so that a busy machine disturbs all alike. `nanoGPT-style` is a plain loop in the manner of nanoGPT: fused
attention, one matrix for queries, keys and values, logits of the whole batch, torch's AdamW. `transformers` is
GPT2LMHeadModel in the manner of its Trainer: the model computes the loss, fused AdamW, a schedule. Ours is
`cairn.training.train`. Rows of fp32 and bf16 compare like with like, all three in that format. Rows of auto are what each
does when it is told nothing: the loops compute in float32, ours in bfloat16 where the CPU multiplies it (only there are these
rows). "peak" is the most memory a process took above what it held before the model was made.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import torch
from measure import Row, main, row

from cairn.core.compute import cpu_multiplies_bf16

# name: vocabulary, width, layers, heads, rows, tokens a row
SHAPES = {
    "1M": (2048, 128, 4, 4, 16, 256),
    "14M": (8192, 384, 6, 6, 8, 256),
    "16M, vocabulary 50k": (50257, 256, 4, 4, 8, 256),
    "GPT-2 124M": (50257, 768, 12, 12, 2, 512),
}
GOALS = {"1M": 1.3, "14M": 1.3, "16M, vocabulary 50k": 1.3, "GPT-2 124M": 1.15}
STEPS = {"1M": 4, "14M": 1, "16M, vocabulary 50k": 1, "GPT-2 124M": 1}  # of a turn
PEERS = ("ours", "nanoGPT-style loop", "transformers loop")


class Process:
    """One trainer in a process of its own that works when it is told to."""

    def __init__(self, peer: str, shape: str, threads: int, precision: str):
        script = str(Path(__file__).with_name("train_peers.py"))
        command = [sys.executable, script, peer, precision, str(threads), str(STEPS[shape])]
        self.child = subprocess.Popen(
            [*command, *map(str, SHAPES[shape])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self) -> float:
        """Run a few steps; seconds."""
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        return float(self._line())

    def end(self) -> float:
        """Megabytes at the peak."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        peak = float(self._line())
        self.child.wait()
        return peak

    def _line(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.child.args} ended early")
        return line


def compare(shape: str, threads: int, turns: int, precision: str = "fp32") -> list[Row]:
    _, _, _, _, rows, width = SHAPES[shape]
    processes = [Process(peer, shape, threads, precision) for peer in PEERS]
    times: list[list[float]] = [[] for _ in PEERS]
    for _ in range(turns + 1):  # the first turn warms up
        for process, seconds in zip(processes, times):
            seconds.append(process.turn())
    speed = [STEPS[shape] * rows * width / statistics.median(seconds[1:]) for seconds in times]
    peak = [process.end() for process in processes]
    out = []
    for peer, theirs, memory in list(zip(PEERS, speed, peak))[1:]:
        name = f"{shape}, {precision}, {threads} thread{'s' * (threads > 1)}"
        out.append(row(name, peer, speed[0], theirs, "tokens/s", GOALS[shape], less_is_better=False))
        goal = 1 / 0.7 if SHAPES[shape][0] > 50_000 and "124M" not in shape else 1.0
        out.append(row(f"{name}, peak", peer, peak[0], memory, "MB", round(goal, 2), less_is_better=True))
    return out


def measure(quick: bool) -> list[Row]:
    if quick:
        return compare("1M", 1, 2)
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        for shape in SHAPES:
            rows += compare(shape, threads, 3 if "124M" in shape else 7)
        if cpu_multiplies_bf16():  # elsewhere it has to be imitated, and is slower
            for precision in ("auto", "bf16"):
                for shape in ("1M", "14M", "16M, vocabulary 50k"):
                    rows += compare(shape, threads, 7, precision)
    return rows


if __name__ == "__main__":
    assert __doc__
    main(__doc__, measure)
