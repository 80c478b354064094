"""Slurm: a batch script that goes back to the queue by itself before its time is over or when it is preempted."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.launch.files import JobFiles
from cairn.planning.launch.job import GRACE, Job

BATCH, SCRIPT = "job.sbatch", "run.sh"
# minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds (sbatch(1))
TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")
VALUE = re.compile(r"[A-Za-z0-9_.,:@&|*()\[\]+-]+")  # of a directive: no space, quote or end of line
IN_CONTAINER = "/job"  # where the job's folder is seen in a container


@dataclass(frozen=True)
class SlurmConfig:
    partition: str = option("", "partition (queue)")
    account: str = option("", "account that is charged")
    qos: str = option("", "quality of service")
    time: str = option("", "longest time, as in 24:00:00 or 2-00; after it the job queues again and goes on")
    cpus: int = option(0, "CPU cores of a node; 0: the cluster's default", minimum=0)
    memory: str = option("", "memory of a node, as in 200G; 0 takes all")
    gpu_type: str = option("", "kind of GPU, where the cluster names several")
    constraint: str = option("", "features a node must have")
    container: str = option("", "image to run in: a .sif file (Apptainer) or an image of the Pyxis plugin")
    mounts: tuple[str, ...] = option((), "folders the container sees, HOST or HOST:INSIDE")

    def __post_init__(self) -> None:
        for name in ("partition", "account", "qos", "memory", "gpu_type", "constraint"):
            value = getattr(self, name)
            if value and not VALUE.fullmatch(value):
                raise UserError(f"slurm.{name} {value!r} has characters that a directive cannot hold")
        if self.time and not TIME.fullmatch(self.time):
            raise UserError(f"slurm.time {self.time!r} is not a time of Slurm, such as 24:00:00 or 2-00:00:00")
        if self.mounts and not self.container:
            raise UserError("slurm.mounts are folders of a container: set slurm.container as well")
        for mount in self.mounts:
            if "," in mount or not mount.startswith("/"):
                raise UserError(f"slurm.mounts {mount!r} must be an absolute path without commas, HOST or HOST:INSIDE")


def slurm_files(job: Job, config: SlurmConfig, out: Path) -> JobFiles:
    """job.sbatch, which starts run.sh once on each node."""
    folder = out.absolute()
    inside = f"{IN_CONTAINER}/{SCRIPT}" if config.container else str(folder / SCRIPT)
    python = "python" if config.container else ""
    where = "" if config.container else str(Path.cwd())
    files = {
        BATCH: _batch(job, config, folder, inside),
        SCRIPT: job.script(rank="$SLURM_NODEID", python=python, folder=where),
    }
    notes = [] if config.time else ["no --slurm.time: the partition's default limit holds"]
    return JobFiles(files, f"sbatch {shlex.quote(str(folder / BATCH))}", notes)


def directives(job: Job, config: SlurmConfig, folder: Path) -> list[str]:
    """The options of sbatch, one a line."""
    if re.search(r'["\\\n\r]' if not config.container else r'["\\\n\r:,]', str(folder)):
        raise UserError(f"{str(folder)!r} cannot be named in a batch script; choose another --out")
    log = str(folder).replace("%", "%%") + "/%x-%j.log"
    settings = {
        "job-name": job.config.name,
        "nodes": job.config.nodes,
        "ntasks-per-node": 1,  # torchrun starts the node's processes
        "gres": f"gpu:{config.gpu_type + ':' if config.gpu_type else ''}{job.config.gpus}" if job.config.gpus else "",
        "cpus-per-task": config.cpus or "",
        "mem": config.memory,
        "time": config.time,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        # The batch shell alone gets the warning: it decides what to do.
        "signal": f"B:USR1@{GRACE}",
        "open-mode": "append",  # a job that runs again goes on in its log
        "output": f'"{log}"' if " " in log else log,
    }
    return ["--requeue", *(f"--{key}={value}" for key, value in settings.items() if value != "")]


def _batch(job: Job, config: SlurmConfig, folder: Path, inside: str) -> str:
    lines = ["#!/usr/bin/env bash", *(f"#SBATCH {line}" for line in directives(job, config, folder))]
    lines += [
        "",
        "# Preempted, or on a node that fails, Slurm puts the job back into the queue (--requeue). Before its time is over",
        f"# it does so itself: {GRACE} s earlier the processes are asked to end with a checkpoint, and the job queues again.",
        "set -euo pipefail",
        "requeue() {",
        '    echo "job $SLURM_JOB_ID: time is nearly over; it queues again and goes on from its newest checkpoint" >&2',
        '    kill -TERM "$step" || true',
        '    while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "    exit 0",
        "}",
        "trap requeue USR1",
        "",
    ]
    if job.config.nodes > 1:
        lines += ['HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)', "export HEAD"]
    step = ["srun", "--kill-on-bad-exit=1"]
    if config.cpus:
        step.append(f"--cpus-per-task={config.cpus}")  # a step does not inherit it since Slurm 22.05
    lines += [f"{' '.join(step)} {_inside(config, folder)}bash {shlex.quote(inside)} &"]
    # `wait` ends when a signal comes: the trap runs, and leaves.
    lines += ["step=$!", 'wait "$step"']
    return "\n".join(lines) + "\n"


def _inside(config: SlurmConfig, folder: Path) -> str:
    """What puts the command into a container."""
    if not config.container:
        return ""
    image, mounts = config.container, [*config.mounts, f"{folder}:{IN_CONTAINER}"]
    if image.endswith(".sif"):
        return shlex.join(["apptainer", "exec", "--nv", "--bind", ",".join(mounts), image]) + " "
    pairs = [m if ":" in m else f"{m}:{m}" for m in mounts]
    return shlex.join([f"--container-image={image}", f"--container-mounts={','.join(pairs)}"]) + " "
