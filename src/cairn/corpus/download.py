"""Corpora from the web: known by name, or by URL and checksum; downloads that go on where they were cut off.

    folder = download(CORPORA["tinyshakespeare"], "data")      # data/tinyshakespeare/input.txt
    download(NamedCorpus("mine", (RemoteFile("https://example.org/a.jsonl.zst", sha256="..."),)), "data")

data/NAME/FILE              whole and checked, or absent; FILE.partial while it is on its way
data/NAME.download.json     of each file: URL, size, checksum, and the server's mark of its version
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import TEMPORARY_SUFFIX, fsync_directory, hash_file, read_json, write_json
from cairn.core.progress import Display, say
from cairn.corpus.sources.named import CORPORA, NamedCorpus, RemoteFile, check_url

__all__ = ["CORPORA", "NamedCorpus", "RemoteFile", "download"]

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 6  # in a row without progress; the pauses between them are 1, 2, 4, 8 and 16 seconds
LARGEST = 1 << 40  # bytes; a file whose size is not stated may not fill the disk without end
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that may pass


class _DroppedError(Exception):
    """The connection failed in a way that may pass."""


def download(
    corpus: NamedCorpus, folder: Path | str, largest: int = LARGEST, pause: Callable[[float], None] = time.sleep
) -> Path:
    """Bring the files of a corpus to `folder`/NAME and return that folder, ready for `read_folder`.

    A file that is there with the right checksum is left alone. A download that was cut off goes on by an HTTP range
    request, guarded by If-Range: where the file changed or the server knows no ranges, it starts anew. Raises UserError
    for what will not pass by itself (no such file, a wrong checksum or size, a connection that fails `ATTEMPTS` times in
    a row), OSError when the disk is full; what has come so far is kept for the next call. `pause(seconds)` waits.
    """
    target = Path(folder) / corpus.name
    target.mkdir(parents=True, exist_ok=True)
    notes = _Notes(target.with_name(f"{corpus.name}.download.json"))
    for remote in corpus.files:
        _bring(remote, target / remote.name, notes, largest, pause)
    return target


class _Notes:
    """What is known of each file, kept beside the folder. `version`: a strong ETag or a date, for If-Range."""

    def __init__(self, path: Path):
        self._path = path
        self._files: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}

    def of(self, remote: RemoteFile) -> dict[str, Any]:
        note = self._files.get(remote.name, {})
        return note if note.get("url") == remote.url else {}

    def write(self, remote: RemoteFile, **facts: Any) -> None:
        self._files[remote.name] = {"url": remote.url, **self.of(remote), **facts}
        write_json(self._path, self._files)


def _bring(remote: RemoteFile, path: Path, notes: _Notes, largest: int, pause: Callable[[float], None]) -> None:
    wanted = remote.sha256 or notes.of(remote).get("sha256", "")
    if path.exists():
        if not wanted:
            raise UserError(
                f"{path} is there already, and nothing is known about it: move it away, or state its sha256"
            )
        if hash_file(path) != wanted:
            raise UserError(
                f"{path} is not the file its checksum tells of (damaged or changed?): delete it and try again"
            )
        return
    partial = path.with_name(path.name + TEMPORARY_SUFFIX)
    failures = 0
    while True:
        before = _size(partial)
        try:
            _receive(remote, partial, notes, largest)
            break
        except _DroppedError as error:
            failures = 0 if _size(partial) > before else failures + 1
            if failures == ATTEMPTS:
                raise UserError(
                    f"{remote.url} cannot be reached ({error}); run again to go on where it stopped"
                ) from None
            pause(2.0 ** max(0, failures - 1))
    found = hash_file(partial)
    if wanted and found != wanted:
        partial.unlink()
        whose = "stated" if remote.sha256 else "seen in the first download"
        raise UserError(f"{remote.url} gave a file of sha256 {found}, {wanted} was {whose}: it has been removed")
    if not wanted:
        say(f"{path.name}: sha256 {found} (stored; later downloads must match it)")
    with open(partial, "rb") as handle:
        os.fsync(handle.fileno())
    notes.write(remote, sha256=found, bytes=_size(partial))
    os.replace(partial, path)
    fsync_directory(path.parent)


def _receive(remote: RemoteFile, partial: Path, notes: _Notes, largest: int) -> None:
    """Fill `partial` until it is whole, or raise `_DroppedError`."""
    have, version = _size(partial), notes.of(remote).get("version", "")
    if have and have == notes.of(remote).get("bytes"):
        return  # the last call was cut off between the last byte and the check
    headers = {"User-Agent": "cairn", "Accept-Encoding": "identity"}
    # Without a version nothing tells that the rest belongs to what is here; a stated checksum will show it.
    if have and (version or remote.sha256):
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    try:
        response = _OPENER.open(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left of the range: the file here is too long, or another one
            partial.unlink()
            raise _DroppedError("the server has no more than what is here") from None
        if error.code in AGAIN:
            raise _DroppedError(f"HTTP status {error.code}") from None
        raise UserError(f"{remote.url} cannot be downloaded: HTTP status {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(str(getattr(error, "reason", error)) or type(error).__name__) from None
    with response:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UserError(f"{remote.url} comes packed in transit, so its checksum cannot be told")
        start, total = _extent(response, have if "Range" in headers else 0)
        size = remote.bytes or total
        if total and remote.bytes and total != remote.bytes:
            raise UserError(f"{remote.url} has {total:,} bytes where {remote.bytes:,} are stated: it has changed")
        if size > largest:
            raise UserError(f"{remote.url} has {size:,} bytes, over the bound of {largest:,}")
        version = response.headers.get("ETag", "W/")
        if version.startswith("W/"):  # a weak tag does not promise equal bytes
            version = response.headers.get("Last-Modified", "")
        notes.write(remote, version=version, bytes=size)
        _store(response, partial, start, size, size or largest, remote)


def _extent(response: Any, have: int) -> tuple[int, int]:
    """(where the bytes of this response begin in the file, size of the whole file or 0)."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have:
            raise _DroppedError("the server sent another range than the one asked for")
        return have, 0 if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else 0


def _store(response: Any, partial: Path, start: int, size: int, bound: int, remote: RemoteFile) -> None:
    """Write the response behind the first `start` bytes; `size` is that of the whole file, 0 where it is not known."""
    mode = "r+b" if partial.exists() else "wb"
    with open(partial, mode) as handle, Display(remote.name, size >> 20, "MiB") as display:
        handle.truncate(start)
        handle.seek(start)
        done = start
        while True:
            try:
                data = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _DroppedError(str(error) or type(error).__name__) from None
            if not data:
                break
            if done + len(data) > bound:
                raise UserError(f"{remote.url} sends more than {bound:,} bytes")
            handle.write(data)  # a full disk is an OSError of its own, not a dropped connection
            if size and done >> 20 != (done + len(data)) >> 20:
                display.update((done + len(data)) >> 20)
            done += len(data)
    if done < size:
        raise _DroppedError(f"the connection ended after {done:,} of {size:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _OnlySafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_OnlySafeRedirects)
