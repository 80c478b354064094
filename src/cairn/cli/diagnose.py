"""Read the record of a training run and say what went wrong, with the evidence and the next thing to try.

    cairn diagnose runs/base
    cairn diagnose runs/base.run --picture run.svg --json run.json
    cairn diagnose runs/base --tensorboard runs/tensorboard

RUN is a model directory, its run folder (the same name with .run at the end), or a metrics.jsonl. A run that was made with
--train.watch-every says most, also of its layers. Ends with 1 where something is wrong.
"""

import argparse
from pathlib import Path

from cairn.core.errors import UserError

WRONG = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.cli.options import add_json

    parser.add_argument("record", type=Path, metavar="RUN", help="model directory, run folder or metrics.jsonl")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves with what was found into an SVG")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="write the record as TensorBoard event files")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from cairn.cli.options import finish, print_table
    from cairn.core.files import write_bytes
    from cairn.training.diagnose import diagnose

    if arguments.picture and not arguments.picture.parent.is_dir():
        raise UserError(f"--picture {arguments.picture}: there is no folder {arguments.picture.parent}")
    diagnosis = diagnose(arguments.record)
    summary = "  ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in diagnosis.summary().items())
    print(f"{diagnosis.run.path}: {summary}")
    if diagnosis.run.skipped:
        print(f"{diagnosis.run.skipped} lines of the record are no rows and were left out")
    for finding in diagnosis.findings:
        if not finding.follows:
            at = "" if finding.step is None else f" (step {finding.step})"
            print(f"\n{finding.severity}: {finding.name}{at}\n  {finding.evidence}\n  try: {finding.advice}")
    followers = [finding for finding in diagnosis.findings if finding.follows]
    if followers:
        rows = [(f.name, f.follows, f.evidence) for f in followers]
        print_table("\nwhat follows from it", ("found", "follows from", "evidence"), rows)
    print(f"\n{diagnosis.verdict}")
    if arguments.picture:
        from cairn.training.diagnose.picture import picture

        write_bytes(arguments.picture, picture(diagnosis.run, diagnosis.findings))
    if arguments.tensorboard:
        from cairn.training.tensorboard import convert

        record = diagnosis.run.path / "metrics.jsonl"
        ended = (record if record.exists() else diagnosis.run.path).stat().st_mtime
        convert(diagnosis.run.rows, arguments.tensorboard, ended)
    finish(arguments, diagnosis.to_json())
    return WRONG if diagnosis.wrong else 0
