"""The only pass over a text: its words counted, and all of it as numbers on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.progress import say
from cairn.corpus import Quarantine
from cairn.embeddings.spool import Spool
from cairn.embeddings.stream import Source, blocks
from cairn.embeddings.vocabulary import Vocabulary


@dataclass(frozen=True)
class Reading:
    """rows: int32[distinct], the word's row in the vocabulary for each number of the spool, or -1."""

    vocabulary: Vocabulary
    rows: np.ndarray


def read_words(
    source: Source, text: str, min_count: int, max_distinct: int, spool: Spool, quarantine: Quarantine | None
) -> Reading:
    """Count the words of a source and write them to the spool. What could not be read is said, and counted.

    text, min_count, max_distinct: as in `Word2VecConfig`. Raises UserError where the source has too few words.
    """
    from cairn.embeddings.counting import WordCounter

    counter, own = WordCounter(max_distinct), Quarantine()
    spool.write(blocks(source, text, own), counter)
    if own.counts:
        say(f"left out: {own.summary()}")
        if quarantine is not None:
            quarantine.add_all(own)
    if counter.ignored:
        say(f"{counter.ignored:,} words are ignored: they first came after {max_distinct:,} different ones")
    if not spool.words:
        where = source if isinstance(source, (str, Path)) else "the text"
        raise UserError(f"no words in {where}; left out: {own.summary()}")
    return Reading(*counter.vocabulary(min_count))
