"""What is done to the shards, phase by phase: pure functions from files to files.

fetch    sources on the web -> files                        keys     documents -> their hashes
plan     all files -> parts of the work                     pairs    hashes of all shards -> equal ones
clean    a part -> a shard of documents that passed         clusters pairs -> documents that go
index    how many documents each shard has                  write    what stays -> training and validation documents
lines    a shard -> hashes of its lines                     find-lines   all of these -> lines that many documents repeat
counts   documents -> distinct chunks  } a tokenizer        encode   documents -> token shards
merges   all chunks -> the vocabulary  } to be trained
"""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

from cairn.core.errors import UserError
from cairn.core.files import atomic_file, fingerprint, hash_unit
from cairn.corpus import dedup
from cairn.corpus.documents import SAMPLE_CHARACTERS, SHOWN, Document, Quarantine, Tally
from cairn.corpus.download import download
from cairn.corpus.shards import write_shard
from cairn.corpus.sources import InputPart, plan_inputs, read_hub, read_part

if TYPE_CHECKING:
    from cairn.corpus.pipeline.job import Build

LEVEL = 3  # of zstd: 3 to 4 times smaller at some hundred MB/s
PARTITION_DOCUMENTS = 4_000_000  # documents whose keys are sorted at a time: 130 MB
PARTITION_LINE_BYTES = 128 << 20  # of hashed lines that are sorted at a time, twice that in memory


class DocumentWriter:
    """JSON Lines, packed, whole or absent at `path`. `documents` and `bytes` (of text) count what was added."""

    def __init__(self, path: Path):
        self.path, self.documents, self.bytes = path, 0, 0

    def __enter__(self) -> "DocumentWriter":
        with contextlib.ExitStack() as stack:
            handle = stack.enter_context(atomic_file(self.path))
            packed = stack.enter_context(zstandard.ZstdCompressor(LEVEL).stream_writer(handle, closefd=False))
            self._lines = stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline="\n"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, document: Document) -> None:
        row = {"id": document.id, "text": document.text} | ({"meta": document.meta} if document.meta else {})
        self._lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.documents += 1
        self.bytes += len(document.text.encode())


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    with DocumentWriter(path) as writer:
        for document in documents:
            writer.add(document)


def read_documents(path: Path) -> Iterator[Document]:
    with open(path, "rb") as handle, zstandard.ZstdDecompressor().stream_reader(handle) as packed:
        for line in io.TextIOWrapper(packed, encoding="utf-8", newline="\n"):
            yield Document(**json.loads(line))


# --- reading and cleaning


def fetch(build: "Build", source: int) -> dict[str, Any]:
    """Bring a source on the web to disk; one that is there already is only named."""
    config = build.recipe.sources[source]
    remote = config.remote(f"{source:03d}")
    if remote is not None:
        return {"path": str(download(remote, build.work / "downloads"))}
    if not config.hub:
        return {"path": config.path}
    quarantine = Quarantine()
    rows = read_hub(
        config.hub, quarantine, config.split, config.text_field, config.revision or None, config.config or None
    )
    number, batch, size = 0, [], 0
    for document in rows:
        batch.append(document)
        size += len(document.text)
        if size >= build.recipe.part_bytes:
            write_documents(build.fetched(source, number), batch)
            number, batch, size = number + 1, [], 0
    write_documents(build.fetched(source, number), batch)
    return {"documents": number + 1, "quarantine": quarantine.to_dict()}


def plan(build: "Build", _: int) -> dict[str, Any]:
    """Cut all sources into parts. What is planned is what is read, also after an interruption."""
    quarantine = Quarantine()
    fetched = build.results("fetch")
    parts = parts_of(build, [found.get("path") for found in fetched], quarantine)
    for source, found in enumerate(fetched):
        parts += [{"source": source, "fetched": number} for number in range(found.get("documents", 0))]
    if not parts:
        raise UserError(f"no file in the sources can be read; left out: {quarantine.summary()}")
    parts.sort(key=lambda part: part["source"])
    return {"parts": parts, "quarantine": quarantine.to_dict()}


def parts_of(build: "Build", paths: Sequence[str | None], quarantine: Quarantine) -> list[dict[str, Any]]:
    """Parts of the sources that lie at `paths`, with size and time of every file, so that a change is noticed."""
    parts = []
    for source, path in enumerate(paths):
        if path is not None:
            field = build.recipe.sources[source].text_field
            for part in plan_inputs(path, quarantine, field, build.recipe.part_bytes):
                stamps = [_stamp(Path(part.root) / piece.name) for piece in part.slices]
                parts.append({"source": source, "input": part.to_dict(), "stamps": stamps})
    return parts


