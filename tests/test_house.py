"""The house rules: rooms import downwards only, no pickle, docs that match the code."""

import re
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_rooms_import_only_lower_floors(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports() == 0


def test_no_pickle_is_read():
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(
            r"\bpickle\.\w|torch\.load\(|\bexec\(|trust_remote_code", file.read_text(encoding="utf-8")
        ), file


def test_readme_names_every_command_with_its_help():
    from cairn.cli.main import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, (_, help) in COMMANDS.items():
        assert f"| `cairn {name}` | {help} |" in readme
