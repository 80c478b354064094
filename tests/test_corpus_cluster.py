"""The corpus pipeline under datatrove's executors: same bytes as on one machine."""

import functools
import itertools
import os
import random
import stat

import pytest

from cairn.corpus.pipeline import Build, build
from cairn.corpus.pipeline.cluster import on_cluster
from cairn.corpus.pipeline.job import PHASES
from cairn.corpus.pipeline.recipe import recipe_from

executors = pytest.importorskip("datatrove.executor")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for number in range(6):
        draw = random.Random(number % 4)
        words = " ".join(f"{''.join(draw.choices('abcdefgh', k=5))} on the trail." for _ in range(60))
        (folder / f"{number}.txt").write_text(words, encoding="utf-8")
    steps = [{"kind": "normalize"}, {"kind": "gopher-quality", "min_stop_words": 1}]
    sources = [{"path": str(folder)}]
    return recipe_from(
        {"sources": sources, "steps": steps, "part_bytes": 2500, "vocab_size": 300, "dedup": {"minhash": {"bands": 2}}}
    )


@pytest.fixture(scope="module")
def expected(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "corpus"
    assert build(recipe, out)["duplicates"]["removed"] == 2
    return files_of(out)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_datatrove_on_this_machine_writes_the_same_bytes(recipe, expected, tmp_path):
    on_cluster(
        Build(recipe, tmp_path / "corpus"), functools.partial(executors.LocalPipelineExecutor, workers=1), 2
    ).run()
    assert files_of(tmp_path / "corpus") == expected


@pytest.mark.slow
def test_ray_writes_the_same_bytes(recipe, expected, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        executor = functools.partial(executors.RayPipelineExecutor, workers=2, mem_per_cpu_gb=1)
        on_cluster(Build(recipe, tmp_path / "corpus"), executor, 2).run()
    finally:
        ray.shutdown()
    assert files_of(tmp_path / "corpus") == expected


def test_slurm_gets_one_job_a_phase_each_after_the_one_before(recipe, tmp_path, monkeypatch):
    """A false `sbatch` stands for the cluster; it keeps what it is given."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f'#!/bin/sh\nn=$(ls {jobs} | wc -l)\nfor last; do :; done\ncp "$last" {jobs}/$n\necho "$@" >> {jobs}/$n\n'
        'echo "Submitted batch job $((100 + n))"\n',
        encoding="utf-8",
    )
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
    executor = functools.partial(
        executors.SlurmPipelineExecutor, time="01:00:00", partition="cpu", slurm_logs_folder=str(tmp_path / "slurm")
    )
    last = on_cluster(Build(recipe, tmp_path / "corpus"), executor, 4)
    last.run()
    scripts = {100 + int(p.name): p.read_text(encoding="utf-8") for p in jobs.iterdir()}
    # Beside each phase datatrove submits a small job that adds up its statistics.
    phases = sorted(number for number, script in scripts.items() if "merge_stats" not in script)
    assert len(phases) == len(PHASES) + 1
    assert "--array=0-3" in scripts[phases[2]]  # clean: four ranks
    for before, number in itertools.pairwise(phases):
        assert f"--dependency=afterok:{before} " in scripts[number]
