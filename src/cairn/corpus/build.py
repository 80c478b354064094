"""A corpus directory: general and domain documents, each split by document into train and validation.

corpus/
  general-train.jsonl  general-valid.jsonl  domain-train.jsonl  domain-valid.jsonl    {"id": ..., "text": ...} a line
  names.jsonl           public names of the standard library, for questions about them
  corpus.json           what it was made from, counts, quarantine; written last
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, fingerprint, hash_file, hash_unit, read_json, write_json
from cairn.corpus import library
from cairn.corpus.documents import Document, Quarantine
from cairn.corpus.sources import read_folder

PARTS = ("general-train", "general-valid", "domain-train", "domain-valid")


@dataclass(frozen=True)
class CorpusConfig:
    data: str = option(
        "",
        "folder of text, source code, JSON Lines, Parquet, HTML, WARC as the general corpus; empty: Python's documentation",
    )
    domain: str = option("", "folder for the domain corpus; empty: the standard library's source code")
    valid_share: float = option(0.08, "share of documents held out for validation", minimum=0.0)
    general_bytes: int = option(1 << 30, "at most this many bytes of general training text", minimum=1000)
    domain_bytes: int = option(4_000_000, "at most this many bytes of domain training text", minimum=1000)
    valid_bytes: int = option(160_000, "at most this many bytes of validation text each", minimum=500)

    def __post_init__(self) -> None:
        if not 0 < self.valid_share < 1:
            raise UserError(f"valid_share must lie between 0 and 1, got {self.valid_share}")


class Corpus:
    """An opened corpus directory."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not (self.path / "corpus.json").exists():
            raise UserError(
                f"{path} is not a corpus directory (no corpus.json); make one with: cairn corpus --out {path}"
            )
        self.info = read_json(self.path / "corpus.json")
        if "recipe" in self.info:
            raise UserError(
                f"{path} was made by cairn corpus build; make a corpus for training of it with: "
                f"cairn corpus --data {path}/documents/train --out ANOTHER"
            )

    def documents(self, part: str) -> Iterator[Document]:
        assert part in PARTS, part
        with open(self.path / f"{part}.jsonl", encoding="utf-8") as handle:
            for line in handle:
                yield Document(**json.loads(line))

    def texts(self, part: str) -> Iterator[str]:
        return (d.text for d in self.documents(part))

    def names(self) -> list[library.Name]:
        with open(self.path / "names.jsonl", encoding="utf-8") as handle:
            return [library.Name(**json.loads(line)) for line in handle]

    def fingerprint(self) -> str:
        return self.info["fingerprint"]


def complete_corpus(config: CorpusConfig, out: Path | str) -> Corpus | None:
    """The corpus at `out` if it was made with `config`, None if there is none; another one is refused, not replaced."""
    if not Path(out).exists() or (Path(out).is_dir() and not any(Path(out).iterdir())):
        return None
    corpus = Corpus(out)
    if corpus.info.get("config") != to_dict(config):
        raise UserError(f"{out} was made with other settings; choose another --out, or delete it to start anew")
    return corpus


def build_corpus(config: CorpusConfig, out: Path | str) -> Corpus:
    """Read, split and write a corpus; see the module's text for the files. Raises UserError when nothing usable is found."""
    quarantine = Quarantine()
    general = read_folder(config.data, quarantine) if config.data else library.documentation()
    domain = read_folder(config.domain, quarantine) if config.domain else library.source_code()
    with atomic_directory(out) as directory:
        counts: dict[str, dict[str, int]] = {}
        sides: dict[
            str, bool
        ] = {}  # text -> held out; of both kinds, so that none is trained on what the other holds out
        for kind, documents, limit, source in (
            ("general", general, config.general_bytes, config.data),
            ("domain", domain, config.domain_bytes, config.domain),
        ):
            with _Spool(directory / "spool") as spool:
                train, valid = _split(documents, config.valid_share, quarantine, spool, sides)
                if not train and not valid:
                    raise UserError(
                        f"no usable text in {source or 'the standard library'}: text, Markdown, source code, JSON Lines "
                        f"(field text), CSV, Parquet, HTML and WARC are read; left out: {quarantine.summary()}"
                    )
                train, valid = _ensure_valid(train, valid, source, spool)
                for side, places, bound in (("train", train, limit), ("valid", valid, config.valid_bytes)):
                    part = f"{kind}-{side}"
                    counts[part] = _write(directory / f"{part}.jsonl", _chosen(places, bound, spool))
        names = library.public_names()
        _write_lines(directory / "names.jsonl", (asdict(n) for n in names))
        files = {name.name: hash_file(name) for name in sorted(directory.glob("*.jsonl"))}
        info = {
            "config": to_dict(config),
            "python": library.python_version(),
            "counts": counts,
            "names": len(names),
            "quarantine": quarantine.to_dict(),
            "fingerprint": fingerprint(files),
        }
        write_json(directory / "corpus.json", info)
    return Corpus(out)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a document's text lies in the spool: all that memory holds of it."""

    id: str
    start: int
    bytes: int


