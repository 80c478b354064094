"""A run as it lies on disk: the rows of metrics.jsonl, and what is known of its settings, data and end."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import read_json
from cairn.core.record import read_metrics

VALID = ("valid_loss", "valid_bits_per_byte", "bits_per_byte")


@dataclass(frozen=True)
class Run:
    """rows: of metrics.jsonl, in the order of steps. train, facts: settings and figures as far as the run's files say them;
    a check that needs one that is missing says nothing. fault: fault.json of a run that stopped on a value not finite."""

    path: Path
    rows: list[dict[str, Any]]
    train: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None

    def column(self, key: str, *, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of the rows that have a finite number there, of steps beyond `after`."""
        pairs = [(row["step"], row[key]) for row in self.rows if row["step"] > after and _number(row.get(key))]
        array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    @property
    def begin(self) -> int:
        """The step after which the curve is of one kind: a curriculum of another task comes before it."""
        return int(self.facts.get("echo_steps", 0))

    @property
    def warm(self) -> int:
        """The last step before the rate is at its peak."""
        return max(self.begin, int(self.train.get("warmup", 0)))

    def loss(self) -> tuple[np.ndarray, np.ndarray]:
        return self.column("loss", after=self.begin)

    def valid(self) -> tuple[str, np.ndarray, np.ndarray]:
        """(name, steps, values) of the validation that has most points; they are empty without any."""
        found = [(key, *self.column(key)) for key in VALID]
        return max(found, key=lambda entry: len(entry[1]))

    def layers(self, *, after: int = 0) -> list[tuple[int, dict[str, dict[str, float]]]]:
        """(step, figures by layer) of the watched steps beyond `after`."""
        return [(row["step"], row["layers"]) for row in self.rows if row.get("layers") and row["step"] > after]

    def blocks(self) -> list[str]:
        """The layers that are repeated over the depth, in their order; of an encoder-decoder those of the decoder."""
        names = [name for _, layers in self.layers()[:1] for name in layers if name.rpartition(".")[2].isdigit()]
        stacks = {name.rpartition(".")[0] for name in names}
        last = max(stacks, key=len) if len(stacks) == 1 else next((s for s in stacks if "decoder" in s), "blocks")
        return [name for name in names if name.rpartition(".")[0] == last]

    @property
    def entropy(self) -> float | None:
        """Nats of a uniform guess, where the loss is a cross-entropy over the vocabulary."""
        size = self.facts.get("vocab_size")
        preferences = any("preference_loss" in row for row in self.rows[:1])
        return None if not size or preferences else math.log(size)


def read_run(path: Path | str) -> Run:
    """The run of a run folder, a model directory (its run folder lies beside it) or a metrics.jsonl.

    Raises UserError where there is no record of a run.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    if not (folder / "metrics.jsonl").exists() and not (folder / "fault.json").exists():
        folder = folder.with_name(folder.name + ".run")
    metrics = path if path.is_file() else folder / "metrics.jsonl"
    rows = [row for row in read_metrics(metrics) if isinstance(row, dict) and _number(row.get("step"))]
    fault = _optional(folder / "fault.json")
    if fault is not None and rows and rows[-1]["step"] >= fault.get("step", 0):
        fault = None  # it went on beyond
    if not rows and fault is None:
        raise UserError(
            f"{path} holds no record of a run (metrics.jsonl with at least one row); "
            "give the folder a training command writes: its --out, or --out with .run at the end"
        )
    train, facts = _settings(folder)
    return Run(folder, sorted(rows, key=lambda row: row["step"]), train, facts, fault)


def _settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training and facts: from run.json, which the trainer writes first, then from the model directory."""
    model = folder.with_name(folder.name.removesuffix(".run"))
    begun, record = _optional(folder / "run.json") or {}, _optional(model / "cairn.json") or {}
    recipe = record.get("recipe") or {}
    shape = begun.get("model") or _optional(model / "config.json") or {}
    facts: dict[str, Any] = {"title": begun.get("title") or record.get("stage")}
    facts["vocab_size"] = shape.get("vocab_size")
    for key, other in (
        ("corpus_tokens", record.get("metrics", {}).get("corpus_tokens")),
        ("echo_steps", recipe.get("echo_steps", 0)),
        ("unigram_entropy", record.get("metrics", {}).get("unigram_entropy")),
    ):
        facts[key] = begun.get(key, other)
    return begun.get("train") or recipe.get("train") or {}, {k: v for k, v in facts.items() if v is not None}


def _optional(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None where there is no such file."""
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold an object; it is not a file of a training run")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


