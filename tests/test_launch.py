"""Job files: the shell gives every word on as it was typed, the schedulers' schemas accept them, and what is killed goes on."""

import ast
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.cli.main import main
from cairn.planning.launch import TARGETS, JobConfig, check_layout
from cairn.planning.launch.yaml import to_yaml
from cairn.planning.layout import Layout

AWKWARD = 'it\'s a "path"; rm -rf $HOME `id`\nand $(more) \\ 🪨'
PRETRAIN = ["cairn", "pretrain", "--corpus", AWKWARD, "--tokenizer", "t", "--out", "runs/base"]
ON_VOLUMES = ["pretrain", "--corpus", "/data/my corpus", "--tokenizer", "/data/t", "--out", "/data/runs/base"]
IMAGE = {
    "kubernetes": ["--kubernetes.image", "registry/cairn:1", "--kubernetes.volumes", "claim:/data"],
    "ray": ["--ray.image", "registry/cairn:1", "--ray.volumes", "claim:/data"],
}


def launch(target, out, *options, command=PRETRAIN, code=0):
    assert main(["launch", target, "--out", str(out), *map(str, options), "--", *command]) == code


def refused(capsys, target, out, *options, command=PRETRAIN):
    """The one line that says why, and that nothing was written."""
    launch(target, out, *options, command=command, code=2)
    assert not out.exists()
    return capsys.readouterr().err


def executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def recorder(tmp_path):
    """A program that stands for Python and keeps the words it is given."""
    return executable(
        tmp_path / "bin" / "recorder",
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], os.getcwd(), dict(os.environ)], open({str(tmp_path / 'words.json')!r}, 'w'))\n",
    )


