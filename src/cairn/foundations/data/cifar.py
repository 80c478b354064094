"""CIFAR-10's and CIFAR-100's binary files: one record after the other, a label and 32 x 32 pixels in three planes.

    CIFAR-10:  label | 1024 red | 1024 green | 1024 blue          3073 bytes
    CIFAR-100: coarse label | fine label | the same planes        3074 bytes

The archive that the authors offer (cifar-10-binary.tar.gz) is read as a stream: nothing is unpacked to disk, members are
checked before they are read, and what the archive may hold in all is bounded. The "python version" of the data is a pickle,
which runs code when it is opened; it is refused.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:
...     written = (Path(folder) / "data_batch_1.bin").write_bytes((b"\\x07" + bytes(range(256)) * 12) * 2)
...     x_NCHW, y_N = read_cifar_binary(folder, train=True)
>>> x_NCHW.shape, y_N, x_NCHW[0, 0, 0, :4]
((2, 3, 32, 32), array([7, 7]), array([0, 1, 2, 3], dtype=uint8))
"""

import gzip
import io
import re
import tarfile
import zlib
from pathlib import Path

import numpy as np

PIXELS = 3 * 32 * 32
MAX_FILE = 256 << 20  # one batch has 31 MB, CIFAR-100's training file 154 MB
MAX_ARCHIVE = 1 << 30  # unpacked; the real ones have 184 MB
MAX_MEMBERS = (
    1000  # of an archive; the real ones have 9, and each takes time: 200,000 empty ones, 1 MB packed, took 13 s
)
BINARY = {"cifar-10": "cifar-10-binary.tar.gz", "cifar-100": "cifar-100-binary.tar.gz"}


def read_cifar_binary(source: Path | str, train: bool = True, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 3, 32, 32) of bytes, red first, and labels (N,); batches in the order of their names.

    source: a .bin file, a folder of them, or the .tar.gz. classes: 10 or 100. ValueError: nothing fits, a record is cut off,
    a label too large, an archive too big, or the pickled version.
    """
    source = Path(source)
    if classes not in (10, 100):
        raise ValueError(f"CIFAR has 10 or 100 classes, not {classes}")
    wanted = {(10, True): r"data_batch_\d+\.bin", (10, False): r"test_batch\.bin"}
    pattern = wanted.get((classes, train), r"train\.bin" if train else r"test\.bin")
    if source.is_dir():
        files = {path.name: _whole(path) for path in sorted(source.iterdir()) if re.fullmatch(pattern, path.name)}
        names = [path.name for path in source.iterdir()]
    elif not source.is_file():
        raise ValueError(f"{source} does not exist or is no file")
    elif source.suffix == ".bin":
        files, names = {source.name: _whole(source)}, []
    else:
        _refuse_pickles(source, [source.name], classes)
        files, names = _from_archive(source, pattern)
    if not files:
        _refuse_pickles(source, names, classes)
        raise ValueError(f"{source} holds no file named like {pattern}; is it {BINARY[f'cifar-{classes}']}?")
    parts = [
        _records(content, name, classes) for name, content in sorted(files.items(), key=lambda item: _order(item[0]))
    ]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _order(name: str) -> tuple[int, str]:
    return int("".join(re.findall(r"\d+", name)) or 0), name


def _records(content: bytes, name: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = 1 if classes == 10 else 2
    if not content or len(content) % (labels + PIXELS):
        raise ValueError(f"{name} has {len(content):,} bytes, not a whole number of records of {labels + PIXELS}")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, labels + PIXELS)
    y_N = records[:, labels - 1].astype(np.int64)
    if y_N.max() >= classes:
        raise ValueError(f"{name}: record {int(y_N.argmax())} has label {y_N.max()}; there are {classes} classes")
    return records[:, labels:].reshape(-1, 3, 32, 32), y_N


def _whole(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path} is no file, or has more than {MAX_FILE >> 20} MB")
    return path.read_bytes()


def _from_archive(path: Path, pattern: str) -> tuple[dict[str, bytes], list[str]]:
    """The members of a .tar.gz that fit, and the names of all."""
    files: dict[str, bytes] = {}
    names: list[str] = []
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=_Bounded(packed, path), mode="r|") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                names.append(name)
                if len(names) > MAX_MEMBERS:
                    raise ValueError(f"{path} holds more than {MAX_MEMBERS:,} files: not CIFAR")
                if not re.fullmatch(pattern, name):
                    continue
                if not member.isfile() or member.size > MAX_FILE or name in files:
                    raise ValueError(f"{path}: {member.name!r} is no plain file, too big, or there twice")
                content = archive.extractfile(member)
                assert content is not None
                files[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OverflowError) as problem:
        raise ValueError(f"{path} is no whole .tar.gz archive ({problem}); fetch it again") from None
    return files, names


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than MAX_ARCHIVE bytes: a small .gz can hold terabytes."""

    def __init__(self, stream: gzip.GzipFile, path: Path):
        self.stream, self.path, self.left = stream, path, MAX_ARCHIVE

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise ValueError(f"{self.path} unpacks to more than {MAX_ARCHIVE >> 20} MB: not CIFAR")
        content = self.stream.read(size)
        self.left -= len(content)
        return content


def _refuse_pickles(source: Path, names: list[str], classes: int) -> None:
    if any(re.fullmatch(r"data_batch_\d+|test_batch|train|test|meta|batches\.meta", name) for name in names):
        binary = BINARY[f"cifar-{classes}"]
        raise ValueError(
            f"{source} is the python version of CIFAR, a pickle, which could run any code and is not read; "
            f"download the binary version, {binary}, instead"
        )
