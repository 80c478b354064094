"""A corpus directory from a recipe.

OUT/
  documents/train/00000.jsonl.zst ...   documents/valid/...     tokens/train-00000.{bin,ends,json} ...
  tokenizer/                            (when the recipe trains one)
  corpus.json   card.html               what was made of what, in numbers and to look at; written last
  work/                                 what the phases pass on, and a marker for each finished piece; removed at the end
"""

import functools
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import read_json, write_json, write_text
from cairn.core.progress import Display
from cairn.corpus.documents import Quarantine, Step
from cairn.corpus.filters import Decontaminate
from cairn.corpus.pipeline import card, phases, work
from cairn.corpus.pipeline.recipe import Recipe
from cairn.tokenizers import Tokenizer


class Build:
    """A recipe and where it is built: what is planned, what is done."""

    def __init__(self, recipe: Recipe, out: Path | str):
        self.recipe, self.out = recipe, Path(out)
        self.work = self.out / "work"
        self.fingerprint = recipe.fingerprint()
        cache = str(self.work / "benchmarks")
        self.steps: list[Step] = [
            replace(step, cache=cache) if isinstance(step, Decontaminate) and not step.cache else step
            for step in recipe.steps
        ]

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What another build in this place would not have."""
        tokenizer = Tokenizer.load(self.recipe.tokenizer).fingerprint() if self.recipe.tokenizer else None
        return {"fingerprint": self.fingerprint, "tokenizer": tokenizer}

    def note(self) -> None:
        """Write down, once, what is built here."""
        if not (self.out / "recipe.json").exists():
            write_json(self.out / "recipe.json", self.identity | {"recipe": self.recipe.to_dict()})

    # --- places

    def shard(self, name: str, piece: int) -> Path:
        return self.work / name / f"{piece:05d}.jsonl.zst"

    def fetched(self, source: int, number: int) -> Path:
        """Documents of a hub's data set, as they came."""
        return self.work / "hub" / f"{source:03d}" / f"{number:05d}.jsonl.zst"

    def array(self, name: str, piece: int) -> Path:
        return self.work / name / f"{piece:05d}.npy"

    def out_documents(self, side: str, piece: int) -> Path:
        return self.out / "documents" / side / f"{piece:05d}.jsonl.zst"

    # --- what earlier phases found

    def pieces(self, phase: str) -> int:
        return next(p for p in PHASES if p.name == phase).pieces(self)

    def result(self, phase: str, piece: int = 0) -> dict[str, Any]:
        return read_json(work.marker(self.work, phase, piece))

    def results(self, phase: str) -> list[dict[str, Any]]:
        return [self.result(phase, piece) for piece in range(self.pieces(phase))]

    @functools.cached_property
    def parts(self) -> list[dict[str, Any]]:
        return self.result("plan")["parts"]

    @functools.cached_property
    def documents(self) -> list[int]:
        """Documents in each cleaned shard."""
        return self.result("index")["documents"]

    @functools.cached_property
    def first_ids(self) -> list[int]:
        """Number, through the corpus, of each shard's first document."""
        return [0, *itertools.accumulate(self.documents)][:-1]

    @property
    def partitions(self) -> int:
        """Into how many ranges the hashes are cut, so that one range fits into memory."""
        return sum(self.documents) // phases.PARTITION_DOCUMENTS + 1

    @property
    def line_partitions(self) -> int:
        size = sum(self.array("lines", piece).stat().st_size for piece in range(len(self.parts)))
        return size // phases.PARTITION_LINE_BYTES + 1

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.recipe.tokenizer or self.out / "tokenizer")


@dataclass(frozen=True)
class Phase:
    """`pieces` says how many pieces there are (0: the recipe does not ask for it); `work` does one."""

    name: str
    pieces: Callable[[Build], int]
    work: Callable[[Build, int], dict[str, Any]]


def _all(build: Build) -> int:
    return len(build.parts)


def _if(wanted: Callable[[Recipe], Any], pieces: Callable[[Build], int]) -> Callable[[Build], int]:
    return lambda build: pieces(build) if wanted(build.recipe) else 0