# --- YAML


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
traps = st.sampled_from(
    ["yes", "NO", "~", "1e5", "0x1", "1:20", "2001-01-01", "- a", "a: b", "#x", "a\n\n  b\n", " a\nb\n"]
)
values = st.recursive(
    scalars | traps,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | traps, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(values)
def test_yaml_reads_back_as_what_it_was(value):
    assert yaml.safe_load(to_yaml(value)) == value


def test_yaml_refuses_what_it_cannot_say():
    with pytest.raises(TypeError, match="object"):
        to_yaml({"a": object()})


# --- the script of a node


def test_a_script_gives_on_every_word_and_setting(tmp_path):
    options = ["--nodes", 2, "--gpus", 4, "--python", recorder(tmp_path), "--env", f"NOTE={AWKWARD}", "--port", 1234]
    launch("torchrun", tmp_path / "my job", *options, command=[*PRETRAIN, "--train.parallel.shard", "8"])
    there = {**os.environ, "HEAD": "first.node", "NODE_RANK": "1"}
    subprocess.run([tmp_path / "my job" / "run.sh"], env=there, cwd="/", check=True)
    words, folder, environment = json.loads((tmp_path / "words.json").read_text())
    assert words[words.index("cairn.cli.main") + 1 :] == [*PRETRAIN[1:], "--train.parallel.shard", "8"]
    assert words[:2] == ["-m", "torch.distributed.run"]
    given = dict(itertools.pairwise(words))
    assert given["--nnodes"] == "2"
    assert given["--nproc-per-node"] == "4"
    assert given["--rdzv-endpoint"] == "first.node:1234"
    assert given["--rdzv-conf"].startswith("is_host=0,")
    assert environment["NOTE"] == AWKWARD
    assert folder == str(Path.cwd())


def test_torchrun_knows_the_options(tmp_path):
    """Its own parser reads them."""
    from torch.distributed.run import get_args_parser

    launch("torchrun", tmp_path / "one", "--gpus", 0, "--python", recorder(tmp_path))
    launch("torchrun", tmp_path / "two", "--nodes", 2, "--python", recorder(tmp_path), command=[*PRETRAIN, *SHARD2])
    for name in ("one", "two"):
        there = {**os.environ, "HEAD": "h", "NODE_RANK": "0"}
        subprocess.run(["bash", tmp_path / name / "run.sh"], env=there, check=True)
        words = json.loads((tmp_path / "words.json").read_text())[0]
        read = get_args_parser().parse_args(words[2:])
        assert read.module
        assert read.training_script == "cairn.cli.main"
        assert read.max_restarts == 3
    assert read.rdzv_conf.startswith("is_host=1,")


SHARD2 = ["--train.parallel.shard", "2"]


def test_a_node_without_its_place_is_told_so(tmp_path):
    launch("torchrun", tmp_path / "job", "--nodes", 2, command=[*PRETRAIN, *SHARD2])
    script = tmp_path / "job" / "run.sh"
    bare = {key: value for key, value in os.environ.items() if key not in ("HEAD", "NODE_RANK")}
    done = subprocess.run(["bash", script], env=bare, capture_output=True, text=True)
    assert done.returncode != 0
    assert "HEAD" in done.stderr


@pytest.mark.parametrize("target", sorted(set(TARGETS) - {"ray", "kubernetes", "accelerate", "deepspeed"}))
def test_scripts_pass_shellcheck(target, tmp_path):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    options = [
        "--nodes",
        2,
        "--gpus",
        8,
        *(["--slurm.cpus", 8, "--slurm.container", "i.sif"] if target == "slurm" else []),
    ]
    launch(target, tmp_path / "my job", *options, command=[*PRETRAIN, "--train.parallel.shard", "16"])
    for script in (tmp_path / "my job").iterdir():
        subprocess.run(["bash", "-n", script], check=True)
        if shellcheck:
            subprocess.run([shellcheck, "--shell=bash", "--severity=warning", script], check=True)


# --- what is refused


@pytest.mark.parametrize(
    "name", ["", "a b", "a\n#SBATCH --account=other", "a;id", "$(id)", "-a", "a-", "A", "../a", "a" * 51]
)
def test_a_name_that_could_be_more_than_a_name_is_refused(name, tmp_path, capsys):
    assert "must be small letters" in refused(capsys, "slurm", tmp_path / "job", f"--name={name}")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("slurm", ["--slurm.partition", "a\n#SBATCH --account=b"], "slurm.partition"),
        ("slurm", ["--slurm.account", "a b"], "slurm.account"),
        ("slurm", ["--slurm.time", "1 day"], "slurm.time"),
        ("slurm", ["--slurm.mounts", "/data"], "slurm.container"),
        ("slurm", ["--env", "NO VALUE"], "NAME=VALUE"),
        ("slurm", ["--env", "A;id=1"], "NAME=VALUE"),
        ("slurm", ["--port", "70000"], "65535"),
        ("slurm", ["--nodes", "0"], "at least 1"),
        ("slurm", ["--ray.address", "x"], "--ray.address means nothing to slurm"),
        ("torchrun", ["--gpus", "8"], "--train.parallel.shard 8"),
        ("kubernetes", ["--gpus", "1"], "--kubernetes.image"),
        ("kubernetes", [*IMAGE["kubernetes"]], "lies in no volume"),
        ("kubernetes", [*IMAGE["kubernetes"], "--kubernetes.memory", "much"], "quantity"),
        ("kubernetes", [*IMAGE["kubernetes"], "--kubernetes.namespace", "a\nb"], "namespace"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(target, options, message, tmp_path, capsys):
    assert message in refused(capsys, target, tmp_path / "job", *options)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "after --"),
        (["cairn", "serve", "x"], "no command that goes on"),
        (["rm", "-rf", "/"], "no command that goes on"),
        (["cairn", "journey", "--out", "x"], "runs in one process"),
        ([*PRETRAIN, "--train.parallel.shard", "0"], "at least 1"),
    ],
)
def test_a_command_that_could_not_run_is_refused(command, message, tmp_path, capsys):
    assert message in refused(capsys, "torchrun", tmp_path / "job", "--gpus", 2, command=command)


def test_a_mistake_in_the_command_is_found_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit):
        launch("torchrun", tmp_path / "job", command=[*PRETRAIN, "--train.step", "3"])
    assert "--train.step" in capsys.readouterr().err