class _Spool:
    """Texts on disk, to be read back in another order than they came."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> "_Spool":
        self._file = open(self.path, "w+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink()

    def add(self, id: str, text: str) -> _Place:
        data = text.encode("utf-8", "surrogatepass")
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(data)
        return _Place(id, start, len(data))

    def text(self, place: _Place) -> str:
        self._file.seek(place.start)
        return self._file.read(place.bytes).decode("utf-8", "surrogatepass")


def _split(
    documents: Iterable[Document], share: float, quarantine: Quarantine, spool: _Spool, sides: dict[str, bool]
) -> tuple[list[_Place], list[_Place]]:
    """By a hash of the name (of the module, for the library, so that its text and its source fall on the same side)."""
    train: list[_Place] = []
    valid: list[_Place] = []
    seen: set[str] = set()
    for document in documents:
        digest = fingerprint(document.text)
        if digest in seen:
            quarantine.add(document.id, "exact duplicate of another document")
            continue
        seen.add(digest)
        key = (
            library.split_key(document.id.split("/", 1)[-1])
            if document.id.startswith(("doc/", "source/"))
            else document.id
        )
        place = spool.add(document.id, document.text)
        (valid if sides.setdefault(digest, hash_unit(key, "split") < share) else train).append(place)
    return train, valid


def _ensure_valid(
    train: list[_Place], valid: list[_Place], source: str, spool: _Spool
) -> tuple[list[_Place], list[_Place]]:
    """A few documents may all fall on one side; a single one is cut in two, which is said in the names."""
    if valid and train:
        return train, valid
    places = sorted(train + valid, key=lambda p: hash_unit(p.id, "split"))
    if len(places) > 1:
        return places[1:], places[:1]
    text = spool.text(places[0])
    cut = text.rfind("\n", 0, int(len(text) * 0.9)) + 1 or int(len(text) * 0.9)
    if cut < 1 or len(text) - cut < 50:
        raise UserError(f"{source} holds only {len(text)} characters: too little to hold some out for validation")
    return [spool.add(f"{places[0].id}#train", text[:cut])], [spool.add(f"{places[0].id}#valid", text[cut:])]


def _chosen(places: list[_Place], bound: int, spool: _Spool) -> Iterator[Document]:
    """Documents in a fixed shuffled order until `bound` bytes are reached; the last one is cut."""
    total = 0
    for place in sorted(places, key=lambda p: hash_unit(p.id, "order")):
        if total >= bound:
            break
        text = spool.text(place)
        if total + place.bytes > bound:
            text = text.encode("utf-8", "surrogatepass")[: bound - total].decode("utf-8", "ignore")
        total += place.bytes
        if text:
            yield Document(place.id, text)


def _write(path: Path, documents: Iterable[Document]) -> dict[str, int]:
    counts = {"documents": 0, "bytes": 0}

    def rows() -> Iterator[dict]:
        for document in documents:
            counts["documents"] += 1
            counts["bytes"] += len(document.text.encode("utf-8", "surrogatepass"))
            yield {"id": document.id, "text": document.text}

    _write_lines(path, rows())
    return counts


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