PHASES = (
    Phase("fetch", lambda b: len(b.recipe.sources), phases.fetch),
    Phase("plan", lambda b: 1, phases.plan),
    Phase("clean", _all, phases.clean),
    Phase("index", lambda b: 1, phases.index),
    Phase("lines", _if(lambda r: r.lines, _all), phases.lines),
    Phase("find-lines", _if(lambda r: r.lines, lambda b: b.line_partitions), phases.find_lines),
    Phase("keys", _if(lambda r: r.dedup, _all), phases.keys),
    Phase("pairs", _if(lambda r: r.dedup, lambda b: b.partitions * len(b.recipe.dedup.key_bands())), phases.pairs),  # type: ignore[union-attr]
    Phase("clusters", _if(lambda r: r.dedup, lambda b: 1), phases.clusters),
    Phase("write", _all, phases.write),
    Phase("counts", _if(lambda r: r.vocab_size, _all), phases.counts),
    Phase("merges", _if(lambda r: r.vocab_size, lambda b: 1), phases.merges),
    Phase("encode", _if(lambda r: r.tokenizer or r.vocab_size, _all), phases.encode),
)


@functools.lru_cache(maxsize=1)
def _opened(recipe: Recipe, out: Path, phase: str) -> Build:
    """One for all pieces of a phase that a process does: it has read the plan, the tokenizer and the models of the steps."""
    return Build(recipe, out)


def do_piece(phase: str, recipe: Recipe, out: Path, piece: int) -> dict[str, Any]:
    """Named, so that a worker process finds it; the phases themselves hold functions that cannot be pickled."""
    return next(p for p in PHASES if p.name == phase).work(_opened(recipe, out, phase), piece)


def check(job: Build) -> None:
    """Refuse, before anything is written, a folder that is not ours, and what would fail only after hours.

    A folder begun with another recipe or another tokenizer is refused, not replaced; so is a finished one of files that
    have changed since.
    """
    out, note = job.out, job.out / "recipe.json"
    if not note.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists already and is no corpus build; choose another --out")
    elif {key: read_json(note).get(key) for key in ("fingerprint", "tokenizer")} != job.identity:
        raise UserError(
            f"{out} was begun with another recipe or tokenizer; choose another --out, or delete it to start anew"
        )
    finished = (out / "corpus.json").exists()
    for source in job.recipe.sources:
        path = Path(source.path).resolve()
        if source.path and not path.exists():
            if finished:
                return
            raise UserError(f"the source {source.path} does not exist")
        if source.path and (out.resolve() in (path, *path.parents) or path in out.resolve().parents):
            raise UserError(f"{out} and the source {source.path} lie in one another; choose another --out")
    if finished and all(source.path for source in job.recipe.sources):
        places = [source.path for source in job.recipe.sources]
        if phases.inputs_of(phases.parts_of(job, places, Quarantine())) != read_json(out / "corpus.json")["inputs"]:
            raise UserError(f"the sources of {out} have changed since it was built; choose another --out, or delete it")


def run_phase(build: Build, phase: Phase, workers: int) -> None:
    pieces = phase.pieces(build)
    missing = [piece for piece in range(pieces) if not work.marker(build.work, phase.name, piece).exists()]
    if not missing:
        return
    with Display(phase.name, len(missing), "parts") as display:
        function = functools.partial(do_piece, phase.name, build.recipe, build.out)
        work.run(build.work, phase.name, function, missing, workers, display.update)


def build(recipe: Recipe, out: Path | str, workers: int = 1) -> dict[str, Any]:
    """Build the corpus, or go on where an earlier run was stopped; returns what is written to corpus.json.

    The same recipe on the same input gives the same bytes, whatever the number of workers and interruptions. Memory does
    not grow with the corpus beyond some bytes a document and, for a tokenizer to be trained, its distinct words. Raises
    UserError when nothing is left after the filters.
    """
    job = Build(recipe, out)
    check(job)
    if not (job.out / "corpus.json").exists():
        job.note()  # before anything else is there: only a folder with this note is ours
        with work.alone(job.work):
            for phase in PHASES:
                run_phase(job, phase, workers)
            finish(job)
    tidy(job)
    return read_json(job.out / "corpus.json")


def tidy(job: Build) -> None:
    if not job.recipe.keep_work:
        shutil.rmtree(job.work, ignore_errors=True)


def finish(job: Build) -> None:
    """The data card, and corpus.json last: it says that the corpus is whole."""
    info = card.summary(job)
    if not info["parts"]["train"]["documents"]:
        raise UserError("no document is left for training: lower valid_share, or give more text")
    write_text(job.out / "card.html", card.page(info))
    write_json(job.out / "corpus.json", info)