def test_layouts_are_those_of_the_job():
    assert check_layout(Layout(data=2, tensor=8), JobConfig(nodes=2, gpus=8)) == []
    assert "waits for the network" in check_layout(Layout(tensor=16), JobConfig(nodes=2, gpus=8))[0]
    assert "waits for the network" in check_layout(Layout(data=4, tensor=3), JobConfig(nodes=3, gpus=4))[0]
    with pytest.raises(
        ValueError, match=r"\(tensor 4\) is of 4 processes, the job starts 2 nodes x 8 processes = 16: .*shard 4"
    ):
        check_layout(Layout(tensor=4), JobConfig(nodes=2, gpus=8))


def test_a_layout_is_read_from_the_commands_recipe_too(tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[train.parallel]\nshard = 4\n", encoding="utf-8")
    launch("torchrun", tmp_path / "a", "--gpus", 4, command=[*PRETRAIN, "--recipe", str(recipe)])
    command = [*PRETRAIN, "--recipe", str(recipe), "--train.parallel.data", "2"]
    launch("torchrun", tmp_path / "b", "--gpus", 8, command=command)
    assert "shard (zero 3) 4" in refused(capsys, "torchrun", tmp_path / "c", "--gpus", 4, command=command)


# --- files and what is printed


def test_files_of_another_job_are_kept(tmp_path, capsys):
    launch("torchrun", tmp_path / "job")
    script = tmp_path / "job" / "run.sh"
    before = script.read_bytes()
    launch("torchrun", tmp_path / "job")  # the same once more is no harm
    launch("torchrun", tmp_path / "job", "--restarts", 9, code=2)
    assert "--replace" in capsys.readouterr().err
    assert script.read_bytes() == before
    launch("torchrun", tmp_path / "job", "--restarts", 9, "--replace")
    assert "--max-restarts 9" in script.read_text()


def test_the_last_line_is_the_command_that_submits(tmp_path, capsys):
    launch("slurm", tmp_path / "my job", "--json", tmp_path / "out.json", "--slurm.time", "10:00")
    printed = capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / "out.json").read_text())
    assert printed[-1] == result["submit"] == f"sbatch '{tmp_path}/my job/job.sbatch'"
    assert printed[:-1] == result["files"] == [f"{tmp_path}/my job/job.sbatch", f"{tmp_path}/my job/run.sh"]
    assert (result["nodes"], result["processes"], result["layout"]) == (1, 1, "one process")


def test_one_recipe_holds_the_settings_of_several_clusters(tmp_path):
    recipe = tmp_path / "cluster.toml"
    recipe.write_text(
        'gpus = 0\n[slurm]\npartition = "cpu"\ntime = "1:00:00"\n[kubernetes]\nimage = "i"\n', encoding="utf-8"
    )
    launch("slurm", tmp_path / "job", "--recipe", recipe)
    text = (tmp_path / "job" / "job.sbatch").read_text()
    assert "#SBATCH --partition=cpu" in text
    assert "--gres" not in text


# --- Slurm


# Options of sbatch(1), Slurm 24.05, among those that a script of ours could use.
SBATCH = {
    *(
        "requeue",
        "job-name",
        "nodes",
        "ntasks-per-node",
        "gres",
        "cpus-per-task",
        "mem",
        "time",
        "partition",
        "account",
        "qos",
    ),
    *("constraint", "signal", "open-mode", "output"),
}


def slurm_job(tmp_path, *options):
    everything = ["--slurm.partition", "gpu", "--slurm.account", "lab", "--slurm.qos", "high", "--slurm.memory", "200G"]
    everything += [
        "--slurm.time",
        "2-00:00:00",
        "--slurm.cpus",
        8,
        "--slurm.gpu-type",
        "h100",
        "--slurm.constraint",
        "a&b",
    ]
    out = tmp_path / "my job"
    launch("slurm", out, "--nodes", 2, *everything, *options, command=[*PRETRAIN, *SHARD2])
    return out / "job.sbatch"


