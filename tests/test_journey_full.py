"""The default journey reaches the figures it promises. Minutes long: `make test-all` runs it."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    out = tmp_path_factory.mktemp("journey") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "cairn.cli.main", "journey", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def stages(summary):
    return {stage["name"]: stage for stage in summary["stages"]}


def test_base_model_beats_the_compressor(summary, stages):
    bits = stages["pretrain"]["general"]["bits_per_byte"]
    assert bits < 2.10
    assert bits < summary["xz"]["bits_per_byte"] < 8


def test_continued_pretraining_gains_on_the_domain(stages):
    before, after = (stages[name]["domain"]["bits_per_byte"] for name in ("pretrain", "continue"))
    assert before - after >= 0.1


def test_fine_tuning_teaches_the_skills(stages):
    assert stages["continue"]["mean"]["score"] < 0.1
    assert stages["sft"]["mean"]["score"] >= 0.65
    assert stages["sft"]["skills"]["reading"]["score"] > 0.60
    assert stages["sft"]["skills"]["declining"]["score"] > 0.90


def test_preferences_carry_over_and_cost_nothing(summary, stages):
    assert summary["dpo"]["accuracy"]["score"] > 0.75
    # "not lower" within what n questions can tell
    assert stages["dpo"]["mean"]["score"] >= stages["sft"]["mean"]["low"]


def test_quantization_costs_little(summary):
    cost = {p["name"]: p["cost"] for p in summary["precisions"]}
    assert cost["INT8"] < 0.01
    assert cost["INT4"] < 0.15


def test_retrieval_grounds(summary):
    assert summary["retrieval"]["with"]["score"] - summary["retrieval"]["without"]["score"] >= 0.40
