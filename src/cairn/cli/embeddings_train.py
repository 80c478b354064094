"""Train word vectors on text: word2vec, GloVe or fastText.

    cairn embeddings train --data wiki.txt --out runs/vectors
    cairn embeddings train --kind fasttext --data my-texts notes.txt --out runs/vectors --text prose --workers 2
    cairn embeddings train --kind glove --data runs/corpus --out runs/glove --dim 50 --x-max 10

A source is a file or folder of text of any kind, or a corpus directory. The text is read once and may be larger than memory.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, add_settings, finish, read_settings
from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings import FastTextConfig, Word2VecConfig, WordVectors, train_fasttext, train_word2vec
from cairn.embeddings.glove import GloveConfig, train_glove
from cairn.embeddings.stream import texts

KINDS: dict[str, tuple[type, Callable[..., WordVectors]]] = {
    "word2vec": (Word2VecConfig, train_word2vec),
    "glove": (GloveConfig, train_glove),
    "fasttext": (FastTextConfig, train_fasttext),
}


def all_settings() -> Any:
    """The settings of all kinds in one, each once, with what is said of it where kinds differ."""
    owners: dict[str, dict[str, Any]] = {}
    for kind, (config, _) in KINDS.items():
        for field in dataclasses.fields(config):
            owners.setdefault(field.name, {})[kind] = field
    merged = []
    for name, fields in owners.items():
        first = next(iter(fields.values()))
        only = "" if len(fields) == len(KINDS) else f"[{', '.join(fields)}] "
        others = [f"{kind} {field.default}" for kind, field in fields.items() if field.default != first.default]
        help = f"{only}{first.metadata['help']}{'; else ' if others else ''}{', '.join(others)}"
        changed = option(first.default, help, choices=first.metadata["choices"], minimum=first.metadata["minimum"])
        merged.append((name, first.type, changed))
    return dataclasses.make_dataclass("Settings", merged, frozen=True)()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=KINDS, default="word2vec", help="method (default: word2vec)")
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="SOURCE", help="files and folders of text"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of vectors to write")
    add_settings(parser, all_settings())
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    config_type, train = KINDS[arguments.kind]
    known = {field.name for field in dataclasses.fields(config_type)}
    for name in (key.removeprefix("option:") for key in vars(arguments) if key.startswith("option:")):
        if name not in known:
            owners = [kind for kind, (other, _) in KINDS.items() if name in {f.name for f in dataclasses.fields(other)}]
            raise UserError(
                f"--{name.replace('_', '-')} is a setting of {' and '.join(owners)}, not of {arguments.kind}"
            )
    config = read_settings(arguments, config_type())
    if arguments.out.exists():
        raise UserError(f"{arguments.out} exists already; choose another --out, or delete it")
    sources = arguments.data
    for source in sources:
        if not source.exists():
            raise UserError(f"{source} does not exist")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)  # where that fails, better now than after the training
    if not os.access(arguments.out.parent, os.W_OK):
        raise UserError(f"{arguments.out.parent} may not be written to; choose another --out")
    quarantine = Quarantine()
    start = time.monotonic()
    data = sources[0] if len(sources) == 1 else (text for source in sources for text in texts(source, quarantine))
    try:
        vectors = train(data, config, quarantine)
    except MemoryError:
        sizes = [name for name in ("dim", "buckets", "max_distinct", "memory") if name in known]
        raise UserError(f"there is not enough memory; give a smaller {' or '.join(sizes)}") from None
    seconds = time.monotonic() - start
    result = {
        "kind": arguments.kind,
        "settings": to_dict(config),
        "sources": [str(source) for source in sources],
        "seconds": round(seconds, 2),
        "quarantine": quarantine.to_dict(),
    }
    vectors.save(arguments.out, result)
    print(f"{arguments.out}: {len(vectors):,} words of {vectors.dim} numbers, by {arguments.kind} in {seconds:.1f} s")
    finish(arguments, {**result, "words": len(vectors), "dimensions": vectors.dim})