def test_every_directive_is_one_of_sbatch(tmp_path):
    lines = slurm_job(tmp_path).read_text().splitlines()
    directives = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert lines[1 : 1 + len(directives)] == [
        f"#SBATCH {d}" for d in directives
    ]  # sbatch stops reading at the first command
    parsed = dict(re.fullmatch(r"--([a-z-]+)(?:=(\S+|\".*\"))?", d).groups() for d in directives)
    assert set(parsed) == SBATCH
    assert parsed["signal"] == "B:USR1@120"
    assert parsed["gres"] == "gpu:h100:1"
    assert parsed["output"] == f'"{tmp_path}/my job/%x-%j.log"'


def cluster(tmp_path, step):
    """Programs that stand for Slurm's; `step` is what srun does. Returns the environment of a batch job."""
    folder, log = tmp_path / "bin", tmp_path / "slurm.log"
    executable(folder / "scontrol", f'#!/bin/sh\n[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "$@" >> {log}\n')
    executable(folder / "srun", f"#!/usr/bin/env bash\n{step}\n")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NODEID": "1"}
    return {**os.environ, **job, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}, log


def test_a_slurm_job_runs_the_script_on_its_nodes(tmp_path):
    batch = slurm_job(tmp_path, "--python", recorder(tmp_path))
    environment, log = cluster(tmp_path, 'shift 2; exec "$@"')
    subprocess.run(["bash", batch], env=environment, check=True)
    words = json.loads((tmp_path / "words.json").read_text())[0]
    assert words[words.index("--rdzv-endpoint") + 1] == "node1:29500"
    assert words[words.index("--rdzv-conf") + 1].startswith("is_host=0,")
    assert not log.exists()


def test_a_slurm_job_fails_as_its_step_does(tmp_path):
    environment, log = cluster(tmp_path, "exit 3")
    assert subprocess.run(["bash", slurm_job(tmp_path)], env=environment).returncode == 3
    assert not log.exists()


def test_a_slurm_job_whose_time_is_nearly_over_ends_its_step_and_queues_again(tmp_path):
    ended, ready = tmp_path / "ended", tmp_path / "ready"
    step = f"trap 'sleep 0.3; touch {ended}; exit 1' TERM; touch {ready}; while :; do sleep 0.05; done"
    environment, log = cluster(tmp_path, step)
    job = subprocess.Popen(["bash", slurm_job(tmp_path)], env=environment)
    while not ready.exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert ended.exists()  # the step had its time to write a checkpoint
    assert log.read_text() == "requeue 7\n"


def test_containers(tmp_path):
    mounts = ["--slurm.mounts", "/data", "/a b:/c"]
    launch("slurm", tmp_path / "a", "--slurm.container", "my image.sif", *mounts)
    assert f"apptainer exec --nv --bind '/data,/a b:/c,{tmp_path}/a:/job' 'my image.sif' bash /job/run.sh &" in (
        (tmp_path / "a" / "job.sbatch").read_text()
    )
    launch("slurm", tmp_path / "b", "--slurm.container", "nvcr.io#image", *mounts)
    text = (tmp_path / "b" / "job.sbatch").read_text()
    assert "--container-image=nvcr.io#image" in text
    assert f"'--container-mounts=/data:/data,/a b:/c,{tmp_path}/b:/job' bash /job/run.sh &" in text
    assert "exec python -m" in (tmp_path / "b" / "run.sh").read_text()


# --- Kubernetes and Ray


def manifests(path):
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_schemas_of_kubernetes_accept_a_job(nodes, tmp_path):
    utils = pytest.importorskip("kubernetes_validate.utils")
    options = [
        "--nodes",
        nodes,
        "--gpus",
        8,
        *IMAGE["kubernetes"],
        "--kubernetes.cpus",
        64,
        "--kubernetes.memory",
        "500Gi",
    ]
    options += ["--kubernetes.node-selector", "kind=h100", "--env", f"NOTE={AWKWARD}", "--name", "my-run"]
    command = [*ON_VOLUMES, "--train.parallel.shard", str(8 * nodes)]
    launch("kubernetes", tmp_path / "job", *options, command=command)
    found = manifests(tmp_path / "job" / "job.yaml")
    assert set(found) == ({"ConfigMap", "Job"} if nodes == 1 else {"ConfigMap", "Service", "Job"})
    for document in found.values():
        for version in (utils.latest_version(), "1.31"):
            utils.validate(document, version, strict=True)
    assert subprocess.run(["bash", "-n"], input=found["ConfigMap"]["data"]["run.sh"], text=True).returncode == 0


