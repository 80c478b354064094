"""torchrun without a scheduler: a script to run on each machine."""

import shlex
from pathlib import Path

from cairn.planning.launch.files import JobFiles
from cairn.planning.launch.job import Job

SCRIPT = "run.sh"


def torchrun_files(job: Job, out: Path) -> JobFiles:
    """run.sh; with several nodes it wants HEAD (the first one's host name) and NODE_RANK (0 on the first)."""
    files = {SCRIPT: job.script(folder=str(Path.cwd()))}
    path = shlex.quote(str(out.absolute() / SCRIPT))
    return JobFiles(files, submit_on_each(job, path), notes_on_each(job))


def submit_on_each(job: Job, path: str) -> str:
    return f"bash {path}" if job.config.nodes == 1 else f"HEAD=$(hostname) NODE_RANK=0 bash {path}"


def notes_on_each(job: Job) -> list[str]:
    """What a job of several nodes asks of the person who starts it."""
    if job.config.nodes == 1:
        return []
    last = job.config.nodes - 1
    ranks = "1" if last == 1 else f"1 to {last}"
    where = f"on all {job.config.nodes} nodes: HEAD names the first one everywhere, NODE_RANK is {ranks} on the others"
    return [f"run the command {where}"]
