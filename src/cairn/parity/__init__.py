"""Every stone against its oracle: the checks that `cairn parity` runs and prints, and that the tests run with more seeds.

A check compares one part of cairn with the library that professionals use, on random inputs. Each part keeps its checks in a
module of this room, in a list `CHECKS`; a new module is named in `MODULES`.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

MODULES = (
    "foundations_scalar",
    "foundations_tensor",
    "foundations_network",
    "foundations_sequence",
    "foundations_mathematics",
    "foundations_metrics",
    "embeddings",
    "positions",
    "decoders",
    "experts",
    "encoders",
    "optimizers",
)


@dataclass(frozen=True)
class Check:
    """`run(seed)` gives the largest error of `part` against the distribution `oracle`; it imports both when called.

    Errors are absolute differences unless the part's name says otherwise; up to `tolerance` it is right.
    """

    part: str
    oracle: str
    tolerance: float
    run: Callable[[int], float]


@dataclass(frozen=True)
class Outcome:
    """What a check said. Without an error nothing was compared, because the oracle is missing; `note` says so.

    A check that broke off has an infinite error, and its words in `note`.
    """

    part: str
    oracle: str
    version: str | None
    max_error: float | None
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """None where nothing was compared. NaN is never right."""
        return None if self.max_error is None else self.max_error <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: `max_error` is null then, and `ok` false."""
        finite = self.max_error if self.max_error is not None and math.isfinite(self.max_error) else None
        return {
            "part": self.part,
            "oracle": self.oracle,
            "version": self.version,
            "max_error": finite,
            "tolerance": self.tolerance,
            "ok": self.ok,
        }


def all_checks() -> list[Check]:
    """The checks of all modules, in the order of `MODULES`."""
    return [check for name in MODULES for check in importlib.import_module(f"cairn.parity.{name}").CHECKS]


def run_checks(checks: Sequence[Check], seed: int = 0) -> Iterator[Outcome]:
    """Run one check after the other."""
    for check in checks:
        try:
            found = version(check.oracle)
        except PackageNotFoundError:
            note = f"{check.oracle} is not installed: pip install 'cairn[test]'"
            yield Outcome(check.part, check.oracle, None, None, check.tolerance, note)
            continue
        try:
            error, note = check.run(seed), ""
        except Exception as problem:  # whatever breaks in a part or its oracle: the other parts are still compared
            error, note = math.inf, f"{type(problem).__name__}: {problem}"
        yield Outcome(check.part, check.oracle, found, error, check.tolerance, note)