def test_a_kubernetes_job_survives_preemption_and_finds_its_first_pod(tmp_path):
    command = [*ON_VOLUMES, *SHARD2]
    launch("kubernetes", tmp_path / "job", "--nodes", 2, "--name", "my-run", *IMAGE["kubernetes"], command=command)
    found = manifests(tmp_path / "job" / "job.yaml")
    spec = found["Job"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"]) == (2, 2)
    assert spec["backoffLimitPerIndex"] > 0
    rule = spec["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy asks for
    assert pod["terminationGracePeriodSeconds"] == 120
    # A pod's name in DNS is HOSTNAME.SUBDOMAIN, where a Service of the subdomain's name without an address selects it.
    script = found["ConfigMap"]["data"]["run.sh"]
    assert '"my-run-0.my-run:29500"' in script
    assert pod["subdomain"] == found["Service"]["metadata"]["name"] == "my-run"
    assert found["Service"]["spec"]["clusterIP"] == "None"
    assert "$JOB_COMPLETION_INDEX == 0" in script
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert pod["containers"][0]["command"] == ["bash", f"{mounted['scripts']}/run.sh"]


def test_output_that_would_be_lost_with_its_pod_is_refused(tmp_path, capsys):
    for out in ("runs/base", "/elsewhere", "/data/../etc", "/database"):
        command = [*ON_VOLUMES[:-1], out]
        assert "lies in no volume" in refused(
            capsys, "kubernetes", tmp_path / "job", *IMAGE["kubernetes"], command=command
        )
    launch(
        "kubernetes", tmp_path / "job", *IMAGE["kubernetes"], "--folder", "/data", command=[*ON_VOLUMES[:-1], "runs/a"]
    )


def test_ray_gives_each_process_a_gpu(tmp_path, capsys):
    command = [*PRETRAIN, "--train.parallel.shard", "4"]
    assert "GPU of its own" in refused(capsys, "ray", tmp_path / "job", "--gpus", 2, "--processes", 4, command=command)


# Fields of KubeRay's RayJob (ray.io/v1, operator 1.4) that ours sets, and those it requires.
RAY_FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"entrypoint", "shutdownAfterJobFinishes", "backoffLimit", "rayClusterSpec"},
    "spec.rayClusterSpec": {"rayVersion", "headGroupSpec", "workerGroupSpecs"},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams", "template"},
    "spec.rayClusterSpec.workerGroupSpecs.0": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template")
    },
}


def test_a_ray_job_has_the_fields_of_kuberay(tmp_path):
    options = ["--nodes", 2, "--gpus", 8, *IMAGE["ray"], "--ray.version", "2.40.0", "--ray.cpus", "64"]
    launch("ray", tmp_path / "job", *options, command=[*ON_VOLUMES, "--train.parallel.shard", "16"])
    found = manifests(tmp_path / "job" / "rayjob.yaml")
    for path, fields in RAY_FIELDS.items():
        node = found["RayJob"]
        for part in filter(None, path.split(".")):
            node = node[int(part)] if part.isdigit() else node[part]
        assert set(node) == fields
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    params = [cluster["headGroupSpec"]["rayStartParams"], cluster["workerGroupSpecs"][0]["rayStartParams"]]
    assert all(isinstance(value, str) for group in params for value in group.values())  # as KubeRay wants them
    utils = pytest.importorskip("kubernetes_validate.utils")
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **template}
        utils.validate(pod, utils.latest_version(), strict=True)
    utils.validate(found["ConfigMap"], utils.latest_version(), strict=True)
    assert found["ConfigMap"]["data"]["driver.py"] == (tmp_path / "job" / "driver.py").read_text(encoding="utf-8")
    script = found["RayJob"]["spec"]["entrypoint"].removeprefix("python ")
    mounts = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert Path(script).parent in {Path(mount["mountPath"]) for mount in mounts}


