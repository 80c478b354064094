"""Past one machine: the same pieces of work under datatrove's executors, on Slurm or Ray (extra `cluster`).

    job = Build(read_recipe("corpus.toml"), "/shared/corpus")
    last = on_cluster(job, functools.partial(RayPipelineExecutor, cpus_per_task=1), tasks=64)
    last.run()                                  # runs (or, on Slurm, submits) every phase, each after the one before it

A phase is an array of `tasks`, of which number r does pieces r, r + tasks, ...; finished pieces are skipped as on one
machine, so a lost node costs what it was working on. All machines must see OUT and the sources under the same paths.
"""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cairn.core.errors import UserError
from cairn.corpus.pipeline import work
from cairn.corpus.pipeline.build import PHASES, Build, begin, do_piece, finish


@dataclass(frozen=True)
class RankWork:
    """One phase as a datatrove pipeline step: a callable of (documents, rank, number of ranks)."""

    job: Build
    phase: str

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        if self.phase == "finish":
            finish(self.job)
            if not self.job.recipe.keep_work:
                shutil.rmtree(self.job.work, ignore_errors=True)
            return
        function = functools.partial(do_piece, self.phase, self.job)
        for piece in range(rank, self.job.pieces(self.phase), world_size):
            work.do(self.job.work, self.phase, function, piece)


def on_cluster(job: Build, executor: Callable[..., Any], tasks: int) -> Any:
    """A chain of executors, one for each phase; `run()` of the last one returned does them all.

    executor: a datatrove executor, or a partial of one with its own settings; it is called with `pipeline`, `tasks`,
    `depends` and `logging_dir`. tasks: how many ranks share a phase that has many pieces.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    if not begin(job):
        raise UserError(f"{job.out} is finished already")
    logs = job.out.with_name(job.out.name + ".logs")
    single = ("fetch", "plan", "index", "clusters", "merges", "finish")
    last = None
    for phase in [*(phase.name for phase in PHASES), "finish"]:
        last = executor(
            pipeline=[RankWork(job, phase)],
            tasks=1 if phase in single else tasks,
            depends=last,
            logging_dir=str(logs / phase),
        )
    return last