def inputs_of(parts: Sequence[dict[str, Any]]) -> str:
    """Fingerprint of the names and sizes of what is read."""
    names = [[piece["name"] for piece in part["input"]["slices"]] for part in parts]
    sizes = [[size for size, _ in part["stamps"]] for part in parts]
    return fingerprint([[part["source"] for part in parts], names, sizes])


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _documents_of(build: "Build", part: dict[str, Any], quarantine: Quarantine) -> Iterator[Document]:
    if "fetched" in part:
        return read_documents(build.fetched(part["source"], part["fetched"]))
    planned = InputPart.from_dict(part["input"])
    for piece, stamp in zip(planned.slices, part["stamps"]):
        path = Path(planned.root) / piece.name
        if not path.exists() or list(_stamp(path)) != list(stamp):
            raise UserError(
                f"{path} is gone or has changed since the build was begun; put it back, or delete {build.out} to start anew"
            )
    return read_part(planned, quarantine)


def clean(build: "Build", piece: int) -> dict[str, Any]:
    """Read one part, take its documents through the steps, and store those that pass."""
    part = build.parts[piece]
    name, licence = build.recipe.source_names[part["source"]], build.recipe.sources[part["source"]].licence
    tally, quarantine = Tally(), Quarantine()
    came = [0] * (len(build.steps) + 1)  # documents that reached each step, and those that passed all
    came_bytes = [0] * (len(build.steps) + 1)
    kept: list[tuple[float, dict[str, str]]] = []
    lengths: Counter[int] = Counter()
    languages: Counter[str] = Counter()

    def passed() -> Iterator[Document]:
        for document in _documents_of(build, part, quarantine):
            meta = ({"licence": licence} if licence else {}) | document.meta | {"source": name}
            current: Document | None = replace(document, id=f"{name}/{document.id}", meta=meta)
            for number, step in enumerate(build.steps):
                came[number] += 1
                came_bytes[number] += len(current.text.encode())
                current = step(current, tally)
                if current is None:
                    break
            else:
                size = len(current.text.encode())
                came[-1] += 1
                came_bytes[-1] += size
                lengths[size.bit_length()] += 1
                languages[current.meta.get("language", "")] += 1
                sample = {"id": current.id, "text": current.text[:SAMPLE_CHARACTERS]}
                kept.append((hash_unit(current.id, "sample"), sample))
                if len(kept) > 10 * SHOWN:
                    kept[:] = sorted(kept, key=lambda pair: pair[0])[:SHOWN]
                yield current

    write_documents(build.shard("clean", piece), passed())
    return {
        "source": part["source"],
        "documents": came[-1],
        "reached": came,
        "reached_bytes": came_bytes,
        "tally": tally.to_dict(),
        "quarantine": quarantine.to_dict(),
        "lengths": dict(lengths),
        "languages": dict(languages),
        "samples": [[order, sample] for order, sample in sorted(kept, key=lambda pair: pair[0])[:SHOWN]],
    }


def index(build: "Build", _: int) -> dict[str, Any]:
    """How many documents each shard has. Raises UserError when the steps left nothing."""
    results = build.results("clean")
    documents = [result["documents"] for result in results]
    if not sum(documents):
        tally, quarantine = Tally(), Quarantine()
        for result in results:
            tally.add(Tally.from_dict(result["tally"]))
            quarantine.add_all(Quarantine.from_dict(result["quarantine"]))
        rules = ", ".join(f"{n} x {rule}" for rule, n in tally.dropped.most_common(5)) or "none"
        raise UserError(
            f"no document is left: dropped by the steps: {rules}; unreadable: {quarantine.summary()}. "
            "Loosen the steps of the recipe"
        )
    return {"documents": documents}


# --- duplicates


def texts_of(build: "Build", piece: int) -> Iterator[Document]:
    """The documents of a cleaned shard without the lines that others repeat."""
    drop: dict[int, set[int]] = {}
    if build.recipe.lines:
        files = [build.array("dropped-lines", p) for p in range(build.pieces("find-lines"))]
        drop = dedup.dropped_lines(files, build.first_ids[piece], build.documents[piece])
    for place, document in enumerate(read_documents(build.shard("clean", piece))):
        if place in drop:
            document = replace(document, text=dedup.without_lines(document.text, drop[place]))
        yield document


