"""What the benchmarks share: interleaved timings, fresh processes, rows that programs read."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cairn.core.files import write_json

Row = dict[str, Any]

# Not getrusage: its maximum counts the process that started this one.
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def row(name: str, peer: str, value: float, peer_value: float, unit: str, goal: float, *, less_is_better: bool) -> Row:
    """ratio > 1 means better than the peer."""
    ratio = peer_value / value if less_is_better else value / peer_value
    return {
        "name": name,
        "peer": peer,
        "value": value,
        "peer_value": peer_value,
        "unit": unit,
        "ratio": ratio,
        "goal": goal,
    }


def interleaved(
    functions: Sequence[Callable[[], object]], runs: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median seconds of each function, run in turns so that a busy machine disturbs all alike; the first turn warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs + 1):
        for function, seconds in zip(functions, times):
            start = clock()
            function()
            seconds.append(clock() - start)
    return [statistics.median(seconds[1:]) for seconds in times]


def fresh(code: str, *arguments: object, environment: dict[str, str] | None = None) -> dict[str, float]:
    """Run `code` in a new Python process; it may print one JSON object. Adds "wall" (seconds) and "peak_mb"."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK, *map(str, arguments)],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    *printed, peak = done.stdout.strip().splitlines()
    result = json.loads(printed[-1]) if printed else {}
    return result | {"wall": wall, "peak_mb": int(peak) / 1024}


def main(documentation: str, measure: Callable[[bool], list[Row]]) -> None:
    """--quick and --json; prints one line a row."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, not how fast is it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    for r in rows:
        digits = max(0, 3 - math.floor(math.log10(r["value"])))
        print(
            f"{r['name']:<40}{r['value']:>12,.{digits}f}{r['peer_value']:>14,.{digits}f} {r['unit']:<9}"
            f"{r['ratio']:>6.2f}x (goal {r['goal']}x) against {r['peer']}"
        )
    if arguments.json:
        write_json(arguments.json, rows)
