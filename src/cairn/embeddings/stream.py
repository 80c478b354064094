"""Text from wherever it lies, in blocks of UTF-8 with a sentence on each line.

A source is read once, whatever the number of epochs (see `cairn.embeddings.spool`): a generator will do.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cairn.core.batching import batches
from cairn.core.errors import UserError
from cairn.corpus import Corpus, Quarantine
from cairn.corpus.sources import read_folder
from cairn.corpus.sources.plan import KINDS
from cairn.corpus.sources.reading import Reading
from cairn.corpus.sources.streams import DECODERS, DamagedError, open_stream
from cairn.corpus.sources.text import read_text

# A path, or texts (strings; one or more sentences each) and sentences (lists of words), mixed as they come.
Source = str | Path | Iterable[str | list[str] | tuple[str, ...]]

PIECE_BYTES = 1 << 20
SENTENCE_END = re.compile(r"(?:[.!?。！？]+(?=\s|$)|\n[ \t]*(?=\n))\s*")
NOT_A_WORD = re.compile(r"[^\w\n]+|_+")


def texts(source: Source, quarantine: Quarantine) -> Iterator[str]:
    """The texts of a source: a file (of any format that `cairn corpus` reads; another ending, or a pipe, is plain text), a
    folder of them, a corpus directory (its general training part), or an iterable. What cannot be read is counted.
    """
    if not isinstance(source, (str, Path)):
        yield from map(_text, source)
        return
    path = Path(source)
    if path.exists() and not path.is_dir() and KINDS.get(_ending(path), "text") == "text":
        yield from _plain_file(path, quarantine)
    elif (path / "corpus.json").is_file():
        yield from Corpus(path).texts("general-train")
    else:
        yield from (document.text for document in read_folder(path, quarantine))


def blocks(source: Source, text: str, quarantine: Quarantine) -> Iterator[bytes]:
    """The same as UTF-8 with line ends after sentences, about a megabyte at a time. text: `Word2VecConfig.text`."""
    for batch in batches(texts(source, quarantine)):
        lines = map(prose_sentences, batch) if text == "prose" else batch
        yield "\n".join([*lines, ""]).encode("utf-8", "replace")  # half of a surrogate pair is no text


def prose_sentences(text: str) -> str:
    """Running text as lines of lower-case words.

    >>> prose_sentences("It's a cairn.\\nStones, and\\nsnow_shoes!\\n\\nVersion 3.11")
    'it s a cairn\\nstones and snow shoes\\nversion 3 11'
    """
    cut = SENTENCE_END.sub("\0", text.lower()).replace("\n", " ").replace("\0", "\n")
    return "\n".join(line.strip() for line in NOT_A_WORD.sub(" ", cut).split("\n"))


def _text(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, (list, tuple)) and all(isinstance(word, str) for word in item):
        line = " ".join(item)
        if line.split() != list(item):
            odd = next(word for word in item if word.split() != [word])
            raise UserError(
                f"the word {odd!r} of a sentence is empty or has a space inside: write it without, as new_york"
            )
        return line
    raise UserError(f"a source gives texts (strings) or sentences (lists of words), not {type(item).__name__}")


def _ending(path: Path) -> str:
    """What tells a file's kind: of "a.TXT.gz" it is ".txt"."""
    return (Path(path.stem) if path.suffix.lower() in DECODERS else path).suffix.lower()


def _plain_file(path: Path, quarantine: Quarantine) -> Iterator[str]:
    """Text, also in a file whose ending says nothing (text8 has none), a small piece at a time."""
    reading = Reading(path.name, quarantine, "", PIECE_BYTES)
    try:
        with open_stream(path, path.suffix.lower() if path.suffix.lower() in DECODERS else "") as stream:
            yield from (document.text for document in read_text(stream, reading))
    except DamagedError as damage:
        reading.reject("", str(damage))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or 'damaged'}") from None
