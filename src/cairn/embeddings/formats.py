"""Files of word vectors that other programs write and read: word2vec's text and binary form, GloVe's text, fastText's .vec.

    text     "3 2\\n" (words, dimensions), then "word 0.1 0.2\\n" for each          word2vec -binary 0; fastText's .vec
    binary   "3 2\\n", then "word " and the little-endian float32 numbers          word2vec -binary 1; GoogleNews
    glove    as text, without the first line; a word may hold spaces              GloVe, glove.840B

What is read is somebody else's file and may be anything: sizes in a header are compared with the size of the file before
memory is asked for, lines and words have a longest length, and what is wrong is said with its place. Files may be packed
(.gz, .bz2, .xz, .zst). Pickles are never read.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_file
from cairn.corpus.documents import Quarantine
from cairn.corpus.sources.streams import DECODERS, DamagedError
from cairn.embeddings import binary_form, text_form
from cairn.embeddings.fasttext import SUBWORDS, SubwordVectors
from cairn.embeddings.layouts import FORMS, Block, Faults, Layout, layout_of, open_file
from cairn.embeddings.vectors import WordVectors

SUFFIXES = {".vec": "text", ".txt": "text", ".bin": "binary", ".glove": "glove"}  # by which a form to write is told


def open_vectors(path: Path | str) -> WordVectors:
    """The vectors of a directory that cairn wrote (`SubwordVectors` of one that fastText's training wrote), or of a file."""
    path = Path(path)
    if not path.is_dir():
        return read_vectors(path)
    return SubwordVectors.load(path) if (path / SUBWORDS).exists() else WordVectors.load(path)


def read_vectors(
    path: Path | str,
    form: str = "",
    *,
    limit: int = 0,
    skip_bad: bool = False,
    quarantine: Quarantine | None = None,
) -> WordVectors:
    """The vectors of a file in one of `FORMS` ("" finds out which), the first `limit` of them (0: all).

    Of a word that is there twice the first row counts, as for gensim. Doubles, words that are not UTF-8 (their bytes are
    replaced by U+FFFD) and, with skip_bad, rows that cannot be used are counted in `quarantine`. Without skip_bad such
    rows, and a file that ends too early, raise UserError with the line.
    """
    path = Path(path)
    faults = Faults(path, Quarantine() if quarantine is None else quarantine, skip_bad)
    layout = layout_of(path, form)
    most = layout.words if layout.words is not None else 1024
    most = min(most, limit) if limit else most
    index: dict[str, int] = {}
    matrix_VD = np.empty((most, layout.dim), np.float32)
    for unit, numbers, words, rows_ND in stream_rows(path, layout, faults):
        fresh = []
        for i, word in enumerate(words):
            if word in index:
                faults.note(f"{unit} {numbers[i]}", "a word that was there before")
            elif not limit or len(index) < limit:
                index[word] = len(index)
                fresh.append(i)
        start = len(index) - len(fresh)
        if len(index) > len(matrix_VD):
            matrix_VD.resize((max(len(index), 2 * len(matrix_VD)), layout.dim), refcheck=False)
        matrix_VD[start : len(index)] = rows_ND if len(fresh) == len(rows_ND) else rows_ND[fresh]
        if limit and len(index) == limit:
            break
    if not index:
        raise UserError(f"{path}: no vector could be read; left out: {faults.quarantine.summary()}")
    matrix_VD.resize((len(index), layout.dim), refcheck=False)
    return WordVectors(list(index), matrix_VD)


def stream_rows(path: Path, layout: Layout, faults: Faults) -> Iterator[Block]:
    """The rows of a file in blocks of some megabytes, in its order; memory stays flat."""
    with open_file(path) as file:
        if layout.words is not None:
            file.readline()
        read_rows = binary_form.read_rows if layout.form == "binary" else text_form.read_rows
        try:
            yield from read_rows(file, layout, faults)
        except DamagedError as error:
            raise UserError(f"{path} is damaged: {error}") from None


def form_for(path: Path, form: str = "") -> str:
    """The form to write: the one given, or that of the name's ending. Raises UserError for an unknown one."""
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    form = form or SUFFIXES.get(suffix, "")
    if form not in FORMS:
        endings = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        raise UserError(f"{path}: in which form? Name one of {', '.join(FORMS)}, or a file ending in {endings}")
    return form


def write_vectors(
    vectors: WordVectors,
    path: Path | str,
    form: str = "",
    *,
    skip_bad: bool = False,
    quarantine: Quarantine | None = None,
) -> None:
    """Write a file in one of `FORMS` ("" goes by the name's ending; a further .gz packs it), whole or not at all.

    Numbers in text have as many digits as are needed to read back the same float32. A word that the form cannot hold (an
    empty one, one with a line break, or with a space outside GloVe's) raises UserError, or with skip_bad is counted.
    """
    path = Path(path)
    form = form_for(path, form)
    faults = Faults(path, Quarantine() if quarantine is None else quarantine, skip_bad)
    kept = []
    for i, word in enumerate(vectors.words):
        if not word or "\n" in word or word != word.strip("\r ") or (" " in word and form != "glove"):
            faults.row(f"word {i + 1}", f"the form {form} cannot hold the word {word[:60]!r}")
        else:
            kept.append(i)
    rows_VD = vectors.matrix_VD if len(kept) == len(vectors) else vectors.matrix_VD[kept]
    words = [vectors.words[i].encode("utf-8") for i in kept]
    with atomic_file(path) as file:
        packed = _packed(path, file)
        if form != "glove":
            packed.write(b"%d %d\n" % rows_VD.shape)
        write = binary_form.write_rows if form == "binary" else text_form.write_rows
        write(packed, words, rows_VD)
        if packed is not file:
            packed.close()


def _packed(path: Path, file: Any) -> Any:
    if path.suffix in DECODERS and path.suffix != ".gz":
        raise UserError(f"{path}: vectors are written plain or as .gz, not {path.suffix}")
    return gzip.GzipFile("", "wb", 6, file, mtime=0) if path.suffix == ".gz" else file
