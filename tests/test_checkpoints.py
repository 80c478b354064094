"""Checkpoints: whole or not used, kept and removed as said, written beside the run, and read under any layout."""

import json
import math
import random
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cairn.core.errors import UserError
from cairn.core.files import fingerprint, hash_file
from cairn.training import checkpoint_files
from cairn.training.checkpoints import Checkpoints
from checkpoint_worker import LOSSES, STATE, Average, Model, Moments, check, leave_at_once, run, save_until_killed
from forks import process


def save(folder: Path, *steps: int, losses: dict[int, float] | None = None, **options) -> None:
    """Checkpoints at `steps`, in which everything is made from the step as a seed."""
    checkpoints = Checkpoints(folder, "same", **options)
    for step in steps:
        model = Model(step)
        checkpoints.save(step, model, Moments(model, step), Average(model), STATE, (losses or {}).get(step))  # type: ignore[arg-type]
    checkpoints.close()


def load(folder: Path, identity: str = "same") -> tuple[dict | None, Model, Moments, Average]:
    model = Model(1000)
    moments, average = Moments(model, 0), Average(model)
    checkpoints = Checkpoints(folder, identity)
    try:
        return checkpoints.load(model, moments, average), model, moments, average  # type: ignore[arg-type]
    finally:
        checkpoints.close()


def loads(folder: Path, step: int) -> None:
    """What is gone on from is, bit for bit, the checkpoint of `step`."""
    state, model, moments, average = load(folder)
    assert state is not None
    assert state["step"] == step
    assert {key: state[key] for key in STATE} == STATE
    check(model, moments, average, step)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is written


def test_round_trip_bit_for_bit(tmp_path):
    save(tmp_path, 3)
    loads(tmp_path, 3)


def test_nothing_there_is_none(tmp_path):
    state, model, moments, _ = load(tmp_path / "none")
    assert state is None
    assert not any(tensor.any() for tensor in moments.tensors.values())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Model(1000).parameters()))


def test_files_are_safetensors_and_json_that_anybody_reads(tmp_path):
    save(tmp_path, 3)
    step = tmp_path / "step-0000003"
    assert names(step) == ["average.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]
    weights, expected = load_file(step / "model.safetensors"), Model(3).state_dict()
    assert weights.keys() == expected.keys() - {"unembed.weight"}  # tied to the embedding: once
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert "up.weight/exp_avg" in load_file(step / "optimizer.safetensors")
    state = json.loads((step / "state.json").read_text())
    assert state["files"] == {path.name: hash_file(path) for path in step.glob("*.safetensors")}


def test_state_that_json_changes_is_not_taken_for_damage(tmp_path):
    model = Model(1)
    checkpoints = Checkpoints(tmp_path, "same")
    checkpoints.save(1, model, Moments(model, 1), Average(model), {"sums": {2: 0.1, 10: (1, 2)}})  # type: ignore[arg-type]
    checkpoints.close()
    state, *_ = load(tmp_path)
    assert state is not None
    assert state["sums"] == {"2": 0.1, "10": [1, 2]}


# --- what is kept


def test_the_newest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 10_000_000, keep=2)
    assert names(tmp_path) == ["step-0000003", "step-10000000"]
    loads(tmp_path, 10_000_000)


def test_the_best_survives_and_is_named(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5, losses={1: 3.0, 2: 1.5, 3: 1.5, 4: math.nan, 5: 2.0}, keep=1, keep_best=True)
    assert names(tmp_path) == ["best.json", "step-0000002", "step-0000005"]
    assert json.loads((tmp_path / "best.json").read_text()) == {"checkpoint": "step-0000002", "step": 2, "loss": 1.5}
    checkpoints = Checkpoints(tmp_path, "same", keep=1, keep_best=True)
    assert checkpoints.last == 5
    model = Model(1000)
    moments, average = Moments(model, 0), Average(model)
    state = checkpoints.load_best(model, moments, average)  # type: ignore[arg-type]
    assert state is not None
    assert state["step"] == 2
    check(model, moments, average, 2)
    checkpoints.save(6, Model(6), Moments(model, 6), Average(model), STATE, 1.0)  # type: ignore[arg-type]
    checkpoints.close()
    assert names(tmp_path) == ["best.json", "step-0000006"]


