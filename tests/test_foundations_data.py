"""Readers of pictures: what they read is what was written, and no file makes them believe it, run code or fill the memory."""

import gzip
import io
import pickle
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cairn.foundations.data import (
    batches,
    cifar,
    load_digits,
    read_cifar_binary,
    read_idx,
    read_images,
    read_mnist,
    split_images,
    stratified_split,
    write_idx,
)

REAL = Path(__file__).parents[2] / "shared" / "data" / "vision"
KINDS = ["u1", "i1", "i2", "i4", "f4", "f8"]


# --- IDX


@given(st.sampled_from(KINDS), arrays.array_shapes(max_dims=4, max_side=5), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_idx_gives_back_what_was_written(tmp_path_factory, kind, shape, packed, seed):
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    array = np.frombuffer(np.random.default_rng(seed).bytes(8 * int(np.prod(shape))), "u1").astype(kind)
    array = array[: int(np.prod(shape))].reshape(shape)
    found = read_idx(write_idx(path, array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_idx_has_the_bytes_of_the_format(tmp_path):
    path = write_idx(tmp_path / "a", np.array([[1, -2]], dtype=np.int16))
    assert path.read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001 fffe")
    twice = [write_idx(tmp_path / "b.gz", np.arange(9)[:, None].astype("u1")).read_bytes() for _ in range(2)]
    assert twice[0] == twice[1]


GOOD = bytes.fromhex("00000801 00000003") + b"abc"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file"),
        (b"\0\0", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"\0\0\x0a\x01" + GOOD[4:], "not an IDX file"),  # no such type
        (b"\0\0\x08\x00abc", "not an IDX file"),  # no dimension
        (b"\0\0\x08\xff" + bytes(2000), "not an IDX file"),  # 255 dimensions
        (GOOD[:6], "cut off"),
        (GOOD[:-1], "2 follow"),
        (GOOD + b"x", "follow"),
        (b"\0\0\x0e\x03" + b"\xff" * 12 + b"abc", "more than"),  # 2^99 bytes
        (b"\0\0\x08\x01" + struct.pack(">I", 1 << 30) + b"abc", "follow|more than"),
    ],
)
def test_idx_believes_no_header(tmp_path, content, says, packed):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=says):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_idx_bounds_a_compressed_bomb(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 50 << 20) + bytes(50 << 20)))
    with pytest.raises(ValueError, match="more than"):
        read_idx(path, max_bytes=1 << 20)
    assert read_idx(path).shape == (50 << 20,)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_idx_never_breaks_off(tmp_path_factory, noise, packed):
    """Any bytes, also after a good beginning, are an array or a ValueError."""
    path = tmp_path_factory.getbasetemp() / "noise"
    content = b"\0\0\x08" + noise
    path.write_bytes(gzip.compress(content)[: 10 + len(noise)] if packed else content)
    try:
        read_idx(path)
    except ValueError as problem:
        assert str(path) in str(problem)  # noqa: PT017 (some noise is a good file)


def test_idx_names_what_cannot_be_read_or_written(tmp_path):
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match="does not exist or is no file"):
            read_idx(missing)
    with pytest.raises(ValueError, match="not int64"):
        write_idx(tmp_path / "a", np.arange(3))
    with pytest.raises(ValueError, match="dimensions"):
        write_idx(tmp_path / "a", np.array(3, dtype=np.uint8))


def test_mnist_pairs(tmp_path):
    pictures, labels = np.arange(24, dtype="u1").reshape(2, 3, 4), np.array([7, 1], dtype="u1")
    x, y = read_mnist(write_idx(tmp_path / "x", pictures), write_idx(tmp_path / "y", labels))
    assert x.shape == (2, 1, 3, 4)
    assert y.tolist() == [7, 1]
    with pytest.raises(ValueError, match="not their labels"):
        read_mnist(tmp_path / "x", write_idx(tmp_path / "z", labels[:1]))
    with pytest.raises(ValueError, match="pictures are"):
        read_mnist(tmp_path / "y", tmp_path / "y")


@pytest.mark.skipif(not REAL.exists(), reason="the real MNIST files are not here")
def test_real_mnist():
    x, y = read_mnist(REAL / "mnist-t10k-images-idx3-ubyte.gz", REAL / "mnist-t10k-labels-idx1-ubyte.gz")
    assert x.shape == (10_000, 1, 28, 28)
    assert y[:5].tolist() == [7, 2, 1, 0, 4]  # as every tutorial shows them
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# --- CIFAR


