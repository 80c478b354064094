"""A corpus directory: general and domain documents, each split by document into train and validation.

corpus/
  general-train.jsonl  general-valid.jsonl  domain-train.jsonl  domain-valid.jsonl    {"id": ..., "text": ...} a line
  names.jsonl           public names of the standard library, for questions about them
  corpus.json           what it was made from, counts, quarantine; written last
"""

import json
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
        "", "folder of .txt/.md/.py/.jsonl/.parquet as the general corpus; empty: Python's documentation"
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
    if not Path(out).exists():
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
        for kind, documents, limit, source in (
            ("general", general, config.general_bytes, config.data),
            ("domain", domain, config.domain_bytes, config.domain),
        ):
            train, valid = _split(documents, config.valid_share, quarantine)
            if not train:
                raise UserError(
                    f"no usable text in {source or 'the standard library'}: .txt, .md, .py, .jsonl (field text) or .parquet "
                    f"files are read; left out: {quarantine.summary()}"
                )
            train, valid = _ensure_valid(train, valid, source)
            for part, chosen, bound in ((f"{kind}-train", train, limit), (f"{kind}-valid", valid, config.valid_bytes)):
                counts[part] = _write(directory / f"{part}.jsonl", _limit(chosen, bound))
        names = library.public_names()
        _write_lines(directory / "names.jsonl", (asdict(n) for n in names))
        files = {name.name: hash_file(name) for name in sorted(directory.glob("*.jsonl"))}
        info = {
            "config": to_dict(config),
            "python": library.python_version(),
            "counts": counts,
            "names": len(names),
            "quarantine": {"counts": dict(quarantine.counts), "examples": quarantine.examples},
            "fingerprint": fingerprint(files),
        }
        write_json(directory / "corpus.json", info)
    return Corpus(out)


def _split(
    documents: Iterable[Document], share: float, quarantine: Quarantine
) -> tuple[list[Document], list[Document]]:
    """By a hash of the name (of the module, for the library, so that its text and its source fall on the same side)."""
    train: list[Document] = []
    valid: list[Document] = []
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
        (valid if hash_unit(key, "split") < share else train).append(document)
    return train, valid


def _ensure_valid(train: list[Document], valid: list[Document], source: str) -> tuple[list[Document], list[Document]]:
    """A few documents may all fall on one side; a single one is cut in two, which is said in the names."""
    if valid and train:
        return train, valid
    documents = sorted(train + valid, key=lambda d: hash_unit(d.id, "split"))
    if len(documents) > 1:
        return documents[1:], documents[:1]
    text = documents[0].text
    cut = text.rfind("\n", 0, int(len(text) * 0.9)) + 1 or int(len(text) * 0.9)
    if cut < 1 or len(text) - cut < 50:
        raise UserError(f"{source} holds only {len(text)} characters: too little to hold some out for validation")
    return [Document(f"{documents[0].id}#train", text[:cut])], [Document(f"{documents[0].id}#valid", text[cut:])]


def _limit(documents: list[Document], bound: int) -> list[Document]:
    """Documents in a fixed shuffled order until `bound` bytes are reached; the last one is cut."""
    chosen, total = [], 0
    for document in sorted(documents, key=lambda d: hash_unit(d.id, "order")):
        if total >= bound:
            break
        data = document.text.encode("utf-8", "surrogatepass")
        if total + len(data) > bound:
            document = Document(document.id, data[: bound - total].decode("utf-8", "ignore"))
        total += len(data)
        if document.text:
            chosen.append(document)
    return chosen


def _write(path: Path, documents: list[Document]) -> dict[str, int]:
    _write_lines(path, ({"id": d.id, "text": d.text} for d in documents))
    return {"documents": len(documents), "bytes": sum(len(d.text.encode("utf-8", "surrogatepass")) for d in documents)}


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
