"""IDX, the format of the MNIST files: four bytes of magic, the sizes, then the numbers, all big-endian.

    0 0 | type code | number of dimensions | size of each dimension, 4 bytes | values, row by row

So 60,000 pictures of 28 x 28 begin 00 00 08 03, 00 00 EA 60, 00 00 00 1C, 00 00 00 1C. A header is eight bytes and can claim
terabytes; what it claims is compared with the length of the file before anything is allocated. `.gz` files are read as they
are: gzip shrinks at most 1032 times, which bounds what a compressed file can hold.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:
...     path = write_idx(Path(folder) / "three.gz", np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int16))
...     read_idx(path)
array([[1, 2, 3],
       [4, 5, 6]], dtype=int16)
"""

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 8
MAX_BYTES = 2 << 30  # of values in one file; MNIST's largest has 47 MB
GZIP_RATIO = 1032  # deflate's best: 258 bytes from two bits
_CHUNK = 1 << 20


def read_idx(path: Path | str, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """The array of a plain or gzipped IDX file, in the byte order of this machine.

    ValueError: not IDX, cut off, with bytes left over, or more than `max_bytes`; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is no file")
    length = path.stat().st_size
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            if packed:
                with gzip.open(file) as stream:
                    return _read(stream, path, min(max_bytes, length * GZIP_RATIO), None)
            return _read(file, path, max_bytes, length)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise ValueError(f"{path}: the compressed file is damaged or cut off ({problem}); fetch it again") from None


def _read(stream: io.BufferedIOBase, path: Path, limit: int, length: int | None) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MAX_DIMENSIONS:
        raise ValueError(f"{path} is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}")
    kind, dimensions = np.dtype(TYPES[magic[2]]), magic[3]
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"{path} is cut off within its {dimensions} sizes")
    shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(dimensions))
    wanted = math.prod(shape) * kind.itemsize
    claim = f"{path}: shape {shape} of {kind.name} takes {wanted:,} bytes"
    if wanted > limit:
        raise ValueError(f"{claim}, more than the {limit:,} that it can hold or that are allowed")
    if length is not None and length != 4 + 4 * dimensions + wanted:
        raise ValueError(f"{claim}, but {length - 4 - 4 * dimensions:,} follow the header; fetch the file again")
    values = bytearray()  # grows with what is there, whatever was claimed
    while len(values) <= wanted and (chunk := stream.read(min(_CHUNK, wanted + 1 - len(values)))):
        values += chunk
    if len(values) != wanted:
        found = "more" if len(values) > wanted else f"{len(values):,}"
        raise ValueError(f"{claim}, but {found} follow the header; fetch the file again")
    return np.frombuffer(values, dtype=kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def write_idx(path: Path | str, array: np.ndarray) -> Path:
    """Write an array; gzipped where the name ends in .gz, with the same bytes each time."""
    path = Path(path)
    codes = {np.dtype(name).newbyteorder("="): code for code, name in TYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise ValueError(f"IDX holds {', '.join(kind.name for kind in codes)}, not {array.dtype}")
    if not 1 <= array.ndim <= MAX_DIMENSIONS or max(array.shape) >= 1 << 32:
        raise ValueError(f"IDX holds 1 to {MAX_DIMENSIONS} dimensions of less than 2^32, got shape {array.shape}")
    header = bytes((0, 0, code, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.astype(TYPES[code]).tobytes()
    part = path.with_name(path.name + ".part")
    part.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    os.replace(part, path)
    return path


def read_mnist(images: Path | str, labels: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 1, H, W) of bytes and their labels (N,): a pair of files as MNIST has them."""
    x_NHW, y_N = read_idx(images), read_idx(labels)
    if x_NHW.ndim != 3 or x_NHW.dtype != np.uint8:
        raise ValueError(f"{images} has shape {x_NHW.shape} of {x_NHW.dtype}; pictures are (N, height, width) of uint8")
    if y_N.shape != x_NHW.shape[:1] or y_N.dtype != np.uint8:
        raise ValueError(f"{labels} has shape {y_N.shape} of {y_N.dtype} for {len(x_NHW)} pictures: not their labels")
    return x_NHW[:, None], y_N.astype(np.int64)