def records(labels: list[int], classes: int = 10, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    extra = b"\x05" if classes == 100 else b""
    return b"".join(extra + bytes([label]) + rng.bytes(3072) for label in labels)


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_cifar_binary_from_file_folder_and_archive(tmp_path):
    first, second, test = records([1, 2]), records([3], seed=1), records([9], seed=2)
    files = {"data_batch_1.bin": first, "data_batch_10.bin": second, "test_batch.bin": test, "readme.html": b"hello"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    inside = {f"cifar-10-batches-bin/{name}": content for name, content in reversed(files.items())}
    archive = tar_of(tmp_path / "cifar-10-binary.tar.gz", inside)
    for source in (tmp_path, archive):
        x, y = read_cifar_binary(source)
        assert y.tolist() == [1, 2, 3]  # in the order of the numbers, wherever they lie
        np.testing.assert_array_equal(x[2].ravel(), np.frombuffer(second[1:], "u1"))
        assert read_cifar_binary(source, train=False)[1].tolist() == [9]
    assert read_cifar_binary(tmp_path / "data_batch_1.bin")[1].tolist() == [1, 2]


def test_cifar_100_gives_the_fine_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(records([99, 0], classes=100))
    x, y = read_cifar_binary(tmp_path, classes=100)
    assert x.shape == (2, 3, 32, 32)
    assert y.tolist() == [99, 0]


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "whole number"), (records([1])[:-1], "whole number"), (records([1, 10]), "label 10")]
)
def test_cifar_records_are_checked(tmp_path, content, says):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_cifar_binary(tmp_path)


class Bomb:
    def __reduce__(self):
        return (print, ("this code must never run",))


