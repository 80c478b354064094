"""Pictures in folders: `train/CLASS/NAME.jpg`, as a folder or a zip of it, all of one size.

The name of a folder is the label. Classes are sorted by name, and pictures by class and then name, so that the same files
give the same arrays anywhere. A picture that cannot be read is left out, counted and named; the others are still used. Pillow
decodes; a picture's size is looked at before its pixels are unpacked.

>>> from tempfile import TemporaryDirectory
>>> from PIL import Image
>>> with TemporaryDirectory() as folder:
...     for name, shade in (("cat/a.png", 10), ("cat/b.png", 20), ("dog/a.png", 30)):
...         path = Path(folder, "train", name)
...         path.parent.mkdir(parents=True, exist_ok=True)
...         Image.new("RGB", (32, 32), (shade, 0, 0)).save(path)
...     written = Path(folder, "train/dog/b.png").write_bytes(b"not a picture")
...     found = read_images(folder, "train")
>>> found.x_NCHW.shape, found.y_N, found.classes, found.refused
((3, 3, 32, 32), array([0, 0, 1]), ('cat', 'dog'), ('train/dog/b.png: not a picture that Pillow can read',))
"""

import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 1 << 20  # of one file; a JPEG of 32 x 32 has about 1,000
MAX_IMAGES = 1_000_000

Entry = tuple[str, str, Callable[[], bytes]]  # class, name for messages, what reads it


@dataclass(frozen=True)
class Images:
    x_NCHW: np.ndarray  # bytes, red first
    y_N: np.ndarray  # int64
    classes: tuple[str, ...]
    refused: tuple[str, ...]  # a line for each file that could not be used


def read_images(
    source: Path | str, part: str = "train", size: tuple[int, int] = (32, 32), limit: int | None = None
) -> Images:
    """All pictures below `part`/CLASS/ of a folder or zip; with `limit` the first so many of each class.

    size: (width, height) that each picture must have. ValueError: no such place, no picture at all, or too many.
    """
    from PIL import Image

    source = Path(source)
    if source.is_dir():
        entries = _of_folder(source, part)
    elif zipfile.is_zipfile(source):
        entries = _of_zip(source, part)
    else:
        raise ValueError(f"{source} is neither a folder nor a zip file")
    pictures: list[np.ndarray] = []
    labels: list[str] = []
    refused: list[str] = []
    taken: Counter[str] = Counter()
    for label, name, read in entries:
        if limit is not None and taken[label] >= limit:
            continue
        if len(pictures) + len(refused) >= MAX_IMAGES:
            raise ValueError(f"{source} holds more than {MAX_IMAGES:,} pictures; split it")
        try:
            with Image.open(io.BytesIO(read()), formats=("JPEG", "PNG")) as image:
                if image.size != size:
                    raise ValueError(f"is {image.size[0]} x {image.size[1]}, not {size[0]} x {size[1]}")
                pictures.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
        except ValueError as problem:
            refused.append(f"{name}: {problem}")
        except Exception:  # there is no list of what decoders, of zip members too, trip over in a damaged file
            refused.append(f"{name}: not a picture that Pillow can read")
        else:
            labels.append(label)
            taken[label] += 1
    if not pictures:
        first = f"; the first refused: {refused[0]}" if refused else ""
        raise ValueError(f"{source} holds no picture named like {part}/CLASS/NAME.jpg{first}")
    classes = tuple(sorted(set(labels)))
    number = {name: i for i, name in enumerate(classes)}
    y_N = np.array([number[label] for label in labels], dtype=np.int64)
    return Images(np.stack(pictures), y_N, classes, tuple(refused))


def _of_folder(folder: Path, part: str) -> Iterator[Entry]:
    for path in sorted((folder / part).glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.parent.name, path.relative_to(folder).as_posix(), lambda path=path: _bytes_of_file(path)


def _bytes_of_file(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"is no file, or has more than {MAX_BYTES:,} bytes")
    return path.read_bytes()


def _of_zip(path: Path, part: str) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as problem:
        raise ValueError(f"{path} is a damaged zip file ({problem}); fetch it again") from None
    with archive:
        wanted = []
        for member in archive.infolist():
            pieces = member.filename.split("/")
            if pieces[-3:-2] == [part] and os.path.splitext(pieces[-1])[1].lower() in SUFFIXES:
                wanted.append((pieces[-2], member))
        for label, member in sorted(wanted, key=lambda pair: (pair[0], pair[1].filename)):
            yield label, member.filename, lambda member=member: _bytes_of_member(archive, member)


def _bytes_of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        content = file.read(MAX_BYTES + 1)  # no more, whatever size the archive claims
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES:,} bytes")
    return content
