"""Past one machine: the same pieces of work under datatrove's executors, on Slurm or Ray (extra `cluster`).

    job = Build(read_recipe("corpus.toml"), "/shared/corpus")
    last = on_cluster(job, functools.partial(RayPipelineExecutor, cpus_per_task=1), tasks=64)
    last.run()                                  # runs (or, on Slurm, submits) every phase, each after the one before it

A phase is an array of `tasks`, of which number r does pieces r, r + tasks, ...; finished pieces are skipped as on one
machine, so a lost node costs what it was working on. All machines must see OUT and the sources under the same paths.
"""

import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import write_text
from cairn.corpus.pipeline import work
from cairn.corpus.pipeline.job import PHASES, Build, check, do_piece, finish, tidy
from cairn.corpus.pipeline.recipe import Recipe


@dataclass(frozen=True)
class RankWork:
    """One phase as a datatrove pipeline step: a callable of (documents, rank, number of ranks)."""

    recipe: Recipe
    out: Path
    phase: str

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        job = Build(self.recipe, self.out)
        if self.phase == "finish":
            finish(job)
            tidy(job)
            return
        function = functools.partial(do_piece, self.phase, self.recipe, self.out)
        for piece in range(rank, job.pieces(self.phase), world_size):
            work.do(job.work, self.phase, function, piece)


def on_cluster(job: Build, executor: Callable[..., Any], tasks: int) -> Any:
    """A chain of executors, one for each phase; `run()` of the last one returned does them all.

    executor: a datatrove executor, or a partial of one with its own settings; it is called with `pipeline`, `tasks`,
    `depends` and `logging_dir`. tasks: how many ranks share a phase that has many pieces. One such chain at a time: no lock
    reaches over machines.
    """
    check(job)
    if (job.out / "corpus.json").exists():
        raise UserError(f"{job.out} is finished already")
    job.note()
    # datatrove remembers in its logs what is done. They belong to this very work folder: after a deletion all is to be done.
    token = job.work / "logs.txt"
    if not token.exists():
        write_text(token, secrets.token_hex(4))
    logs = job.out.with_name(job.out.name + ".logs") / token.read_text(encoding="utf-8")
    single = ("fetch", "plan", "index", "clusters", "merges", "finish")
    last = None
    for phase in [*(phase.name for phase in PHASES), "finish"]:
        last = executor(
            pipeline=[RankWork(job.recipe, job.out, phase)],
            tasks=1 if phase in single else tasks,
            depends=last,
            logging_dir=str(logs / phase),
        )
    return last
