"""Readers of many formats, whole and damaged; the plan of parts; data sets of the hub (a stand-in for its library)."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import sys
import tracemalloc
import types
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.corpus.sources import InputPart, plan_inputs, read_folder, read_hub, read_part
from cairn.corpus.sources.plan import DOCUMENT_BYTES
from cairn.corpus.sources.streams import read_lines

DATA = Path(__file__).parents[2] / "shared" / "data"
PACKERS = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lzma.compress,
}
MIB = 1 << 20


def read(path, **options):
    quarantine = Quarantine()
    return list(read_folder(path, quarantine, **options)), quarantine


def read_by_parts(path, **options):
    """As another process would: each part through JSON."""
    quarantine = Quarantine()
    parts = [json.loads(json.dumps(part.to_dict())) for part in plan_inputs(path, quarantine, **options)]
    return [d for part in parts for d in read_part(InputPart.from_dict(part), quarantine)], quarantine, parts


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def test_every_format_gives_its_texts_and_what_is_known_of_them(tmp_path):
    record = {"text": "a record", "url": "https://e.org", "lang": "en", "license": "CC0", "date": "2024-01-02", "n": 1}
    known = {"url": "https://e.org", "language": "en", "licence": "CC0", "date": "2024-01-02"}
    (tmp_path / "a.rs").write_bytes(b"fn main() {}\r\n")
    (tmp_path / "b.ndjson").write_text(json.dumps(record) + "\n\n" + '{"content": "second"}')
    (tmp_path / "c.json").write_text(json.dumps([record, {"text": "other"}], indent=1))
    (tmp_path / "d.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "e.csv").write_text('url,text\nu,"two\nlines, quoted"\n\nv,plain\n')
    (tmp_path / "f.tsv").write_bytes("\ufefftext\tlang\nWörter\tde\n".encode())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record, {"text": "row"}]), tmp_path / "g.parquet")
    documents, quarantine = read(tmp_path)
    assert [(d.id, d.text, d.meta) for d in documents] == [
        ("a.rs", "fn main() {}\n", {}),
        ("b.ndjson@0", "a record", known),
        (f"b.ndjson@{len(json.dumps(record)) + 2}", "second", {}),
        ("c.json:0", "a record", known),
        ("c.json:1", "other", {}),
        ("d.json:0", "one", {}),
        ("d.json:1", "two", {}),
        ("e.csv:0", "two\nlines, quoted", {"url": "u"}),
        ("e.csv:1", "plain", {"url": "v"}),
        ("f.tsv:0", "Wörter", {"language": "de"}),
        ("g.parquet:0", "a record", known),
        ("g.parquet:1", "row", {}),
    ]
    assert not quarantine.counts


def test_text_field_can_be_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "wanted", "text": "other"}\n{"text": "alone"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"], "body": ["y"]}), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("text\nz\n")
    documents, quarantine = read(tmp_path, text_field="body")
    assert [d.text for d in documents] == ["wanted", "y"]
    assert dict(quarantine.counts) == {"no text field body": 1, "no text column": 1}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_read_like_plain_ones(tmp_path, ending):
    texts = [f"text {i} " * 20 for i in range(300)]
    content = {"a.jsonl": lines(texts), "b.txt": b"first\n", "c.json": json.dumps([{"text": "j"}]).encode()}
    for name, data in content.items():
        middle = len(data) // 2  # two members, one after another, as log rotation and parallel packers write
        (tmp_path / (name + ending)).write_bytes(PACKERS[ending](data[:middle]) + PACKERS[ending](data[middle:]))
    documents, quarantine = read(tmp_path)
    assert [d.text for d in documents] == [*texts, "first\n", "j"]
    assert not quarantine.counts
    assert documents[1].id == f"a.jsonl{ending}@{len(lines(texts[:1]))}"  # an offset in the unpacked text


@pytest.mark.parametrize("ending", PACKERS)
def test_a_truncated_file_keeps_what_stands_before(tmp_path, ending):
    rng = random.Random(0)
    texts = [rng.randbytes(60).hex() for _ in range(8000)]
    packed = PACKERS[ending](lines(texts))
    (tmp_path / f"a.jsonl{ending}").write_bytes(packed[: len(packed) // 2])
    (tmp_path / f"b.txt{ending}").write_bytes(packed[: len(packed) // 2])
    (tmp_path / f"c.txt{ending}").write_bytes(packed[:9])
    documents, quarantine = read(tmp_path)
    *records, text = documents
    assert [d.text for d in records] == texts[: len(records)]
    assert text.id == f"b.txt{ending}"
    assert text.text.encode() == lines(texts)[: len(text.text)]
    assert text.text.count("\n") == len(records)  # every whole line
    assert len(records) > 2000
    assert quarantine.counts[f"truncated {ending} file (the part before the end is kept)"] == 3


@pytest.mark.parametrize("ending", PACKERS)
def test_damaged_and_foreign_packed_data_is_counted(tmp_path, ending):
    data = PACKERS[ending](lines(["x"]))
    (tmp_path / f"a.jsonl{ending}").write_bytes(data + b"something else behind it")
    (tmp_path / f"b.jsonl{ending}").write_bytes(b"never packed at all, only named so")
    (tmp_path / f"c.jsonl{ending}").write_bytes(PACKERS[ending](b""))
    (tmp_path / f"d.jsonl{ending}").write_bytes(data + b"\0" * 512)
    documents, quarantine = read(tmp_path)
    assert [d.text for d in documents] == ["x", "x"]
    assert quarantine.counts == {f"damaged {ending} data (the part before it is kept)": 2, "empty": 1}


def test_decompression_bombs_are_stopped(tmp_path):
    for ending in (".gz", ".zst"):
        packer = zstandard.ZstdCompressor().compressobj() if ending == ".zst" else zlib.compressobj(9, 8, 31)
        with open(tmp_path / f"bomb.jsonl{ending}", "wb") as handle:
            handle.write(packer.compress(b'{"text": "first"}\n'))
            for _ in range(100):
                handle.write(packer.compress(bytes(MIB)))
            handle.write(packer.flush())
    tracemalloc.start()
    documents, quarantine = read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [d.text for d in documents] == ["first", "first"]
    assert quarantine.counts["unpacks to more than 256 times its size (a decompression bomb?)"] == 2
    assert peak < 100 * MIB


def test_memory_hungry_xz_and_zst_are_refused(tmp_path):
    settings = zstandard.ZstdCompressionParameters(window_log=29, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(b"text") + packer.flush())
    header = lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}])
    # The fifth byte of the block's header is the size of the dictionary (34: 512 MiB); its checksum ends it.
    block = bytearray(header[12:20])
    block[4] = 34
    (tmp_path / "b.txt.xz").write_bytes(header[:12] + block + zlib.crc32(block).to_bytes(4, "little") + header[24:])
    documents, quarantine = read(tmp_path)
    assert not documents
    assert quarantine.counts == {"needs more than 128 MiB of memory to unpack (pack it again)": 2}


def test_broken_text_is_kept_up_to_the_damage(tmp_path):
    (tmp_path / "a.txt").write_bytes("naïve ".encode() + b"caf\xe9 and more")
    (tmp_path / "b.jsonl").write_bytes(
        b'{"text": "\xff"}\n{"text": "fine"}\n' + b"[" * 100_000 + b'\n{"text": "\\ud800!"}\n'
    )
    (tmp_path / "c.json").write_bytes(b'[{"text": "one"}, {"text": "two"}, {"text": "\xff"}]')
    (tmp_path / "d.json").write_bytes(b'[{"text": "one"}, ' + b"[" * 100_000)
    (tmp_path / "e.json").write_bytes(b'[{"text": "one"}, {"text": "tw')
    (tmp_path / "f.csv").write_bytes(b"text\none\n\xff\ntwo\n")
    (tmp_path / "g.txt").write_bytes(b"")
    (tmp_path / "h.jsonl").write_bytes(b"")
    documents, quarantine = read(tmp_path)
    assert [(d.id, d.text) for d in documents] == [
        ("a.txt", "naïve caf"),
        ("b.jsonl@14", "fine"),
        (f"b.jsonl@{14 + 17 + 100_001}", "\ufffd!"),
        ("c.json:0", "one"),
        ("c.json:1", "two"),
        ("d.json:0", "one"),
        ("e.json:0", "one"),
        ("f.csv:0", "one"),
        ("f.csv:2", "two"),
    ]
    assert dict(quarantine.counts) == {
        "invalid UTF-8": 3,
        "JSON nested too deep": 1,
        "invalid UTF-8 (the records before it are kept)": 1,
        "JSON nested too deep (the records before it are kept)": 1,
        "broken or truncated JSON (the records before it are kept)": 1,
        "empty": 2,
    }
    assert {"where": "a.txt@10", "reason": "invalid UTF-8"} in quarantine.examples


def test_records_over_the_bound_are_counted_and_their_neighbours_kept(tmp_path):
    long = "x" * 3000
    (tmp_path / "a.jsonl").write_bytes(lines(["before", long, "after"]))
    (tmp_path / "b.csv").write_text(f'text\nbefore\n{long}\n"{long[:1500]}\n{long[:1500]}"\nafter\n')
    (tmp_path / "c.json").write_bytes(json.dumps([{"text": "before"}, {"text": long}]).encode())
    pyarrow.parquet.write_table(pyarrow.table({"text": ["before", long, "after"]}), tmp_path / "d.parquet")
    documents, quarantine, _ = read_by_parts(tmp_path, document_bytes=2000)
    assert [d.text for d in documents if d.id.startswith(("a", "d"))] == ["before", "after"] * 2
    assert next(d.text for d in documents if d.id.startswith("b")) == "before"
    assert [d.text for d in documents if d.id.startswith("b")][-1] == "after"
    assert [d.text for d in documents if d.id.startswith("c")] == ["before"]
    assert quarantine.counts["record over 2000 bytes"] >= 5


def test_a_text_larger_than_the_bound_is_cut_between_paragraphs(tmp_path):
    paragraphs = [f"Paragraph {i}.\nIts second line.\n\n" for i in range(100)]
    (tmp_path / "a.txt").write_text("".join(paragraphs))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("".join(paragraphs).encode()))
    documents, _, _ = read_by_parts(tmp_path, document_bytes=400)
    plain = [d for d in documents if ".gz" not in d.id]
    packed = [d for d in documents if ".gz" in d.id]
    assert [d.id for d in plain] == ["a.txt", *(f"a.txt#{k}" for k in range(1, len(plain)))]
    assert "".join(d.text for d in plain) == "".join(paragraphs)
    assert all(d.text.endswith("\n\n") for d in plain)
    assert [d.text for d in packed] == [d.text for d in plain]


TEXTS = st.lists(st.sampled_from(["é", "a", " ", "\n", "\n\n", "\r\n", "石", "😀", "word "]), max_size=80).map("".join)


@settings(deadline=None, max_examples=60)
@given(text=TEXTS, records=st.lists(TEXTS, max_size=12), part=st.integers(1, 120), size=st.integers(8, 60))
def test_parts_of_any_size_give_the_same_documents(tmp_path_factory, text, records, part, size):
    root = tmp_path_factory.mktemp("parts")
    (root / "a.txt").write_bytes(text.encode())
    (root / "b.jsonl").write_bytes(lines(records) + b'{"broken\n\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": [*records, "end"]}), root / "c.parquet", row_group_size=2)
    (root / "z.txt").write_text("z")
    whole, counted, parts = read_by_parts(root, part_bytes=1 << 30, document_bytes=size)
    assert len(parts) == 1
    cut, counted_cut, _ = read_by_parts(root, part_bytes=part, document_bytes=size)
    assert cut == whole
    assert counted_cut.counts == counted.counts
    assert len({d.id for d in whole}) == len(whole)
    pieces = "".join(d.text for d in whole if d.id.startswith("a.txt"))
    assert "".join(pieces.split()) == "".join(text.split())  # nothing lost but blank pieces, no character broken
    assert "\ufffd" not in pieces


def test_large_files_are_cut_and_small_ones_grouped(tmp_path):
    for i in range(10):
        (tmp_path / f"small{i}.txt").write_text("x" * 100)
    (tmp_path / "large.jsonl").write_bytes(lines(["y" * 100] * 50))
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["z" * 1000] * 8}),
        tmp_path / "m.parquet",
        row_group_size=1,
        compression=None,
        use_dictionary=False,
    )
    _, _, parts = read_by_parts(tmp_path, part_bytes=1000)
    by_name = {}
    for part in parts:
        by_name.setdefault(part["slices"][0]["name"], []).append(part)
    assert len(by_name["large.jsonl"]) == 6
    assert len(by_name["m.parquet"]) == 8
    assert [len(p["slices"]) for p in parts[-1:]] == [10]
    assert sum(p["bytes"] for p in parts if p["slices"][0]["name"].startswith("small")) == 1000


def test_a_line_without_end_costs_neither_memory_nor_time_in_the_ranges_after_it(tmp_path):
    class Counting(io.BytesIO):
        read_bytes = 0

        def readline(self, size=-1):
            line = super().readline(size)
            self.read_bytes += len(line)
            return line

    stream = Counting(b"x" * 10_000_000 + b"\nshort\n")
    assert list(read_lines(stream, 100, 4_000_000, 5_000_000)) == []
    assert stream.read_bytes < 3_000_000
    assert list(read_lines(stream, 100, 9_999_000, 20_000_000)) == [(10_000_001, b"short\n")]

    with open(tmp_path / "a.txt", "wb") as text, open(tmp_path / "b.jsonl", "wb") as records:
        for _ in range(80):
            text.write(b"y" * MIB)
            records.write(b"z" * MIB)
        records.write(b'\n{"text": "after"}\n')
    tracemalloc.start()
    quarantine = Quarantine()
    sizes = [len(d.text) for d in read_folder(tmp_path, quarantine)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [DOCUMENT_BYTES] * 5 + [len("after")]
    assert quarantine.counts == {"record over 16 MiB": 1}
    assert peak < 5 * DOCUMENT_BYTES


def test_links_special_and_unreadable_files_are_counted(tmp_path, monkeypatch):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("a")
    (root / "sub" / "up").symlink_to(root)
    (root / "self.txt").symlink_to(root / "self.txt")
    (root / "gone.txt").symlink_to(root / "nowhere")
    (root / "linked.txt").symlink_to(root / "sub" / "a.txt")
    os.mkfifo(root / "pipe.txt")
    (root / "locked.txt").write_text("secret")
    (root / os.fsdecode(b"name\xff.txt")).write_text("named in Latin-1")

    from cairn.corpus.sources import plan

    def locked(path, compression, original=plan.open_stream):
        if path.name == "locked.txt":
            raise PermissionError(13, "Permission denied")
        return original(path, compression)

    monkeypatch.setattr(plan, "open_stream", locked)
    documents, quarantine = read(root)
    assert [(d.id, d.text) for d in documents] == [
        ("linked.txt", "a"),
        ("name\\xff.txt", "named in Latin-1"),
        ("sub/a.txt", "a"),
    ]
    assert dict(quarantine.counts) == {
        "link to a folder is not followed": 1,
        "broken link": 2,
        "not a regular file": 1,
        "cannot be read (Permission denied)": 1,
    }


def test_parquet_damage_and_odd_columns(tmp_path):
    table = pyarrow.table({"text": [f"row {i} " * 50 for i in range(40)]})
    pyarrow.parquet.write_table(
        table, tmp_path / "a.parquet", row_group_size=10, compression="snappy", use_dictionary=False
    )
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    chunk = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    for i in range(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size):
        data[i] = 0xFF
    (tmp_path / "a.parquet").write_bytes(data)
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "b.parquet")
    broken = pyarrow.Array.from_buffers(
        pyarrow.string(),
        2,
        [None, pyarrow.array([0, 1, 3], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"\xffok")],
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(bytes(data[:500]))
    documents, quarantine, _ = read_by_parts(tmp_path)
    assert [d.id for d in documents] == [f"a.parquet:{i}" for i in [*range(10), *range(20, 40)]] + ["c.parquet:1"]
    assert documents[10].text == table["text"][20].as_py()
    assert dict(quarantine.counts) == {
        "damaged row group (the rows before it and the next groups are kept)": 1,
        "no text column": 1,
        "invalid UTF-8": 1,
        "not a readable Parquet file": 1,
    }


def test_csv_with_an_endless_row_stays_within_the_bound(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + '"a\n",' * 30_000 + '"end"\n')
    quarantine = Quarantine()
    (part,) = plan_inputs(tmp_path, quarantine, document_bytes=20_000)
    assert max(len(d.text) for d in read_part(part, quarantine)) < 20_000
    assert quarantine.counts == {"record over 20000 bytes": 1}


PAGE = (
    '<html lang="en-GB"><head><title>Stones</title><link rel="canonical" href="https://e.org/stones">'
    '<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head><body><nav><a href="/">Home</a> '
    "<a href='/x'>Menu entry</a></nav><article><h1>Stones</h1>"
    + "<p>A cairn is a stack of stones that marks a trail – it is built by many hands over many years.</p>" * 6
    + "</article><footer>Copyright footer</footer></body></html>"
)


def test_html_gives_its_main_text(tmp_path):
    pytest.importorskip("trafilatura")
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.htm.gz").write_bytes(gzip.compress(PAGE.encode()))
    (tmp_path / "c.html").write_bytes(b"<html><body></body></html>")
    (tmp_path / "d.html").write_bytes(b"<div>" * 200_000)
    (tmp_path / "e.html").write_bytes(b"<p>" + b"x" * (5 * MIB))
    (tmp_path / "f.html").write_bytes(b"\x00\xff\xfe" * 100)
    documents, quarantine = read(tmp_path)
    assert [d.id for d in documents] == ["a.html", "b.htm.gz"]
    assert documents[0].text == documents[1].text
    assert "stack of stones that marks a trail – it" in documents[0].text
    assert "Menu" not in documents[0].text
    assert "footer" not in documents[0].text
    licence = "https://creativecommons.org/licenses/by/4.0/"
    assert documents[0].meta == {"url": "https://e.org/stones", "language": "en-GB", "licence": licence}
    assert quarantine.counts["page over 4 MiB"] == 1
    assert sum(quarantine.counts.values()) == 4


@pytest.fixture
def archive():
    """WARC bytes by the reference writer: six records with content and two without."""
    pytest.importorskip("trafilatura")
    pytest.importorskip("warcio")
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    def write(packed):
        out = io.BytesIO()
        writer = WARCWriter(out, gzip=packed)
        writer.write_record(writer.create_warcinfo_record("x.warc", {"software": "test"}))

        def response(name, kind, body, status="200 OK"):
            headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
            date = {"WARC-Date": "2024-05-06T07:08:09Z"}
            url = f"https://e.org/{name}"
            writer.write_record(
                writer.create_warc_record(
                    url, "response", io.BytesIO(body), http_headers=headers, warc_headers_dict=date
                )
            )

        response("page", "text/html; charset=ISO-8859-1", PAGE.replace("–", "é").encode("latin-1"))
        writer.write_record(
            writer.create_warc_record("https://e.org/page", "request", io.BytesIO(b"GET / HTTP/1.1\r\n\r\n"))
        )
        response("plain", "text/plain", b"plain words")
        response("photo", "image/png", b"\x89PNG")
        response("gone", "text/html", PAGE.encode(), "404 Not Found")
        wet = {"Content-Type": "text/plain", "WARC-Identified-Content-Language": "eng"}
        writer.write_record(
            writer.create_warc_record(
                "https://e.org/wet",
                "conversion",
                io.BytesIO(b"extracted words"),
                warc_headers_dict=wet,
                warc_content_type="text/plain",
            )
        )
        response("last", "text/plain", b"last words " * 50)
        return out.getvalue()

    return write


@pytest.mark.parametrize("ending", ["warc", "warc.gz"])
def test_warc(tmp_path, archive, ending):
    data = archive(ending == "warc.gz")
    (tmp_path / f"a.{ending}").write_bytes(data)
    documents, quarantine = read(tmp_path)
    assert [d.id for d in documents] == [f"a.{ending}:{n}" for n in (1, 3, 6, 7)]
    assert "marks a trail é it" in documents[0].text
    assert documents[0].meta["url"] == "https://e.org/page"
    assert documents[0].meta["date"] == "2024-05-06T07:08:09Z"
    assert [d.text for d in documents[1:]] == ["plain words", "extracted words", "last words " * 50]
    assert documents[2].meta["language"] == "eng"
    assert dict(quarantine.counts) == {"content is not text (image)": 1, "HTTP status 404": 1}


@pytest.mark.parametrize("ending", ["warc", "warc.gz"])
def test_damaged_warc_keeps_the_records_before(tmp_path, archive, ending):
    data = archive(ending == "warc.gz")
    (tmp_path / f"a.{ending}").write_bytes(data[:-30])
    (tmp_path / f"b.{ending}").write_bytes(gzip.compress(b"no archive") if ending == "warc.gz" else b"no archive")
    documents, quarantine = read(tmp_path)
    assert [d.id for d in documents] == [f"a.{ending}:{n}" for n in (1, 3, 6)]
    assert quarantine.counts["not a WARC file"] == 1
    assert any("truncated" in reason for reason in quarantine.counts)
    assert sum(quarantine.counts.values()) == 4  # with the picture and the page that is gone


def test_warc_with_changed_bytes(tmp_path, archive):
    data = archive(False)
    (tmp_path / "a.warc").write_bytes(data.replace(b"plain words", b"PLAIN WORDS"))
    start = data.index(b"WARC/1.0", data.index(b"plain words"))
    (tmp_path / "b.warc").write_bytes(data[:start] + b"damage at the head of a record" + data[start + 30 :])
    documents, quarantine = read(tmp_path)
    assert [d.id for d in documents] == ["a.warc:1", "a.warc:6", "a.warc:7", "b.warc:1", "b.warc:3"]
    assert quarantine.counts["damaged WARC record (its checksum differs)"] == 1
    assert quarantine.counts["damaged WARC record (the records before it are kept)"] == 1


def test_changed_bytes_never_raise(tmp_path, archive):
    """Every format with bytes overwritten, removed and repeated: documents or counts, no exception."""
    texts = [f"text number {i} with Wörter" for i in range(20)]
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "url": texts}), table, row_group_size=5)
    samples = {
        "a.jsonl": lines(texts),
        "b.json": json.dumps([{"text": text} for text in texts]).encode(),
        "c.csv": ("text\n" + "".join(f'"{text}"\n' for text in texts)).encode(),
        "d.parquet": table.getvalue(),
        "e.warc": archive(False),
        "f.warc.gz": archive(True),
        "g.html": PAGE.encode(),
        **{f"h.jsonl{ending}": pack(lines(texts)) for ending, pack in PACKERS.items()},
    }
    rng = random.Random(1)
    for name, data in samples.items():
        for _ in range(25 if name == "g.html" else 80):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(changed))
                piece = rng.choice([b"", rng.randbytes(3), b'"', b"\n", b"0", bytes(changed[:40])])
                changed[at : at + rng.choice([0, 1, 3, 30])] = piece
            (tmp_path / name).write_bytes(changed)
            documents, quarantine = read(tmp_path / name)
            assert documents or quarantine.counts, name
            assert len({d.id for d in documents}) == len(documents)


def test_a_warc_header_without_end_stays_out_of_memory(tmp_path, archive):
    (tmp_path / "a.warc").write_bytes(archive(False) + b"WARC/1.0\r\nWARC-Type: " + b"x" * 30 * MIB)
    tracemalloc.start()
    documents, quarantine = read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(documents) == 4
    assert quarantine.counts["WARC header without end (the records before it are kept)"] == 1
    assert peak < 20 * MIB


def test_missing_extras_are_named(tmp_path, monkeypatch):
    from cairn.corpus.extract import require_trafilatura

    (tmp_path / "a.html").write_text(PAGE)
    require_trafilatura.cache_clear()
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(UserError, match=r"cairn\[corpus\]"):
        plan_inputs(tmp_path, Quarantine())
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"cairn\[hub\]"):
        list(read_hub("someone/something", Quarantine()))
    with pytest.raises(UserError, match="does not exist"):
        plan_inputs(tmp_path / "nothing", Quarantine())


def test_hub_rows_become_documents(monkeypatch):
    asked = {}

    def load_dataset(name, config, **options):
        asked.update(options, name=name, config=config)
        if name == "unknown":
            raise ValueError("Dataset 'unknown' does not exist\nlong advice")

        def rows():
            yield {"body": "one", "url": "https://e.org"}
            yield {"body": None}
            yield {"body": "two"}
            if split == "broken":
                raise ConnectionError("connection lost")

        split = options["split"]
        return rows()

    library = types.SimpleNamespace(__version__="4.1.0", load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", library)
    quarantine = Quarantine()
    documents = list(read_hub("a/b", quarantine, "valid", "body", "abc123", "small"))
    assert [(d.id, d.text, d.meta) for d in documents] == [
        ("a/b/small/valid:0", "one", {"url": "https://e.org"}),
        ("a/b/small/valid:2", "two", {}),
    ]
    assert asked == {"name": "a/b", "config": "small", "split": "valid", "revision": "abc123", "streaming": True}
    assert quarantine.counts == {"no text field body": 1}
    with pytest.raises(
        UserError, match=r"unknown/train could not be read on after 0 rows: Dataset 'unknown' does not exist$"
    ):
        list(read_hub("unknown", quarantine))
    with pytest.raises(UserError, match="after 3 rows: connection lost"):
        list(read_hub("a/b", quarantine, "broken", "body"))
    library.__version__ = "2.19.0"
    with pytest.raises(UserError, match="may run code"):
        list(read_hub("a/b", quarantine))


def test_real_files(tmp_path):
    if not DATA.exists():
        pytest.skip("no real data here")
    documents, quarantine = read(DATA / "benchmarks" / "HumanEval.jsonl.gz", text_field="prompt")
    assert len(documents) == 164
    documents, quarantine = read(DATA / "benchmarks" / "TruthfulQA.csv", text_field="Question")
    assert len(documents) > 700
    documents, quarantine = read(DATA / "posttraining" / "instruction-data.json", text_field="instruction")
    assert len(documents) == 1100
    assert not quarantine.counts
    documents, quarantine = read(DATA / "text" / "tinyshakespeare.txt")
    assert len(documents[0].text.encode()) == 1115394
