"""Compare every part with the library that professionals use, on random inputs: part, oracle, largest error, tolerance.

    cairn parity
    cairn parity --only gemma2 --json parity.json

Ends with 1 where an error is above its tolerance. Oracles are in the extra `test` (pip install 'cairn[test]'); a missing one
is named and its checks are skipped.
"""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cairn.parity import Outcome

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.cli.options import add_json

    parser.add_argument("--only", metavar="PART", help="checks whose part begins with PART (a family, for example)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random inputs (default: 0)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from cairn.cli.options import finish, print_table
    from cairn.core.errors import UserError
    from cairn.core.progress import Display
    from cairn.parity import all_checks, run_checks

    # Oracles stay at home and keep to themselves: their warnings are about sizes that no real model has.
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_VERBOSITY", "critical")):
        os.environ.setdefault(name, value)
    known = all_checks()
    checks = [check for check in known if check.part.startswith(arguments.only or "")]
    if not checks:
        parts = dict.fromkeys(check.part.split(":")[0].split(",")[0] for check in known)
        raise UserError(f"no check begins with {arguments.only!r}; there are: {', '.join(parts)}")
    outcomes = []
    with Display("parity", total=len(checks), unit="checks") as display:
        for outcome in run_checks(checks, arguments.seed):
            outcomes.append(outcome)
            display.update(len(outcomes), outcome.part)
    columns = ("part", "oracle", "version", "largest error", "tolerance", "ok")
    print_table("cairn against its oracles", columns, [_row(outcome) for outcome in outcomes])
    for outcome in outcomes:
        if outcome.note:
            print(f"{outcome.part}: {outcome.note}")
    right, wrong = (sum(o.ok is ok for o in outcomes) for ok in (True, False))
    print(f"{right} right, {wrong} wrong, {len(outcomes) - right - wrong} skipped")
    finish(arguments, [outcome.to_json() for outcome in outcomes])
    return FAILED if wrong else 0


def _row(outcome: "Outcome") -> tuple[str, ...]:
    error = "" if outcome.max_error is None else f"{outcome.max_error:.1e}"
    said = {True: "yes", False: "NO", None: "skipped"}[outcome.ok]
    return outcome.part, outcome.oracle, outcome.version or "", error, f"{outcome.tolerance:.0e}", said