def lines(build: "Build", piece: int) -> dict[str, Any]:
    assert build.recipe.lines is not None
    texts = (d.text for d in read_documents(build.shard("clean", piece)))
    dedup.write_lines(texts, build.array("lines", piece), build.recipe.lines)
    return {}


def find_lines(build: "Build", partition: int) -> dict[str, Any]:
    assert build.recipe.lines is not None
    dropped = dedup.find_lines(
        [build.array("lines", p) for p in range(len(build.parts))],
        build.first_ids,
        build.array("dropped-lines", partition),
        build.recipe.lines,
        partition=partition,
        partitions=build.pieces("find-lines"),
    )
    return {"dropped": dropped}


def keys(build: "Build", piece: int) -> dict[str, Any]:
    assert build.recipe.dedup is not None
    texts = (d.text for d in texts_of(build, piece))
    dedup.write_keys(texts, build.array("keys", piece), build.recipe.dedup)
    return {}


def pairs(build: "Build", piece: int) -> dict[str, Any]:
    assert build.recipe.dedup is not None
    bands = build.recipe.dedup.key_bands()
    band, partition = bands[piece % len(bands)], piece // len(bands)
    found = dedup.find_pairs(
        [build.array("keys", p) for p in range(len(build.parts))],
        build.first_ids,
        band,
        build.array("pairs", piece),
        partition=partition,
        partitions=build.partitions,
    )
    return {"pairs": found}


def clusters(build: "Build", _: int) -> dict[str, Any]:
    total = sum(build.documents)
    files = [build.array("pairs", p) for p in range(build.pieces("pairs"))]
    dedup.cluster(files, total, build.array("removed", 0))
    return dedup.describe_clusters(build.array("removed", 0), total, SHOWN)


# --- what stays


def write(build: "Build", piece: int) -> dict[str, Any]:
    """Documents that stay, split by a hash of their id: a document keeps its side whatever else is added."""
    gone: set[int] = set()
    if build.recipe.dedup:
        first, count = build.first_ids[piece], build.documents[piece]
        gone = set(dedup.removed_in(build.array("removed", 0), first, count).tolist())
    emptied = 0
    with (
        DocumentWriter(build.out_documents("train", piece)) as train,
        DocumentWriter(build.out_documents("valid", piece)) as valid,
    ):
        for place, document in enumerate(texts_of(build, piece)):
            if place in gone:
                continue
            if document.text.strip():
                (valid if hash_unit(document.id, "split") < build.recipe.valid_share else train).add(document)
            else:
                emptied += 1
    sides = {"train": train, "valid": valid}
    found = {side: {"documents": w.documents, "bytes": w.bytes} for side, w in sides.items()}
    return found | {"emptied": emptied, "duplicates": len(gone)}


def counts(build: "Build", piece: int) -> dict[str, Any]:
    """Distinct chunks of a shard with their counts: what a vocabulary is trained on, small enough to keep for all shards."""
    from cairn.tokenizers import fast, pretokenize

    texts = (d.text for d in read_documents(build.out_documents("train", piece)))
    counter = fast.count_texts(texts, pretokenize.NAMED[build.recipe.pattern])
    with atomic_file(build.work / "counts" / f"{piece:05d}.npz") as handle:
        counter.save(handle)
    return {"distinct": len(counter)}


def merges(build: "Build", _: int) -> dict[str, Any]:
    """The vocabulary of all shards together. One process: it takes seconds."""
    from cairn.tokenizers import fast, pretokenize
    from cairn.tokenizers.tokenizer import tokenizer_from_counts

    counter = fast.ChunkCounter()
    for piece in range(len(build.parts)):
        counter.add_saved(build.work / "counts" / f"{piece:05d}.npz")
    tokenizer = tokenizer_from_counts(counter, build.recipe.vocab_size, pretokenize.NAMED[build.recipe.pattern])
    tokenizer.save(build.out / "tokenizer")
    return {"vocab_size": tokenizer.vocab_size, "distinct": len(counter)}


def encode(build: "Build", piece: int) -> dict[str, Any]:
    result = {}
    for side in ("train", "valid"):
        documents = build.out_documents(side, piece)
        if not build.result("write", piece)[side]["documents"]:
            continue
        texts = (d.text for d in read_documents(documents))
        shard = write_shard(build.out / "tokens" / f"{side}-{piece:05d}", texts, build.tokenizer, build.fingerprint)
        result[side] = {"tokens": len(shard), "documents": len(shard.ends)}
    return result
