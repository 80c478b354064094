"""Typed configuration, files that are whole or absent, scores."""

import argparse
import json
import os
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core.config import add_options, from_dict, option, read_options, read_toml, to_dict
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, atomic_file, read_json, write_json
from cairn.core.record import MetricsLog, read_metrics
from cairn.core.stats import wilson


@dataclass(frozen=True)
class Inner:
    rate: float = option(0.1, "a rate", minimum=0)


@dataclass(frozen=True)
class Outer:
    steps: int = option(10, "steps", minimum=1)
    kind: str = option("a", "a choice", choices=("a", "b"))
    on: bool = option(False, "a switch")
    many: tuple[str, ...] = option((), "several")
    maybe: int | None = option(None, "perhaps")
    inner: Inner = option(Inner(), "a part")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 1}, "did you mean 'steps'"),
        ({"steps": "3"}, "steps must be of type int"),
        ({"steps": True}, "steps must be of type int"),
        ({"steps": 0}, "at least 1"),
        ({"kind": "c"}, "one of a, b"),
        ({"inner": {"rat": 1}}, "inner.rat"),
        ({"inner": {"rate": float("nan")}}, "at least 0"),
        ({"inner": 3}, "table"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(Outer, values)


@given(st.integers(1, 10**6), st.sampled_from("ab"), st.booleans(), st.floats(0, 1), st.none() | st.integers())
def test_settings_survive_json(steps, kind, on, rate, maybe):
    config = Outer(steps, kind, on, ("x", "y"), maybe, Inner(rate))
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_command_line_wins_over_recipe_and_leaves_the_rest(tmp_path):
    (tmp_path / "r.toml").write_text('steps = 7\nkind = "b"\n[inner]\nrate = 1\n')
    base = from_dict(Outer, read_toml(tmp_path / "r.toml"))
    parser = argparse.ArgumentParser()
    add_options(parser, Outer, base)
    assert "default: 7" in parser.format_help()
    typed = parser.parse_args(["--inner.rate", "0.5", "--on", "--many", "p", "q"])
    assert read_options(Outer, typed, base) == Outer(7, "b", True, ("p", "q"), None, Inner(0.5))


def test_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_file(path) as handle:
        handle.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_tensors_can_be_read_by_those_who_can_read_the_files_beside_them(umask, tmp_path):
    import torch
    from safetensors.torch import load_file

    from cairn.core.tensors import save_tensors

    before = os.umask(umask)
    try:
        with atomic_directory(tmp_path / "d") as d:
            write_json(d / "config.json", {})
            for value in (1.0, 2.0):  # anew, and over an older one
                save_tensors({"a": torch.full((2,), value)}, d / "model.safetensors")
    finally:
        os.umask(before)
    config, weights = (tmp_path / "d" / name for name in ("config.json", "model.safetensors"))
    assert weights.stat().st_mode == config.stat().st_mode
    assert load_file(weights)["a"].tolist() == [2.0, 2.0]


def test_tensors_that_cannot_be_written_leave_nothing(tmp_path, monkeypatch):
    import torch

    from cairn.core import tensors

    def full(*_, **__):
        raise tensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        tensors.save_tensors({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        tensors.save_tensors({"a": torch.ones(2)}, tmp_path / "none" / "x.safetensors")
    assert os.listdir(tmp_path) == []


def test_directory_is_whole_or_absent(tmp_path):
    path = tmp_path / "d"
    for content in ("one", "two"):
        with atomic_directory(path) as d:
            (d / "x").write_text(content)
    with pytest.raises(RuntimeError), atomic_directory(path) as d:
        (d / "x").write_text("three")
        raise RuntimeError
    assert (path / "x").read_text() == "two"
    assert os.listdir(tmp_path) == ["d"]


def test_directory_survives_a_kill_between_its_two_renames(tmp_path):
    path = tmp_path / "d"
    with atomic_directory(path) as d:
        (d / "x").write_text("one")
    os.rename(path, tmp_path / "d.old")  # as if killed after the old one was moved aside
    (tmp_path / "d.partial").mkdir()
    with pytest.raises(RuntimeError), atomic_directory(path):
        raise RuntimeError
    assert (path / "x").read_text() == "one"


def test_json_errors_name_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"half": ')
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_half_a_line_of_metrics_is_left_out(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write({"step": 1})
    log.close()
    with open(tmp_path / "m.jsonl", "a") as handle:
        handle.write('{"step": 2, "lo')
    assert read_metrics(tmp_path / "m.jsonl") == [{"step": 1}]


@given(st.integers(1, 500), st.data())
def test_interval_contains_the_score(n, data):
    k = data.draw(st.integers(0, n))
    score = wilson(k, n, 0.5)
    assert 0 <= score.low <= score.score + 1e-4
    assert score.score - 1e-4 <= score.high <= 1


def test_a_table_that_may_be_absent():
    from cairn.models import ModelConfig

    config = from_dict(ModelConfig, {"rope_scaling": {"kind": "linear", "factor": 2.0}})
    assert (config.rope_scaling.kind, config.rope_scaling.factor) == ("linear", 2.0)
    assert from_dict(ModelConfig, {"rope_scaling": None}, config).rope_scaling is None
    with pytest.raises(UserError, match=r"rope_scaling\.factr"):
        from_dict(ModelConfig, {"rope_scaling": {"factr": 2.0}})
    assert from_dict(ModelConfig, to_dict(config)) == config
