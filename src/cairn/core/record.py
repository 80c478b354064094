"""The one record of a run: `metrics.jsonl`, a JSON object a line, that display, plots and report all read."""

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Append rows to `path`; on resume, rows of steps that will be run again are dropped first.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> log = MetricsLog(path); log.write({"step": 1, "loss": 2.0}); log.write({"step": 2, "loss": 1.5}); log.close()
    >>> log = MetricsLog(path, resume_step=1); log.close(); read_metrics(path)
    [{'step': 1, 'loss': 2.0}]
    """

    def __init__(self, path: Path | str, resume_step: int = 0):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_metrics(self.path) if isinstance(row, dict)] if resume_step else []
        kept = [row for row in rows if row.get("step", 0) <= resume_step]
        temporary = self.path.with_name(self.path.name + ".partial")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, self.path)
        self._handle = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close())

    def write(self, row: dict[str, Any]) -> None:
        self._handle.write(json.dumps(row, allow_nan=False) + "\n")
        self._handle.flush()

    def close(self) -> None:
        self._handle.close()


def read_metrics(path: Path | str) -> list[Any]:
    """All lines that are JSON: rows, unless something else wrote there. The half line of a killed process is left out, as is
    whatever cannot be read (bytes that are no text, numbers of thousands of digits, brackets without end)."""
    rows = []
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return rows
