"""A run killed with SIGKILL anywhere goes on as if nothing had happened: weights and metrics equal, bit for bit."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cairn.core.files import hash_file
from cairn.planning.layout import Layout
from forks import process
from kill_worker import go, go_as

ADAMW = {"optimizer": "adamw", "lr": 1e-2, "evaluate_every": 6, "keep_best": True}
MUON = {"optimizer": "muon", "lr": 1e-2}
LIMIT = 120  # seconds that no run here needs


def uninterrupted(run: Path, settings: dict) -> Path:
    child = process(go, run, settings)
    child.start()
    child.join(LIMIT)
    assert child.exitcode == 0
    return run


def started(*arguments) -> tuple:
    """A run that is loading its first batch."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = process(*arguments, sender)
    child.start()
    assert receiver.poll(LIMIT)
    return child, receiver.recv()


def killed(run: Path, settings: dict, kind: str, draw: random.Random) -> None:
    """Start the run, or go on with it, and kill it: in the middle of a batch, of a file, between files, or anywhere."""
    if kind == "time":
        child, _ = started(go, run, settings, "", 0)
        time.sleep(draw.uniform(0, 0.15))
        child.kill()
    else:
        child = process(go, run, settings, kind, draw.randint(1, {"batch": 7, "file": 60, "half": 7}[kind]))
        child.start()
    child.join(LIMIT)
    assert child.exitcode == -signal.SIGKILL, "it was to be killed before it ended: give it more steps"


def rows(run: Path) -> list[tuple]:
    """What a step determines of metrics.jsonl; the rest is time."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["grad_norm"], r["rate"], r["tokens"], r.get("valid_loss")) for r in found]


def assert_equal(run: Path, whole: Path) -> None:
    assert rows(run) == rows(whole)
    steps = [row[0] for row in rows(run)]
    assert steps == sorted(set(steps))
    assert hash_file(run / "final.safetensors") == hash_file(whole / "final.safetensors")


def kill_often(tmp_path: Path, settings: dict, kinds: list[str], seed: int) -> None:
    whole, run, draw = uninterrupted(tmp_path / "whole", settings), tmp_path / "run", random.Random(seed)
    halves = 0
    for kind in kinds:
        killed(run, settings, kind, draw)
        halves += len(list((run / "checkpoints").glob("*.partial")))
    assert halves >= kinds.count("half")  # killed while a checkpoint was being written
    uninterrupted(run, settings)
    assert_equal(run, whole)
    assert not list(run.rglob("*.partial"))


def test_four_kills(tmp_path):
    kill_often(tmp_path, ADAMW | {"steps": 40}, ["half", "batch", "file", "time"], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
def test_twenty_kills(tmp_path, settings):
    kinds = ["time"] * 8 + ["file"] * 5 + ["batch"] * 4 + ["half"] * 3
    random.Random(2).shuffle(kinds)
    kill_often(tmp_path, settings | {"steps": 150}, kinds, seed=3)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupt_ends_with_a_checkpoint_of_the_step_it_is_in(tmp_path, number):
    settings = MUON | {"steps": 40}
    whole, run = uninterrupted(tmp_path / "whole", settings), tmp_path / "run"
    child, _ = started(go, run, settings, "", 0)
    time.sleep(0.05)
    os.kill(child.pid, number)
    child.join(LIMIT)
    assert child.exitcode == 130
    newest = max((run / "checkpoints").glob("step-*"))
    assert not list((run / "checkpoints").glob("*.partial"))
    stopped = json.loads((newest / "state.json").read_text())["step"]
    child, first = started(go, run, settings, "", 0)
    child.join(LIMIT)
    assert first == stopped  # steps are counted from 0: the next one
    assert_equal(run, whole)


# --- several processes


@pytest.fixture
def ports() -> list[int]:
    """Free ones."""
    sockets = [socket.socket() for _ in range(3)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def pair(run: Path, settings: dict, port: int, kind: str = "", count: int = 0) -> list[int | None]:
    """Two processes; the second is killed as `go` says. When one has ended badly, torchrun ends the other: so do we."""
    children = [process(go_as, 0, 2, port, run, settings), process(go_as, 1, 2, port, run, settings, kind, count)]
    for child in children:
        child.start()
    children[1].join(LIMIT)
    if children[1].exitcode:
        children[0].kill()
    children[0].join(LIMIT)
    return [child.exitcode for child in children]


@pytest.mark.parametrize(
    ("layout", "kind", "count"),
    [("shard", "batch", 11), pytest.param("data", "half", 5, marks=pytest.mark.slow)],
    ids=["shard", "data"],
)
def test_one_of_two_processes_killed(tmp_path, ports, layout, kind, count):
    """Resumed by two it is the same run bit for bit; resumed by one, up to the order of sums."""
    settings = MUON | {"steps": 14, "dropout": 0.0}
    two = settings | {"parallel": Layout(**{layout: 2})}
    assert pair(tmp_path / "whole", two, ports[0]) == [0, 0]
    assert pair(tmp_path / "run", two, ports[1], kind, count)[1] == -signal.SIGKILL
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    assert pair(tmp_path / "run", two, ports[2]) == [0, 0]
    assert_equal(tmp_path / "run", tmp_path / "whole")
    child, first = started(go, tmp_path / "alone", settings, "", 0)
    child.join(LIMIT)
    assert first in (3, 6, 9)  # the last that was whole when the second was killed
    weights, expected = (load_file(tmp_path / name / "final.safetensors") for name in ("alone", "whole"))
    for name in expected:
        assert (weights[name] - expected[name]).abs().max() < 1e-4, name
