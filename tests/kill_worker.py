"""The run that tests/test_kill.py kills: small, with everything in it that a checkpoint has to carry."""

import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cairn.core.tensors import save_tensors
from cairn.models import Transformer, preset
from cairn.training import checkpoint_files
from cairn.training.causal import CausalLM, TokenBatch
from cairn.training.objective import Part
from cairn.training.trainer import TrainConfig, train
from forks import Countdown, count_file_events

ROWS, CONTEXT = 8, 16
WHOLE = Part()


class SlowData:
    """Rows that are a function of the step and take a moment to come; `loading` is called halfway."""

    context = CONTEXT

    def __init__(self, loading: Countdown, started: Connection | None):
        self.loading, self.started = loading, started

    def batch(self, step: int, part: Part = WHOLE) -> list[TokenBatch]:
        if self.started:
            self.started.send(step)
            self.started = None
        time.sleep(0.002)
        self.loading()
        time.sleep(0.002)
        first = torch.randint(0, 50, (ROWS, 1), generator=torch.Generator().manual_seed(step))
        rows = (
            first + torch.arange(CONTEXT + 1)
        ) % 50  # counting: soon learned, so that the best evaluation is a late one
        mine = rows[part.index :: part.count]
        halves = mine.chunk(2)  # two micro-batches
        return [TokenBatch(h[:, :-1], h[:, 1:], h[:, 1:].numel()) for h in halves]

    def weight(self, batch: TokenBatch) -> float:
        return batch.counted

    def tokens(self, batch: TokenBatch) -> int:
        return batch.inputs_BT.numel()


def halve_files(write: Countdown) -> None:
    """Call `write` when half of a tensor file is on the disk."""

    def save_half(tensors: dict, path: Path, metadata: dict) -> None:
        save_tensors(tensors, path, metadata)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        write()
        path.write_bytes(whole)

    checkpoint_files.save_tensors = save_half  # type: ignore[assignment]


def go(run: Path, settings: dict, kind: str = "", count: int = 0, started: Connection | None = None) -> None:
    """Train to the end and leave the weights in run/final.safetensors, unless killed on the way.

    kind, count: kill this process in the middle of loading the count-th batch ("batch"), at the count-th thing done to a file
    of the run ("file"), or when half of the count-th tensor file is written ("half"). started: is told when the first batch
    is loaded. Exits with 130 when interrupted.
    """
    torch.set_num_threads(1)
    assert threading.active_count() == 1
    run.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        count_file_events(run, Countdown(count))
    if kind == "half":
        halve_files(Countdown(count))
    model = Transformer(preset("pebble")).initialize(3)
    fixed = {
        "log_every": 2,
        "checkpoint_every": 3,
        "warmup": 3,
        "dropout": 0.1,
        "ema": 0.9,
        "device": "cpu",
        "precision": "fp32",
    }
    config = TrainConfig(**fixed | settings)
    data = SlowData(Countdown(count if kind == "batch" else 0), started)

    def evaluate(model: Transformer) -> dict[str, float]:
        (batch, _) = SlowData(Countdown(0), None).batch(10**6)
        with torch.no_grad():
            loss, _ = CausalLM().loss(model, batch)
        return {"valid_loss": float(loss) / batch.counted}

    try:
        train(model, CausalLM(), data, config, run, title="run", inputs="same", evaluate=evaluate)
    except KeyboardInterrupt:
        sys.exit(130)
    if os.environ.get("RANK", "0") == "0":
        save_tensors({name: p.detach() for name, p in model.named_parameters()}, run / "final.safetensors")


def go_as(rank: int, size: int, port: int, *arguments) -> None:
    """`go` as torchrun starts it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    go(*arguments)
