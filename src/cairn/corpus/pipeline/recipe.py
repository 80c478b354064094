"""What a `corpus.toml` says: where the text comes from, the steps it passes, and what is made of it.

valid_share = 0.01
vocab_size = 32768                      # of a byte-level BPE to be trained; or: tokenizer = "path/to/tokenizer"

[[sources]]
path = "texts"
licence = "CC BY 4.0"

[[steps]]
kind = "normalize"

[[steps]]
kind = "gopher-quality"
min_words = 20

[dedup]
near = true
"""

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cairn.core.config import from_dict, option, read_toml, to_dict
from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.corpus.dedup import DedupConfig, LineConfig, MinHashConfig
from cairn.corpus.documents import Step
from cairn.corpus.download import CORPORA, NamedCorpus, RemoteFile
from cairn.corpus.filters import STEPS, Decontaminate
from cairn.corpus.sources.plan import PART_BYTES
from cairn.tokenizers.chat import SPECIAL_TOKENS
from cairn.tokenizers.pretokenize import NAMED


@dataclass(frozen=True)
class SourceConfig:
    """One of `path`, `corpus`, `url` and `hub` says where the documents are."""

    path: str = option("", "folder or file")
    corpus: str = option("", f"a named corpus: {', '.join(CORPORA)}")
    url: str = option("", "a file on the web")
    sha256: str = option("", "checksum of the file at url")
    hub: str = option("", "a data set of the Hugging Face hub")
    config: str = option("", "hub: the data set's subset")
    split: str = option("train", "hub: the split")
    revision: str = option("", "hub: the commit, for text that does not change")
    name: str = option("", "name in the report and before the ids; empty: made from the place")
    licence: str = option("", "licence, for the data card")
    text_field: str = option("", "field of the records that holds the text; empty: text, else content")

    def __post_init__(self) -> None:
        given = [key for key in ("path", "corpus", "url", "hub") if getattr(self, key)]
        if len(given) != 1:
            raise UserError(f"a source needs one of path, corpus, url and hub, got {', '.join(given) or 'none'}")
        for key, kind in {"sha256": "url", "config": "hub", "revision": "hub"}.items():
            if getattr(self, key) and given != [kind]:
                raise UserError(f"{key} belongs to a source with {kind}, not to one with {given[0]}")
        if "/" in self.name:
            raise UserError(f"the name of a source leads the ids of its documents and may hold no /, got {self.name!r}")
        if self.corpus and self.corpus not in CORPORA:
            raise UserError(f"the corpus {self.corpus!r} is not known; known: {', '.join(CORPORA)}")

    @property
    def title(self) -> str:
        return self.name or Path(self.path or self.url or self.hub or self.corpus).name or "root"

    def remote(self, folder: str) -> NamedCorpus | None:
        """What must be downloaded first, if anything, and the name of the folder it comes to."""
        if self.corpus:
            return replace(CORPORA[self.corpus], name=folder)
        if self.url:
            return NamedCorpus(folder, (RemoteFile(self.url, self.sha256),), self.licence)
        return None


@dataclass(frozen=True)
class Recipe:
    sources: tuple[SourceConfig, ...] = ()
    steps: tuple[Step, ...] = ()
    dedup: DedupConfig | None = None
    lines: LineConfig | None = None
    valid_share: float = option(0.01, "share of documents held out for validation", minimum=0.0)
    tokenizer: str = option("", "tokenizer (any form) that encodes the documents; empty: see vocab_size")
    vocab_size: int = option(0, "train a byte-level BPE of this size on the documents; 0: no tokens", minimum=0)
    pattern: str = option("qwen2", "how that BPE splits text", choices=tuple(NAMED))
    part_bytes: int = option(PART_BYTES, "bytes of input in one piece of work", minimum=1000)
    keep_work: bool = option(False, "keep what the phases pass on to each other")
    source_names: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("the recipe has no [[sources]]")
        if not 0 <= self.valid_share < 1:
            raise UserError(f"valid_share must lie between 0 and 1, got {self.valid_share}")
        if self.tokenizer and self.vocab_size:
            raise UserError("give either tokenizer (one that exists) or vocab_size (of one to train), not both")
        least = 256 + len(SPECIAL_TOKENS)
        if 0 < self.vocab_size < least:
            raise UserError(
                f"vocab_size must be at least {least} (the bytes and special tokens), got {self.vocab_size}"
            )
        names: list[str] = []
        for source in self.sources:  # names lead the ids, so that two sources cannot hold the same id
            name, number = source.title, 2
            while name in names:
                name, number = f"{source.title}-{number}", number + 1
            names.append(name)
        object.__setattr__(self, "source_names", tuple(names))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is written beside the corpus."""
        values = to_dict(self)
        del values["source_names"]
        values["steps"] = [{"kind": step.name} | to_dict(step) for step in self.steps]
        return values

    def fingerprint(self) -> str:
        """Of everything that decides what comes out."""
        return fingerprint({key: value for key, value in self.to_dict().items() if key != "keep_work"})


def read_recipe(path: Path | str) -> Recipe:
    """Read a corpus.toml. Every unknown key, wrong type or impossible value is a UserError that names it."""
    values = read_toml(path)
    try:
        return recipe_from(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def recipe_from(values: dict[str, Any]) -> Recipe:
    """The recipe in plain values, as TOML and JSON give them."""
    values = dict(values)
    sources = [from_dict(SourceConfig, v, where=f"sources[{i}]") for i, v in enumerate(_tables(values, "sources"))]
    steps = []
    for i, table in enumerate(_tables(values, "steps")):
        table = dict(table)
        kind = table.pop("kind", None)
        if not isinstance(kind, str) or kind not in STEPS:
            raise UserError(f"steps[{i}].kind is {kind!r}; known: {', '.join(STEPS)}")
        step = from_dict(STEPS[kind], table, where=f"steps[{i}]")
        if isinstance(step, Decontaminate) and not step.benchmarks:
            raise UserError(f"steps[{i}].benchmarks is empty: name the files of the benchmarks, or leave the step out")
        steps.append(step)
    parts: dict[str, Any] = {}
    for key, kind in (("dedup", DedupConfig), ("lines", LineConfig)):
        table = values.pop(key, None)
        parts[key] = None if table is None else from_dict(kind, table, kind(), where=key)
    base = Recipe(tuple(sources), tuple(steps), **parts)
    return from_dict(Recipe, values, base)


def _tables(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    tables = values.pop(key, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UserError(f"{key} must be a list of tables: [[{key}]]")
    return tables


def settings() -> str:
    """Every table and setting of a recipe with its default, as commented TOML."""
    lines = ["# the recipe itself", *_defaults(Recipe)]
    lines += ["", "[[sources]]", *_defaults(SourceConfig)]
    for name, step in STEPS.items():
        lines += ["", "[[steps]]", f'kind = "{name}"', *_defaults(step)]
    lines += ["", "[dedup]", *_defaults(DedupConfig), "", "[dedup.minhash]", *_defaults(MinHashConfig)]
    return "\n".join([*lines, "", "[lines]", *_defaults(LineConfig)])


def _defaults(kind: type) -> list[str]:
    found = []
    for f in dataclasses.fields(kind):
        if "help" not in f.metadata or f.default is dataclasses.MISSING:
            continue
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        choices = f" ({', '.join(map(str, f.metadata['choices']))})" if f.metadata["choices"] else ""
        found.append(f"{f.name} = {json.dumps(default)}  # {f.metadata['help']}{choices}")
    return found
