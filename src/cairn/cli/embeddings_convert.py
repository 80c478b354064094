"""Read word vectors in one form and write them in another.

    cairn embeddings convert runs/vectors vectors.bin                       # word2vec's binary form
    cairn embeddings convert glove.840B.300d.txt runs/glove --limit 400000  # a directory, which opens at once
    cairn embeddings convert wiki.en.vec.gz wiki.glove.gz

Forms: directory (cairn's own), text (word2vec's; fastText's .vec), binary (word2vec's), glove (text without a first line).
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, finish
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings.formats import SUFFIXES, form_for, open_vectors, read_vectors, write_vectors
from cairn.embeddings.layouts import FORMS
from cairn.embeddings.vectors import WordVectors

DIRECTORY = "directory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    endings = ", ".join(f"{suffix} {form}" for suffix, form in SUFFIXES.items())
    parser.add_argument("source", type=Path, metavar="IN", help="directory or file of word vectors, plain or packed")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory or file to write; .gz packs a file")
    parser.add_argument(
        "--to", choices=(DIRECTORY, *FORMS), help=f"form to write (default: by the ending: {endings}, none {DIRECTORY})"
    )
    parser.add_argument("--from", dest="form", choices=FORMS, default="", help="form to read (default: found out)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N words; 0: all (default: 0)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out and count rows that cannot be used, instead of stopping"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    if out.exists():
        raise UserError(f"{out} exists already; choose another OUT, or delete it")
    if arguments.limit < 0:
        raise UserError(f"--limit must be at least 0, got {arguments.limit}")
    form = arguments.to or (form_for(out) if out.suffix else DIRECTORY)
    quarantine = Quarantine()
    if arguments.source.is_dir():
        vectors = open_vectors(arguments.source)
        if arguments.limit:
            counts = None if vectors.counts is None else vectors.counts[: arguments.limit]
            vectors = WordVectors(vectors.words[: arguments.limit], vectors.matrix_VD[: arguments.limit], counts)
    else:
        options = {"limit": arguments.limit, "skip_bad": arguments.skip_bad, "quarantine": quarantine}
        vectors = read_vectors(arguments.source, arguments.form, **options)
    if form == DIRECTORY:
        vectors.save(out, {"kind": "converted", "sources": [str(arguments.source)]})
    else:
        write_vectors(vectors, out, form, skip_bad=arguments.skip_bad, quarantine=quarantine)
    print(f"{out}: {len(vectors):,} words of {vectors.dim} numbers, as {form}")
    if quarantine.counts:
        print(f"  of note: {quarantine.summary()}")
        for example in quarantine.examples[:5]:
            print(f"  {example['where']}: {example['reason']}")
    result = {"words": len(vectors), "dimensions": vectors.dim, "form": form, "quarantine": quarantine.to_dict()}
    finish(arguments, result)