def test_no_evaluation_no_best(tmp_path):
    save(tmp_path, 1, 2, keep_best=True)
    checkpoints = Checkpoints(tmp_path, "same", keep_best=True)
    model = Model(5)
    assert checkpoints.load_best(model, Moments(model, 0), Average(model)) is None  # type: ignore[arg-type]
    check_unchanged = Model(5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), check_unchanged.parameters()))
    assert names(tmp_path) == ["step-0000001", "step-0000002"]
    checkpoints.close()


def test_damaged_best_is_said_and_nothing_is_changed(tmp_path, capsys):
    save(tmp_path, 1, 2, 3, losses={1: 1.0, 2: 2.0}, keep=1, keep_best=True)
    flip(tmp_path / "step-0000001" / "model.safetensors", -1)
    checkpoints = Checkpoints(tmp_path, "same", keep_best=True)
    model = Model(5)
    assert checkpoints.load_best(model, Moments(model, 0), Average(model)) is None  # type: ignore[arg-type]
    checkpoints.close()
    assert "best checkpoint" in capsys.readouterr().err
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Model(5).parameters()))


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    save(tmp_path, 1, 2)
    half = tmp_path / "step-0000003.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (tmp_path / "best.json.partial").write_text("{")
    (tmp_path / "step-0000002").rename(tmp_path / "step-0000002.old")  # killed between the two renames of a replacement
    loads(tmp_path, 2)
    assert names(tmp_path) == ["step-0000001", "step-0000002"]


# --- damage


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def edit_state(step: Path, **changes) -> None:
    """Change state.json so that its checksum is right again."""
    state = json.loads((step / "state.json").read_text())
    del state["checksum"]
    state |= changes
    (step / "state.json").write_text(json.dumps(state | {"checksum": fingerprint(state)}))


DAMAGE = {
    "bit of a weight": lambda s: flip(s / "model.safetensors", -5, 3),
    "bit of a header": lambda s: flip(s / "optimizer.safetensors", 20),
    "bit of the average": lambda s: flip(s / "average.safetensors", -1, 7),
    "truncated": lambda s: (s / "model.safetensors").write_bytes((s / "model.safetensors").read_bytes()[:-40]),
    "empty": lambda s: (s / "optimizer.safetensors").write_bytes(b""),
    "longer": lambda s: (s / "model.safetensors").write_bytes((s / "model.safetensors").read_bytes() + b"\0"),
    "missing": lambda s: (s / "average.safetensors").unlink(),
    "one too many": lambda s: (s / "model-00001-of-00002.safetensors").write_bytes(b""),
    "no state": lambda s: (s / "state.json").unlink(),
    "half a state": lambda s: (s / "state.json").write_text((s / "state.json").read_text()[:50]),
    "no JSON": lambda s: (s / "state.json").write_bytes(b"\xff\xfe"),
    "other JSON": lambda s: (s / "state.json").write_text("[1]"),
    "bit of the state": lambda s: (s / "state.json").write_text((s / "state.json").read_text().replace("same", "sane")),
    "state without files": lambda s: edit_state(s, files=None),
    "nothing": lambda s: [path.unlink() for path in s.iterdir()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_newest_is_named_and_the_one_before_used(tmp_path, capsys, kind):
    save(tmp_path, 1, 2, 3)
    DAMAGE[kind](tmp_path / "step-0000003")
    loads(tmp_path, 2)
    said = capsys.readouterr().err
    assert "step-0000003 is damaged" in said.replace("\n", "")
    assert names(tmp_path) == ["step-0000002"]  # it would count among the newest that are kept
    save(tmp_path, 3, 4)
    loads(tmp_path, 4)
    assert names(tmp_path) == ["step-0000003", "step-0000004"]


def test_any_flipped_bit_is_found(tmp_path):
    save(tmp_path, 1)
    step, draw = tmp_path / "step-0000001", random.Random(1)
    files = [p for p in step.iterdir() if p.name != "state.json"]
    for _ in range(60):
        path = draw.choice(files)
        position, bit = draw.randrange(path.stat().st_size), draw.randrange(8)
        flip(path, position, bit)
        with pytest.raises(UserError, match="checksum"):
            checkpoint_files.verify_files(step, checkpoint_files.read_state(step)["files"])
        flip(path, position, bit)
    loads(tmp_path, 1)


@pytest.mark.parametrize("change", ["dtype", "shape", "name", "fewer", "more"])
def test_tensors_of_another_model_are_damage(tmp_path, capsys, change):
    """A file that matches its checksum and still does not fit."""
    save(tmp_path, 1, 2)
    path = tmp_path / "step-0000002" / "model.safetensors"
    tensors = load_file(path)
    if change == "dtype":
        tensors["up.bias"] = tensors["up.bias"].half()
    elif change == "shape":
        tensors["up.weight"] = tensors["up.weight"].T.contiguous()
    elif change == "more":
        tensors["up.extra"] = torch.zeros(2)
    else:
        moved = tensors.pop("up.bias")
        tensors |= {"up.bia": moved} if change == "name" else {}
    save_file(tensors, path)
    files = {p.name: hash_file(p) for p in path.parent.glob("*.safetensors")}
    edit_state(path.parent, files=files)
    loads(tmp_path, 1)
    assert "up." in capsys.readouterr().err


def test_all_damaged_is_an_error_and_nothing_is_thrown_away(tmp_path):
    save(tmp_path, 1, 2)
    for step in tmp_path.iterdir():
        flip(step / "optimizer.safetensors", -1)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole; delete"):
        load(tmp_path)
    assert names(tmp_path) == ["step-0000001", "step-0000002"]


def test_other_settings_are_refused_by_name(tmp_path):
    save(tmp_path / "run" / "checkpoints", 1)
    with pytest.raises(UserError, match=r"run holds a run with other settings"):
        load(tmp_path / "run" / "checkpoints", identity="another")
    loads(tmp_path / "run" / "checkpoints", 1)


# --- beside the run


class Gate:
    """Holds the writer until it is opened."""

    def __init__(self, monkeypatch):
        self.opened, self.entered, self.writing, self.most = threading.Event(), threading.Event(), 0, 0
        write = checkpoint_files.save_tensors

        def slow(*args):
            self.writing += 1
            self.most = max(self.most, self.writing)
            self.entered.set()
            assert self.opened.wait(20)
            write(*args)
            self.writing -= 1

        monkeypatch.setattr(checkpoint_files, "save_tensors", slow)


def test_what_changes_after_save_is_not_in_it(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    model = Model(1)
    moments, average = Moments(model, 1), Average(model)
    checkpoints = Checkpoints(tmp_path, "same")
    checkpoints.save(1, model, moments, average, STATE)  # type: ignore[arg-type]
    assert gate.entered.wait(20)  # the write is under way, and the run goes on
    assert checkpoints.last is None
    with torch.no_grad():
        for tensor in [*model.state_dict().values(), *moments.tensors.values(), *average.kept.values()]:
            tensor.add_(1)
    gate.opened.set()
    checkpoints.close()
    loads(tmp_path, 1)


def test_one_write_at_a_time_into_the_same_memory(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    model = Model(1)
    moments, average = Moments(model, 1), Average(model)
    checkpoints = Checkpoints(tmp_path, "same")
    checkpoints.save(1, model, moments, average, STATE)  # type: ignore[arg-type]
    places = {name: buffer.data_ptr() for name, buffer in checkpoints._copies.items()}
    assert gate.entered.wait(20)
    threading.Timer(0.05, gate.opened.set).start()
    for step in (2, 3):
        checkpoints.save(step, model, moments, average, STATE)  # type: ignore[arg-type]
        assert checkpoints.last is not None
        assert checkpoints.last >= step - 1  # the one before was waited for
        assert {name: buffer.data_ptr() for name, buffer in checkpoints._copies.items()} == places
    checkpoints.close()
    assert gate.most == 1
    assert names(tmp_path) == ["step-0000002", "step-0000003"]


@pytest.mark.parametrize("told_by", ["save", "close"])
def test_an_error_of_the_writer_is_raised_and_the_older_stay(tmp_path, monkeypatch, told_by):
    save(tmp_path, 1)
    model = Model(2)
    moments, average = Moments(model, 2), Average(model)
    checkpoints = Checkpoints(tmp_path, "same")

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint_files, "save_tensors", full)
    checkpoints.save(2, model, moments, average, STATE)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space left"):
        checkpoints.close() if told_by == "close" else checkpoints.save(3, model, moments, average, STATE)  # type: ignore[arg-type]
    checkpoints.close()  # it was told once
    assert names(tmp_path) == ["step-0000001"]
    monkeypatch.undo()
    loads(tmp_path, 1)


def test_a_normal_end_of_the_process_waits(tmp_path):
    child = process(leave_at_once, tmp_path)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    loads(tmp_path, 1)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_file_there_is_nothing_half_made(tmp_path, capsys, every):
    """Killed before each thing that is done to a file: the newest is whole, and the best is there."""
    before = 0
    for count in range(1, 1000, every):
        folder = tmp_path / str(count)
        child = process(save_until_killed, folder, count)
        child.start()
        child.join(60)
        if child.exitcode == 0:  # fewer things are done
            break
        assert child.exitcode == -signal.SIGKILL
        checkpoints = Checkpoints(folder, "same", keep=1, keep_best=True)
        step = checkpoints.last or 0
        if step:
            loads(folder, step)
            model = Model(1000)
            best = checkpoints.load_best(model, Moments(model, 0), Average(model))  # type: ignore[arg-type]
            assert best is not None
            assert best["step"] == min(range(1, step + 1), key=LOSSES.__getitem__)
        checkpoints.close()
        assert not list(folder.glob("*.partial"))
        assert step >= before
        before = step
    assert before >= 3
    assert "damaged" not in capsys.readouterr().err


# --- another number of processes


def together(size: int, folder: Path, jobs: list[tuple[str, str, Path, int]]) -> None:
    store = folder / f"store-{len(list(folder.iterdir()))}"
    processes = [process(run, rank, size, store, jobs) for rank in range(size)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(240)
        one.kill()  # only one that hangs is still there
    assert [one.exitcode for one in processes] == [0] * size


def test_saved_by_two_read_by_one_and_three(tmp_path):
    divided, staged, one = tmp_path / "shard", tmp_path / "pipeline", tmp_path / "one"
    together(2, tmp_path, [("save", "shard", divided, 7), ("save", "pipeline", staged, 8)])
    assert names(divided / "step-0000007") == [
        f"{part}-0000{k}-of-00002.safetensors" for part in ("average", "model", "optimizer") for k in (1, 2)
    ] + ["state.json"]
    loads(divided, 7)
    loads(staged, 8)
    save(one, 9)
    together(3, tmp_path, [("load", "tensor", divided, 7), ("load", "shard", one, 9)])


LAYOUTS = {1: ["plain"], 2: ["plain", "shard", "tensor", "pipeline"], 3: ["shard", "tensor", "pipeline"], 4: ["both"]}


@pytest.mark.slow
def test_every_layout_reads_every_other(tmp_path):
    folders = {(size, layout): tmp_path / f"{layout}-{size}" for size in LAYOUTS for layout in LAYOUTS[size]}
    for size in LAYOUTS:
        together(size, tmp_path, [("save", layout, folders[size, layout], 7) for layout in LAYOUTS[size]])
    for size in LAYOUTS:
        together(size, tmp_path, [("load", layout, path, 7) for layout in LAYOUTS[size] for path in folders.values()])


def test_damage_that_one_process_finds_is_damage_for_all(tmp_path):
    for step in (1, 2):
        together(2, tmp_path, [("save", "shard", tmp_path / "run", step)])
    (piece,) = (tmp_path / "run" / "step-0000002").glob("optimizer-00002*")  # the second process verifies this one
    flip(piece, -1)
    together(2, tmp_path, [("load", "shard", tmp_path / "run", 1)])
    assert names(tmp_path / "run") == ["step-0000001"]


def test_weights_alone_are_a_checkpoint_too(tmp_path):
    """SGD without momentum has no state."""
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    none = Moments(nn.Identity(), 0)
    save_one = Checkpoints(tmp_path, "same")
    save_one.save(1, model, none, None, {})  # type: ignore[arg-type]
    save_one.close()
    assert Checkpoints(tmp_path, "same").load(other, none, None) is not None  # type: ignore[arg-type]
    assert torch.equal(model.weight, other.weight)
    assert names(tmp_path / "step-0000001") == ["model.safetensors", "state.json"]
