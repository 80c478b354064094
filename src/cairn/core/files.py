"""Files that are either whole or absent.

Everything cairn leaves on disk is written under a temporary name, flushed to the device, and renamed: a process killed
at any instruction leaves the old content, the new content, or a temporary that the next run removes, never half a file
that looks complete.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError

TEMPORARY_SUFFIX = ".partial"


def fsync_directory(path: Path) -> None:
    """Make a rename inside `path` survive a power cut (a rename is durable only once its directory is)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Any]:
    """Open a binary file that appears at `path` only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)
    fsync_directory(path.parent)


@contextlib.contextmanager
def ordinary_mode(path: Path | str) -> Iterator[None]:
    """Let what is written to `path` within have the permissions that `open` would give it, by the umask.

    For writers that rename a temporary of their own into place: such a file is private (0600), and others who may read
    the folder could not read it.
    """
    path = Path(path)
    fresh = not path.exists()
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        yield
    except BaseException:
        if fresh:
            path.unlink(missing_ok=True)
        raise
    path.chmod(mode)


def write_bytes(path: Path | str, data: bytes) -> None:
    with atomic_file(path) as handle:
        handle.write(data)


def write_text(path: Path | str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """NaN and infinity are refused: they are not JSON, and a figure that is not a number is a fault to find."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, *, max_bytes: int = 256 << 20) -> Any:
    """Read a JSON file, with a bound on its size and one-line errors that name it."""
    path = Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise UserError(f"{path} is larger than {max_bytes >> 20} MiB; that is not a file cairn wrote")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, a JSON file is expected") from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise UserError(f"{path} is not valid JSON ({error}); it may be truncated: make it again") from None


@contextlib.contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Fill a directory that appears at `path` only when the block ends without an error; replaces an older one.

    Directories cannot be swapped atomically by every file system: the old one is moved aside first, and
    `remove_temporaries` puts it back if the process died between the two renames.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    old = path.with_name(path.name + ".old")
    temporary.mkdir()
    try:
        yield temporary
        for root, _, names in os.walk(temporary):
            for name in names:
                with open(os.path.join(root, name), "rb") as handle:
                    os.fsync(handle.fileno())
            fsync_directory(Path(root))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        os.rename(path, old)
    os.rename(temporary, path)
    fsync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_temporaries(path: Path) -> None:
    """Clear what a killed `atomic_directory(path)` left behind."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    old = path.with_name(path.name + ".old")
    if temporary.exists():
        shutil.rmtree(temporary)
    if old.exists():
        if path.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, path)


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """A short hash of any JSON-able value: equal settings and inputs have equal fingerprints."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_unit(text: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on `text` alone: splits made with it do not move when documents are added."""
    digest = hashlib.sha256(f"{salt}\0{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