def test_cifar_pickles_are_refused_by_name(tmp_path, capsys):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(Bomb()))
    archive = tar_of(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/data_batch_1": pickle.dumps(Bomb())})
    for source in (folder, folder / "data_batch_1", archive):
        with pytest.raises(ValueError, match=r"pickle.*download the binary version, cifar-10-binary\.tar\.gz"):
            read_cifar_binary(source)
    assert not capsys.readouterr().out


def test_cifar_archives_are_checked(tmp_path, monkeypatch):
    def link(path: Path, kind: bytes) -> Path:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("data_batch_1.bin")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        return path

    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with pytest.raises(ValueError, match="no plain file"):
            read_cifar_binary(link(tmp_path / "link.tar.gz", kind))
    whole = tar_of(tmp_path / "a.tar.gz", {"data_batch_1.bin": records([1, 2, 3])}).read_bytes()
    for content in (b"", b"not an archive", whole[:-200], whole[: len(whole) // 2], gzip.compress(b"x" * 5000)):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.tar\.gz"):
            read_cifar_binary(tmp_path / "bad.tar.gz")
    with pytest.raises(ValueError, match="no file named"):
        read_cifar_binary(tar_of(tmp_path / "b.tar.gz", {"other.txt": b"x"}))
    bomb = tar_of(tmp_path / "c.tar.gz", {"zeros": bytes(8 << 20), "data_batch_1.bin": records([1])})
    assert read_cifar_binary(bomb)[1].tolist() == [1]
    many = tar_of(tmp_path / "many.tar.gz", {str(i): b"" for i in range(cifar.MAX_MEMBERS + 1)})
    with pytest.raises(ValueError, match="more than 1,000 files"):
        read_cifar_binary(many)
    monkeypatch.setattr(cifar, "MAX_ARCHIVE", 4 << 20)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_cifar_binary(bomb)
    with pytest.raises(ValueError, match="does not exist"):
        read_cifar_binary(tmp_path / "none.tar.gz")


# --- folders and zips of pictures


def picture(shade: int, size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 255)).save(out, kind)
    return out.getvalue()


PICTURES = {
    "train/dog/b.png": picture(40),
    "train/dog/a.jpg": picture(30, kind="JPEG"),
    "train/cat/z.png": picture(20),
    "train/cat/small.png": picture(0, (16, 32)),
    "train/cat/cut.png": picture(0)[:-30],
    "train/cat/text.jpg": b"hello",
    "train/cat/empty.jpg": b"",
    "train/cat/notes.txt": b"hello",
    "test/cat/a.png": picture(50),
}


def as_folder(place: Path) -> Path:
    for name, content in PICTURES.items():
        path = place / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place / "pictures"


def as_zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in PICTURES.items():
            archive.writestr(name, content)
    return place / "pictures.zip"


@pytest.mark.parametrize("make", [as_folder, as_zip])
def test_pictures_of_a_folder_or_zip(tmp_path, make):
    source = make(tmp_path)
    found = read_images(source)
    assert found.classes == ("cat", "dog")
    assert found.y_N.tolist() == [0, 1, 1]
    assert found.x_NCHW[:, 0, 0, 0].tolist() == pytest.approx([20, 30, 40], abs=3)  # by name; a JPEG is not exact
    assert sorted(line.split(":")[0].rsplit("/")[-1] for line in found.refused) == [
        "cut.png",
        "empty.jpg",
        "small.png",
        "text.jpg",
    ]
    assert any("16 x 32" in line for line in found.refused)
    assert read_images(source, "test").classes == ("cat",)
    assert read_images(source, limit=1).y_N.tolist() == [0, 1]
    with pytest.raises(ValueError, match="no picture named like other/CLASS"):
        read_images(source, "other")


def test_zips_of_pictures_are_bounded(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/bomb.png", bytes(64 << 20))
        archive.writestr("train/a/huge.png", huge_picture())
        archive.writestr("train/a/good.png", picture(9))
    tracemalloc.start()
    found = read_images(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert len(found.y_N) == 1
    assert any("more than 1,048,576 bytes" in line for line in found.refused)
    assert len(found.refused) == 2


def huge_picture() -> bytes:
    """A PNG whose header says 60,000 x 60,000."""
    content = bytearray(picture(0))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_zips_never_break_off(tmp_path, seed):
    """Bytes changed anywhere: pictures are left out, or the whole is refused."""
    whole, rng = as_zip(tmp_path).read_bytes(), np.random.default_rng(seed)
    path = tmp_path / "damaged.zip"
    used = 0
    for _ in range(40):
        content = np.frombuffer(whole, "u1").copy()
        places = rng.integers(0, len(content), size=rng.integers(1, 12))
        content[places] = rng.integers(0, 256, size=len(places))
        path.write_bytes(content.tobytes())
        try:
            used += len(read_images(path).y_N)
        except ValueError as problem:
            assert "damaged.zip" in str(problem)  # noqa: PT017 (a changed byte may do no harm)
    assert used > 20


@pytest.mark.skipif(not REAL.exists(), reason="the real CIFAR-10 pictures are not here")
def test_real_cifar():
    found = read_images(REAL / "cifar10-jpg.zip", "test", limit=20)
    assert found.classes[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(found.y_N).tolist() == [20] * 10
    assert not found.refused
    assert found.x_NCHW.shape == (200, 3, 32, 32)


# --- splits and batches


@given(st.lists(st.integers(0, 3), min_size=12, max_size=80), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_a_split_uses_every_row_once_and_keeps_shares(labels, seed):
    y = np.array(labels)
    parts = stratified_split(y, (0.5, 0.3, 0.2), seed)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(y)))
    for label in set(labels):
        count = (y == label).sum()
        for part, share in zip(parts, (0.5, 0.3, 0.2)):
            assert abs((y[part] == label).sum() - share * count) <= 1
    again = stratified_split(y, (0.5, 0.3, 0.2), seed)
    assert all((a == b).all() for a, b in zip(parts, again))
    with pytest.raises(ValueError, match="add up to 1"):
        stratified_split(y, (0.5, 0.3), seed)


def test_batches_see_each_row_once_and_follow_the_seed():
    def epoch(seed):
        return list(batches(23, 5, np.random.default_rng(seed)))

    assert [len(rows) for rows in epoch(0)] == [5, 5, 5, 5, 3]
    assert sorted(np.concatenate(epoch(0)).tolist()) == list(range(23))
    assert np.concatenate(epoch(1)).tolist() == np.concatenate(epoch(1)).tolist()
    assert np.concatenate(epoch(0)).tolist() != np.concatenate(epoch(1)).tolist()
    with pytest.raises(ValueError, match="at least 1"):
        list(batches(3, 0, np.random.default_rng(0)))


def test_digits(monkeypatch):
    pytest.importorskip("sklearn")
    split = load_digits()
    assert len(split.train_y) + len(split.validation_y) + len(split.test_y) == 1797
    assert (split.train_x.min(), split.train_x.max(), split.train_x.dtype) == (0, 1, np.float32)
    assert np.bincount(split.test_y).min() >= 34
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"cairn\[foundations\]"):
        load_digits()


def test_too_few_pictures_for_three_parts_are_refused():
    x = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    for y, says in (([0, 1, 2], "parts of 3, 0 and 0"), ([0] * 9, "3 pictures and 9 classes")):
        with pytest.raises(ValueError, match=says):
            split_images(x, np.array(y))
    with pytest.raises(ValueError, match="parts of 0, 0 and 0"):
        split_images(x[:0], np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match="shares"):
        stratified_split(np.zeros(3, dtype=int), (), 0)


def test_pictures_of_bytes_become_shares_of_white():
    x = np.full((30, 1, 2, 2), 255, dtype=np.uint8)
    split = split_images(x, np.arange(30) % 3)
    assert split.train_x.dtype == np.float32
    assert split.train_x.max() == 1
