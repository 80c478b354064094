"""The journey on its smallest preset: all stages, loadable by transformers, killed at random and bit for bit the same."""

import hashlib
import json
import random
import re
import subprocess
import sys
import time

import pytest
import torch
import transformers

from cairn.models import load

STAGES = ("pretrain", "continue", "sft", "dpo")
KILLS = 10


def command(out, *more):
    return [
        sys.executable,
        "-m",
        "cairn.cli.main",
        "journey",
        "--preset",
        "pebble",
        "--threads",
        "1",
        "--out",
        str(out),
        *more,
    ]


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """(directory, seconds, standard output) of an uninterrupted journey."""
    out = tmp_path_factory.mktemp("journey") / "run"
    began = time.monotonic()
    done = subprocess.run(command(out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, time.monotonic() - began, done.stdout


def hashes(out):
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("*/*.safetensors"))
    }


def losses(out):
    rows = {}
    for stage in STAGES:
        lines = (out / f"{stage}.run" / "metrics.jsonl").read_text().splitlines()
        rows[stage] = [(r["step"], r["loss"], r["grad_norm"], r["tokens"]) for r in map(json.loads, lines)]
    return rows


def test_killed_ten_times_it_ends_with_the_same_weights(journey, tmp_path):
    whole, seconds, _ = journey
    out = tmp_path / "run"
    rng = random.Random(1)
    moments = []
    while len(moments) < KILLS:
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Most kills fall into the work, some into the start; a journey that ended before its kill was not killed.
        wait = rng.uniform(0.5, max(4.0, seconds * 0.45))
        try:
            process.wait(timeout=wait)
            if process.returncode == 0 and len(moments) >= KILLS // 2:
                break  # arrived in spite of the kills
            assert process.returncode == 0
            moments.append(None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            moments.append(wait)
    assert sum(m is not None for m in moments) >= 5
    last = subprocess.run(command(out), capture_output=True, text=True)
    assert last.returncode == 0, last.stderr[-3000:]
    assert hashes(out) == hashes(whole)
    assert losses(out) == losses(whole)
    assert not list(out.rglob("*.partial")), "something half-written was left behind"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_loads_in_transformers(journey, stage):
    out, _, _ = journey
    model, tokenizer = load(out / stage)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(out / stage).eval()
    words = transformers.AutoTokenizer.from_pretrained(out / stage)
    text = "def stone(weight):\n    return 'naïve 12' # of a cairn"
    assert words(text)["input_ids"] == tokenizer.encode(text)
    talk = [{"role": "user", "content": "Which module has urlparse?"}]
    assert words.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == tokenizer.render_chat(
        talk, add_generation_prompt=True
    )
    ids = torch.tensor([tokenizer.encode_chat(talk) + tokenizer.encode(text)])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), oracle(ids).logits, atol=1e-4, rtol=0)


def test_summary_holds_every_figure(journey):
    out, _, printed = journey
    summary = json.loads((out / "summary.json").read_text())
    assert [s["name"] for s in summary["stages"]] == list(STAGES)
    for stage in summary["stages"]:
        assert (out / stage["directory"] / "config.json").exists()
        assert stage["seconds"] > 0
        for kind in ("general", "domain"):
            assert 0 < stage[kind]["low"] <= stage[kind]["bits_per_byte"] <= stage[kind]["high"]
        assert len(stage["skills"]) >= 8
        for score in [*stage["skills"].values(), stage["mean"]]:
            assert {"score", "chance", "n", "low", "high"} <= set(score)
            assert score["n"] > 0
    assert 0 < summary["xz"]["bits_per_byte"] < 8 == summary["chance_bits_per_byte"]
    assert [p["name"] for p in summary["precisions"]] == ["float32", "INT8", "INT4"]
    sizes = [p["bytes"] for p in summary["precisions"]]
    assert sizes[0] > sizes[1] > sizes[2]
    assert all(p["tokens_per_second"] > 0 and p["bits_per_byte"] > 0 for p in summary["precisions"])
    assert {"without", "with", "recall"} <= set(summary["retrieval"])
    for word in ("cairn chat", "cairn serve", "report.html", "pretrain", "continue", "sft", "dpo"):
        assert word in printed


def test_report_is_self_contained(journey):
    out, _, _ = journey
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)([^"']+)""", page)
    assert not outside
    assert not re.search(r"url\(\s*['\"]?https?:", page)


def test_complete_steps_are_not_run_again(journey):
    out, _, _ = journey
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    again = subprocess.run(command(out), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")} == before


def test_other_settings_are_refused_by_name(journey):
    out, _, _ = journey
    done = subprocess.run(command(out, "--sft.items", "300"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "sft.items: 3000 -> 300" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("cairn:")]) == 1
    assert "Traceback" not in done.stderr


def test_a_stage_alone_gives_the_same_model(journey, tmp_path):
    """`cairn sft` with the journey's settings is the journey's stage: the same code, the same bits."""
    out, _, _ = journey
    recipe = json.loads((out / "journey.json").read_text())["recipe"]["sft"]
    lines = [f"{k} = {json.dumps(v)}" for k, v in recipe.items() if k != "train"]
    train = recipe["train"]
    lines += ["[train]"] + [f"{k} = {json.dumps(v)}" for k, v in train.items() if k != "parallel"]
    lines += ["[train.parallel]"] + [f"{k} = {json.dumps(v)}" for k, v in train["parallel"].items()]
    (tmp_path / "sft.toml").write_text("\n".join(lines))
    words = ["sft", "--model", out / "continue", "--corpus", out / "corpus", "--out", tmp_path / "mine"]
    words += ["--recipe", tmp_path / "sft.toml", "--threads", "1"]
    done = subprocess.run([sys.executable, "-m", "cairn.cli.main", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert hashes(tmp_path)["mine/model.safetensors"] == hashes(out)["sft/model.safetensors"]


def test_a_mistaken_start_can_be_corrected(tmp_path):
    """Before there is a corpus there is nothing to lose: other settings begin anew instead of being refused."""
    import dataclasses

    from cairn.core.errors import UserError
    from cairn.journey.recipe import RECIPES
    from cairn.journey.run import Journey

    right = RECIPES["pebble"]
    wrong = dataclasses.replace(right, corpus=dataclasses.replace(right.corpus, data=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="nowhere"):
        Journey(wrong, tmp_path / "run", threads=1).run()
    assert Journey(right, tmp_path / "run").recipe == right
    (tmp_path / "run" / "corpus").mkdir()
    with pytest.raises(UserError, match=r"corpus\.data"):
        Journey(wrong, tmp_path / "run")