def test_a_ray_driver_holds_the_command_as_it_was_typed(tmp_path):
    launch("ray", tmp_path / "job", "--gpus", 2, "--env", f"NOTE={AWKWARD}", command=[*PRETRAIN, *SHARD2])
    tree = ast.parse((tmp_path / "job" / "driver.py").read_text(encoding="utf-8"))
    found = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and hasattr(node.targets[0], "id")
    }
    assert ast.literal_eval(found["COMMAND"]) == [*PRETRAIN[1:], *SHARD2]
    assert ast.literal_eval(found["ENVIRONMENT"]) == {"NOTE": AWKWARD}


# --- for real


def training(corpus, model, out, *more):
    small = [
        "--rows",
        "8",
        "--context",
        "32",
        "--threads",
        "1",
        "--train.checkpoint-every",
        "5",
        "--train.log-every",
        "1",
    ]
    paths = ["--corpus", str(corpus.path), "--model", str(model), "--out", str(out)]
    return ["cairn", "pretrain", *paths, *small, "--train.optimizer", "adamw", "--train.device", "cpu", *more]


def rows_of(run):
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_a_killed_job_goes_on_when_it_is_given_again(corpus, model_directory, tmp_path):
    """Killed with -9 in the middle, then asked to end by SIGTERM, as a cluster does; the weights are those of a run at ease."""
    for name in ("at-ease", "killed"):
        command = training(corpus, model_directory, tmp_path / name, "--train.steps", "400")
        launch("torchrun", tmp_path / f"job-{name}", "--gpus", 0, "--restarts", 0, command=command)
    subprocess.run(["bash", tmp_path / "job-at-ease" / "run.sh"], check=True)
    seen = 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        job = subprocess.Popen(["bash", tmp_path / "job-killed" / "run.sh"], start_new_session=True)
        while len(rows_of(tmp_path / "killed.run")) < seen + 20:
            assert job.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
        if number == signal.SIGKILL:  # of the training process: torchrun sees it fail, and may not start it again
            children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), number)
        else:
            job.send_signal(number)
        assert job.wait(60) != 0
        assert not (tmp_path / "killed").exists()
        seen = len(rows_of(tmp_path / "killed.run"))
    subprocess.run(["bash", tmp_path / "job-killed" / "run.sh"], check=True)
    losses = [[row["loss"] for row in rows_of(tmp_path / f"{name}.run")] for name in ("at-ease", "killed")]
    assert losses[0] == losses[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("at-ease", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_the_ray_driver_trains_with_two_workers(corpus, model_directory, tmp_path):
    pytest.importorskip("ray.train")
    command = training(corpus, model_directory, tmp_path / "out", "--train.steps", "6", "--train.parallel.data", "2")
    options = ["--gpus", 0, "--processes", 2, "--restarts", 0, "--ray.storage", tmp_path / "ray"]
    launch("ray", tmp_path / "job", *options, command=command)
    done = subprocess.run([sys.executable, tmp_path / "job" / "driver.py"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in rows_of(tmp_path / "out.run")] == [1, 2, 3, 4, 5, 6]
    import cairn

    model, _ = cairn.load(tmp_path / "out")
    assert model.config.layers == 2


def test_mistakes_in_a_command_are_told_in_one_line(tmp_path, capsys):
    error = refused(capsys, "accelerate", tmp_path / "job", command=["--nosuch"])
    assert error.count("\n") == 1
    assert "--model" in error
    command = ["cairn", "corpus", "build", "--out", "x", "recipe.toml"]
    assert "cairn corpus build runs in one process" in refused(
        capsys, "torchrun", tmp_path / "job", "--gpus", 4, command=command
    )
