"""Training runs as points of a scaling law: parameters, tokens, FLOPs, loss, and the curve that led there.

Read from model directories with their metrics.jsonl, from the folder of a sweep, or from JSON Lines with a run a line:

    {"parameters": 124e6, "tokens": 2.5e9, "loss": 3.28}                          also: name, flops, embedding_parameters,
                                                                                  curve [[tokens, loss], ...]
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import write_text
from cairn.core.record import read_metrics
from cairn.corpus.documents import Quarantine

COUNTS = ("total", "non-embedding")
SUMMARY = "runs.jsonl"  # of a sweep: a row for each finished run
FLOPS_PER_WEIGHT = 6.0  # for a token: 2 forward, 4 backward (Kaplan et al. 2020, section 2.1)
LONGEST_LINE = 16 << 20
LEAST, MOST = 1e-30, 1e40  # a figure of a run beyond these is a mistake


@dataclass(frozen=True)
class Run:
    """A finished run. parameters: as counted; loss: nats a token at the end; curve: tokens and training loss on the way;
    seconds: what it cost, 0 where that is not known."""

    name: str
    parameters: float
    tokens: float
    loss: float
    flops: float
    curve_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0))
    curve_loss: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seconds: float = 0.0


def read_runs(paths: Sequence[Path | str], count: str = "total", quarantine: Quarantine | None = None) -> list[Run]:
    """All usable runs of files and folders; what cannot be used is counted in `quarantine` with the reason.

    count: whether N has the embedding in it. Of model directories the validation loss is taken where each has one, else the
    training loss of the last row for all of them: the two must not be mixed in one law. Raises UserError where no run is left.
    """
    quarantine = Quarantine() if quarantine is None else quarantine
    rows: list[dict[str, Any]] = []
    for path in map(Path, paths):
        rows += _rows(path, quarantine)
    if not all(row.get("loss") is not None for row in rows):
        for row in rows:
            row["loss"] = row.get("train_loss") if "train_loss" in row else row.get("loss")
    runs: dict[tuple[Any, ...], Run] = {}
    for row in rows:
        try:
            run = _run(row, count)
        except UserError as error:
            quarantine.add(str(row.get("name", row.get("where", "?"))), str(error))
            continue
        same = (run.name, run.parameters, run.tokens, run.loss, run.flops)
        if same in runs:
            quarantine.add(run.name, "equal to a run that is there already")
        runs.setdefault(same, run)
    if not runs:
        places = ", ".join(map(str, paths)) or "the given paths"
        raise UserError(f"no usable run in {places}; left out: {quarantine.summary()}")
    return list(runs.values())


def _run(row: dict[str, Any], count: str) -> Run:
    parameters, tokens, loss = (_positive(row, key) for key in ("parameters", "tokens", "loss"))
    if count == "non-embedding":
        embedding = row.get("embedding_parameters")
        if not isinstance(embedding, (int, float)) or not 0 <= embedding < parameters:
            raise UserError("embedding_parameters is missing or no part of parameters; count them with --count total")
        parameters -= embedding
    flops = FLOPS_PER_WEIGHT * parameters * tokens if row.get("flops") is None else _positive(row, "flops")
    curve = row.get("curve") or []
    try:
        points = np.array(curve, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise UserError("curve is no list of [tokens, loss]") from None
    points = points[np.isfinite(points).all(1) & (points > 0).all(1)]
    points = points[np.argsort(points[:, 0], kind="stable")]
    name = str(row.get("name") or f"{parameters:.3g} parameters, {tokens:.3g} tokens")
    seconds = 0.0 if row.get("spent") is None else _positive(row, "spent")
    return Run(name, parameters, tokens, loss, flops, points[:, 0], points[:, 1], seconds)


def _positive(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not LEAST <= value <= MOST:
        raise UserError(f"{key} is not a number above 0 (and up to {MOST:g})")
    return float(value)


def _rows(path: Path, quarantine: Quarantine) -> list[dict[str, Any]]:
    if path.is_file():
        return _lines(path, quarantine)
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give a JSON Lines file, a sweep's folder or model directories")
    if (path / SUMMARY).exists():
        return _lines(path / SUMMARY, quarantine)
    if (path / "cairn.json").exists():
        return _directory(path, quarantine)
    inside = sorted(p for p in path.iterdir() if (p / "cairn.json").exists())
    if not inside:
        raise UserError(f"{path} holds no runs: neither {SUMMARY} nor model directories with cairn.json")
    return [row for directory in inside for row in _directory(directory, quarantine)]


def _lines(path: Path, quarantine: Quarantine) -> list[dict[str, Any]]:
    rows = []
    with open(path, "rb") as handle:
        for number, line in enumerate(iter(lambda: handle.readline(LONGEST_LINE), b""), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append({"where": f"{path}:{number}"} | row)
            else:
                quarantine.add(f"{path}:{number}", "not a JSON object")
    return rows


def _directory(path: Path, quarantine: Quarantine) -> list[dict[str, Any]]:
    """The run that made a model directory; metrics.jsonl lies in its run folder beside it, or inside it."""
    from cairn.models import read_record
    from cairn.models.directory import read_model_config

    try:
        record = read_record(path)
        config, _ = read_model_config(path)
    except UserError as error:
        quarantine.add(str(path), str(error))
        return []
    if record.get("parents"):
        quarantine.add(str(path), "goes on from another model: its tokens are not all it has seen")
        return []
    beside = path.with_name(path.name + ".run") / "metrics.jsonl"
    lines = read_metrics(beside if beside.exists() else path / "metrics.jsonl")
    rows = [row for row in lines if isinstance(row, dict) and row.get("loss") is not None]
    metrics = record.get("metrics") or {}
    last = rows[-1] if rows else {}
    matrices = 1 if config.tie_embeddings else 2
    positions = config.max_positions + config.position_offset if config.positions == "learned" else 0
    return [
        {
            "name": path.name,
            "parameters": record.get("parameters"),
            "embedding_parameters": (config.vocab_size * matrices + positions) * config.dim,
            "tokens": record.get("tokens"),
            "loss": metrics.get("valid_loss", last.get("valid_loss")),
            "train_loss": metrics.get("loss", last.get("loss")),
            "curve": [[row["tokens"], row["loss"]] for row in rows if "tokens" in row],
        }
    ]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """JSON Lines as `read_runs` reads them, whole or not at all."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
