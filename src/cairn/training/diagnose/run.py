"""A run as it lies on disk: the rows of metrics.jsonl, and what is known of its settings, data and end."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.core.record import read_metrics
from cairn.training.fault import Fault

FACTS = ("vocab_size", "corpus_tokens", "echo_steps", "unigram_entropy")
MOST = 1e300  # a larger figure is none
VALID = ("valid_loss", "valid_bits_per_byte", "bits_per_byte")


@dataclass(frozen=True)
class Run:
    """rows: of metrics.jsonl, in the order of steps. train, facts: settings and figures as far as the run's files say them;
    a check that needs one that is missing says nothing. fault: why a run stopped at `fault_step` on a value that is not finite.
    skipped: lines of the record that are no rows."""

    path: Path
    rows: list[dict[str, Any]]
    train: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    fault_step: int = 0
    skipped: int = 0

    def column(self, key: str, *, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of the rows that have a finite number there, of steps beyond `after`."""
        pairs = [(row["step"], row[key]) for row in self.rows if row["step"] > after and _number(row.get(key))]
        array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    @property
    def begin(self) -> int:
        """The step after which the curve is of one kind: a curriculum of another task comes before it."""
        return int(self.fact("echo_steps") or 0)

    @property
    def warm(self) -> int:
        """The last step before the rate is at its peak."""
        return max(self.begin, int(self.setting("warmup")))

    def setting(self, name: str) -> float:
        """A number among the settings of the training; 0 where it is not known."""
        value = self.train.get(name)
        return value if _number(value) else 0

    def fact(self, name: str) -> float | None:
        """A positive number among the facts; None where it is not known."""
        value = self.facts.get(name)
        return value if _number(value) and value > 0 else None

    def loss(self) -> tuple[np.ndarray, np.ndarray]:
        return self.column("loss", after=self.begin)

    def valid(self) -> tuple[str, np.ndarray, np.ndarray]:
        """(name, steps, values) of the validation that has most points; they are empty without any."""
        found = [(key, *self.column(key)) for key in VALID]
        return max(found, key=lambda entry: len(entry[1]))

    def layers(self, *, after: int = 0) -> list[tuple[int, dict[str, dict[str, float]]]]:
        """(step, figures by layer) of the watched steps beyond `after`."""
        return [(row["step"], row["layers"]) for row in self.rows if "layers" in row and row["step"] > after]

    def blocks(self) -> list[str]:
        """The layers that are repeated over the depth, in their order; of an encoder-decoder those of the decoder."""
        names = [name for _, layers in self.layers()[:1] for name in layers if name.rpartition(".")[2].isdigit()]
        stacks = {name.rpartition(".")[0] for name in names}
        last = max(stacks, key=len) if len(stacks) == 1 else next((s for s in stacks if "decoder" in s), "blocks")
        return [name for name in names if name.rpartition(".")[0] == last]

    @property
    def entropy(self) -> float | None:
        """Nats of a uniform guess, where the loss is a cross-entropy over the vocabulary."""
        size = self.fact("vocab_size")
        preferences = any("preference_loss" in row for row in self.rows[:1])
        return None if not size or preferences else math.log(size)


def read_run(path: Path | str) -> Run:
    """The run of a run folder, a model directory (its run folder lies beside it) or a metrics.jsonl.

    Raises UserError where there is no record of a run.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    if folder.name in ("", ".."):  # `.` has no name, and what lies beside the folder is found by its name
        folder = folder.resolve()
    if not (folder / "metrics.jsonl").exists() and not (folder / "fault.json").exists():
        folder = folder.parent / f"{folder.name}.run"
    metrics = path if path.is_file() else folder / "metrics.jsonl"
    lines = read_metrics(metrics)
    rows = [_clean(row) for row in lines if isinstance(row, dict) and _number(row.get("step"))]
    rows.sort(key=lambda row: row["step"])
    fault, at = _fault(folder / "fault.json")
    if rows and rows[-1]["step"] >= at:
        fault = None  # it went on beyond
    if not rows and fault is None:
        raise UserError(
            f"{path} holds no record of a run (metrics.jsonl with at least one row); "
            "give the folder a training command writes: its --out, or --out with .run at the end"
        )
    train, facts = _settings(folder)
    return Run(folder, rows, train, facts, fault, at, len(lines) - len(rows))


def _fault(path: Path) -> tuple[Fault | None, int]:
    """What stopped the run, and its step."""
    values = _optional(path)
    if values is None:
        return None, 0
    step = values.pop("step", 0)
    return from_dict(Fault, values, where=str(path)), int(step) if _number(step) else 0


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """What are numbers in the row and in its layers' figures. JSON has no number that is not finite: null stands for it."""
    numbers = ((key, math.nan if v is None else v) for key, v in row.items() if key != "layers")
    kept: dict[str, Any] = {key: v for key, v in numbers if _number(v) or isinstance(v, float)}
    layers = row.get("layers")
    if isinstance(layers, dict):
        found = {n: {k: v for k, v in f.items() if _number(v)} for n, f in layers.items() if isinstance(f, dict)}
        kept |= {"layers": found} if found else {}
    return kept


def _settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training and facts: from run.json, which the trainer writes first, then from the model directory."""
    model = folder.parent / folder.name.removesuffix(".run")
    begun, record = _optional(folder / "run.json") or {}, _optional(model / "cairn.json") or {}
    recipe, ended = _table(record, "recipe"), _table(record, "metrics")
    shape = _table(begun, "model") or _optional(model / "config.json") or {}
    facts = {key: (shape | recipe | ended | begun).get(key) for key in FACTS}
    return _table(begun, "train") or _table(recipe, "train"), {k: v for k, v in facts.items() if v is not None}


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _optional(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None where there is no such file."""
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold an object; it is not a file of a training run")
    return value


def _number(value: Any) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= MOST  # false for what is not finite; an integer of JSON may be beyond every float
