"""Every dense decoder against `transformers`: the checks of `cairn parity` with more seeds, and that they can fail."""

import json
from dataclasses import replace

import pytest
import torch

from cairn.cli.main import main
from cairn.models import PAGE, PagedCache, Segment, Transformer
from cairn.models.config import ModelConfig, RopeScaling
from cairn.models.families import read_config, write_config
from cairn.parity import Check, all_checks, decoders, positions, run_checks
from cairn.parity.logits import both_ways, randomized, through_the_cache

pytest.importorskip("transformers")
SEEDS = (1, 2)


@pytest.mark.parametrize("check", [*positions.CHECKS, *decoders.CHECKS], ids=lambda check: check.part)
def test_equal_to_the_oracle(check):
    errors = [check.run(seed) for seed in SEEDS]
    assert max(errors) <= check.tolerance, dict(zip(SEEDS, errors))


@pytest.mark.slow
@pytest.mark.parametrize("check", [*positions.CHECKS, *decoders.CHECKS], ids=lambda check: check.part)
def test_equal_to_the_oracle_for_many_seeds(check):
    errors = {seed: check.run(seed) for seed in range(10, 40)}
    assert max(errors.values()) <= check.tolerance, errors


@pytest.mark.parametrize("family", decoders.SAMPLERS)
def test_config_json_is_written_as_it_is_read(family):
    """What we write of their configuration says the same to both of us."""
    import transformers

    for seed in range(20):
        fields = decoders.random_fields(family, seed)
        values = {k: v for k, v in fields.items() if k != "model_type"}
        config = read_config(transformers.AutoConfig.for_model(family, **values).to_dict())
        written = json.loads(json.dumps(write_config(config)))
        assert read_config(written) == config
        again = transformers.AutoConfig.for_model(**{k: v for k, v in written.items() if k != "architectures"})
        assert read_config(again.to_dict()) == config


# --- the checks can fail: a part that is wrong in one thing is seen


WRONG = {
    "mistral": (0, {"window": 0}),
    "qwen3": (0, {"norm_eps": 0.1}),
    "gemma": (0, {"embed_scale": 1.0}),
    "gemma2": (2, {"score_cap": 0.5}),
    "gpt_neox": (0, {"activation": "silu"}),
    "olmo2": (0, {"rope_theta": 1000.0}),
    "llama": (0, {"score_scale": 1.0}),
}


@pytest.mark.parametrize("family", WRONG)
def test_a_wrong_setting_is_seen(family, monkeypatch):
    seed, wrong = WRONG[family]
    fields = decoders.random_fields(family, seed)
    if family == "mistral":
        fields["sliding_window"] = 5
    assert both_ways(fields, seed) <= 1e-4
    monkeypatch.setattr("cairn.models.directory.read_config", lambda data: replace(read_config(data), **wrong))
    assert through_the_cache(fields, seed) > 1e-3


def test_dynamic_scaling_does_not_depend_on_the_batch():
    """A short text beside a long one turns as it would alone."""
    scaling = RopeScaling("dynamic", 4.0)
    config = ModelConfig(vocab_size=99, dim=32, layers=2, heads=2, kv_heads=1, max_positions=20, rope_scaling=scaling)
    model = randomized(Transformer(config), 0)
    torch.manual_seed(0)
    rows = [torch.randint(0, 99, (n,)) for n in (9, 60, 30)]
    tables = [[i * 4 + j for j in range(-(-len(row) // PAGE))] for i, row in enumerate(rows)]
    step = PagedCache(config, 12).step([Segment(table, 0, len(row)) for table, row in zip(tables, rows)])
    with torch.no_grad():
        together = model(torch.cat(rows)[None], step)[0].split([len(row) for row in rows])
        for got, row in zip(together, rows):
            torch.testing.assert_close(got, model(row[None])[0], atol=1e-4, rtol=0)


# --- the command


def test_the_command_prints_and_writes_its_table(tmp_path, capsys):
    assert main(["parity", "--only", "ALiBi", "--json", str(tmp_path / "p.json")]) == 0
    assert "1 right, 0 wrong, 0 skipped" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "p.json").read_text())
    assert row.keys() == {"part", "oracle", "version", "max_error", "tolerance", "ok"}
    assert row["ok"] is True
    assert row["oracle"] == "transformers"
    assert main(["parity", "--only", "nothing like this"]) == 2


def broken(seed):
    raise RuntimeError("fell over")


def test_wrong_broken_and_missing_oracles(tmp_path, capsys, monkeypatch):
    checks = [
        Check("right", "transformers", 0.5, lambda seed: float(seed)),
        Check("wrong", "transformers", 0.5, lambda seed: 1.0),
        Check("no number", "transformers", 0.5, lambda seed: float("nan")),
        Check("broken", "transformers", 0.5, broken),
        Check("missing", "no-such-oracle", 0.5, broken),
    ]
    assert [o.ok for o in run_checks(checks)] == [True, False, False, False, None]
    monkeypatch.setattr("cairn.parity.all_checks", lambda: checks)
    assert main(["parity", "--json", str(tmp_path / "p.json")]) == 1
    out = capsys.readouterr().out
    assert "fell over" in out
    assert "no-such-oracle is not installed" in out
    assert "1 right, 3 wrong, 1 skipped" in out
    rows = json.loads((tmp_path / "p.json").read_text())
    assert [row["max_error"] for row in rows] == [0.0, 1.0, None, None, None]
    assert main(["parity", "--only", "missing"]) == 0


def test_parts_have_names_of_their_own():
    parts = [check.part for check in all_checks()]
    assert len(parts) == len(set(parts))
    assert all(check.tolerance >= 0 for check in all_checks())
