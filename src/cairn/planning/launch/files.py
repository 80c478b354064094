"""The files of a job, written without replacing anything silently."""

from dataclasses import dataclass, field
from pathlib import Path

from cairn.core.errors import UserError
from cairn.core.files import write_text


@dataclass(frozen=True)
class JobFiles:
    """files: name -> content. submit: the command that starts the job. notes: what its user should know."""

    files: dict[str, str]
    submit: str
    notes: list[str] = field(default_factory=list)


def write_files(folder: Path, files: dict[str, str], replace: bool) -> None:
    """Write all files or none: one that exists with other content is refused unless `replace`."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another --out")
    different = [name for name, text in files.items() if _differs(folder / name, text)]
    if different and not replace:
        raise UserError(
            f"{folder / different[0]} exists with other content; choose another --out, or give --replace to write over it"
        )
    for name, text in files.items():
        write_text(folder / name, text)
        if text.startswith("#!"):
            (folder / name).chmod(0o755)


def _differs(path: Path, text: str) -> bool:
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose another --out")
    return path.exists() and path.read_bytes() != text.encode("utf-8")
