"""Training texts that hold pieces of the benchmarks a model will be judged by.

GPT-3's rule (Brown et al. 2020, appendix C): a text is contaminated where thirteen neighbouring words, in lower case and
without punctuation, stand in a benchmark too. There the 13 words and 200 characters on either side were cut out, and what
remained of fewer than 200 characters was left out; dropping the whole text is the simpler and stricter way.
An item of fewer words than that cannot be found; `benchmark_index(...).short` counts them: take a shorter n-gram for these.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally
from cairn.corpus.filters.benchmarks import BenchmarkIndex, benchmark_index, kind_of, ngram_hashes, word_hashes
from cairn.corpus.filters.words import words


@dataclass(frozen=True)
class Decontaminate:
    """Drops or cuts texts, each counted under the benchmark it shares most with (decontaminate/gsm8k_test.jsonl)."""

    name: ClassVar[str] = "decontaminate"
    benchmarks: tuple[str, ...] = option((), "benchmark files (.jsonl, .json, .csv, .txt, also compressed)")
    ngram: int = option(13, "words in a row that must be equal", minimum=4)
    action: str = option("drop", "what happens to a text with a match", choices=("drop", "cut"))
    max_share: float = option(0.0, "share of a text's words in matches that is let pass", minimum=0.0)
    margin: int = option(200, "cut: characters that go with a match on either side", minimum=0)
    min_piece: int = option(200, "cut: a remaining piece of fewer characters goes too", minimum=1)
    fields: tuple[str, ...] = option((), "fields of the benchmarks to look at; empty: every text")
    cache: str = option("", "folder that keeps the table of n-grams; empty: made anew by each process")

    def __post_init__(self) -> None:
        for path in map(Path, self.benchmarks):
            kind_of(path)
            if not path.is_file():
                raise UserError(f"decontaminate.benchmarks: {path} is not a file")

    def index(self) -> BenchmarkIndex:
        if not self.benchmarks:
            raise UserError(
                "decontaminate.benchmarks is empty: name the files of the benchmarks, or leave the step out"
            )
        return benchmark_index(self.benchmarks, self.ngram, self.fields, self.cache)

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        index = self.index()
        tokens = words(document.text)
        hashes, places = word_hashes(tokens)
        starts, owners = index.find(ngram_hashes(hashes, self.ngram))
        if not len(starts):
            return document
        matched = np.zeros(len(hashes), dtype=bool)
        for k in range(self.ngram):
            matched[starts + k] = True
        if matched.mean() <= self.max_share:
            return document
        rule = f"decontaminate/{index.names[Counter(owners.tolist()).most_common(1)[0][0]]}"
        text = self._cut(document.text, tokens, places[matched]) if self.action == "cut" else ""
        if not text:
            tally.drop(rule, document)
            return None
        tally.change(rule)
        return replace(document, text=text)

    def _cut(self, text: str, tokens: tuple[str, ...], matched: np.ndarray) -> str:
        """The pieces between the matches, "" if none is long enough."""
        spans = list(_spans(text, tokens))
        pieces, done = [], 0
        for start, end in (spans[place] for place in matched.tolist()):
            pieces.append(text[done : max(start - self.margin, done)])
            done = max(done, end + self.margin)
        pieces.append(text[done:])
        return "\n\n".join(piece.strip() for piece in pieces if len(piece.strip()) >= self.min_piece)


def _spans(text: str, tokens: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where each of the words of the text stands: nothing but white space lies between them, so the next find is it."""
    end = 0
    for token in tokens:
        start = text.index(token, end)
        end = start + len(token)
        yield start, end
