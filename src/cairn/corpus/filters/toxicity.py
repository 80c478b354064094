"""How many listed words of abuse a text holds in 1,000, and the removal of what holds too many.

A word list is the crudest of measures, and this is what it cannot do: it sees no context, so quotations, court reports,
medicine and reclaimed words count like abuse, while contempt in polite words counts for nothing; it knows English alone
unless told more; a different spelling escapes it; and such lists are known to remove the texts of the minorities they
mean to protect (Dodge et al. 2021, section 5). So the threshold is high: it removes texts that consist of abuse.

The list (toxicity.toml) holds hashes, to spare the reader: `hash_word("...")` tells whether a word is in it. Weights: 3
slurs against a group, 2 sexual or degrading abuse, 1 profanity. A person's own list adds plain words or takes some out.
"""

import functools
import math
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import xxhash

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally
from cairn.corpus.filters.words import Memo, word_counts


def hash_word(word: str) -> str:
    """XXH3-64 of the lower-case word, in hexadecimal: how words stand in toxicity.toml."""
    return xxhash.xxh3_64_hexdigest(word.lower().encode("utf-8", "surrogatepass"))


@functools.cache
def weights(own_list: str = "") -> Memo[float]:
    """Weight of a word: by the package's list, changed by the person's ("word" or "word weight" a line).

    Raises UserError naming the line at fault.
    """
    table = tomllib.loads((files("cairn.corpus.filters") / "toxicity.toml").read_text("utf-8"))
    if own_list:
        table |= _own_weights(own_list)
    return Memo(lambda word: float(table.get(hash_word(word), 0.0)))


def _own_weights(path: str) -> dict[str, float]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"toxicity.words: {path} cannot be read as UTF-8 text: {error}") from None
    table = {}
    for number, line in enumerate(lines, 1):
        word, _, weight = line.strip().partition(" ")
        try:
            value = float(weight or 1)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise UserError(f"toxicity.words: {path}:{number} must be a word, or a word and a weight: {line!r}")
        if word:
            table[hash_word(word)] = value
    return table


def toxicity(text: str, weight: Memo[float]) -> tuple[float, int]:
    """(sum of the weights per 1,000 words, number of listed words) of a text."""
    counts = word_counts(text)
    found = [(w, n) for w, n in zip(map(weight.__getitem__, counts), counts.values()) if w]
    return 1000 * sum(w * n for w, n in found) / max(counts.total(), 1), sum(n for _, n in found)


@dataclass(frozen=True)
class Toxicity:
    name: ClassVar[str] = "toxicity"
    max_score: float = option(10.0, "highest sum of the weights of listed words, per 1,000 words", minimum=0.0)
    min_hits: int = option(
        3, "fewest listed words that make a text toxic: one swearword in a tweet does not", minimum=1
    )
    words: str = option("", "your own list: a word, or a word and its weight, a line (weight 0 takes a word out)")

    def __post_init__(self) -> None:
        weights(self.words)

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        score, hits = toxicity(document.text, weights(self.words))
        if score > self.max_score and hits >= self.min_hits:
            tally.drop("toxicity/listed-words", document)
            return None
        return document
