"""a is to b as c is to what? Answers from vectors, and the share of right ones on lists of such questions.

3CosAdd looks for the word d whose vector is closest to b - a + c (Mikolov et al. 2013); 3CosMul for the largest
cos(d, b) cos(d, c) / cos(d, a), in which no single term outweighs the others (Levy & Goldberg 2014). All vectors have
length 1, and the three words of the question are never the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cairn.core.errors import UserError
from cairn.core.stats import Score, wilson
from cairn.corpus.documents import Quarantine
from cairn.embeddings.similarity import RESTRICTED, first_rows, read_lines
from cairn.embeddings.vectors import Neighbour, WordVectors, top

METHODS = ("add", "mul")
SMALL = 1e-6  # against division by zero, as gensim has it; the paper says 0.001
SYNTACTIC = "gram"  # sections of questions-words.txt that begin so ask for forms of words, the others for facts
QUESTIONS, COLUMNS = 512, 512  # of a block of scores: 1 MB, which stays in the cache


class Question(NamedTuple):
    a: str
    b: str
    c: str
    answer: str


@dataclass(frozen=True)
class AnalogyScore:
    """A section: `asked` questions, of which score.n have vectors for all four words; the score is over those."""

    section: str
    asked: int
    score: Score


def combine(to_a: np.ndarray, to_b: np.ndarray, to_c: np.ndarray, method: str) -> np.ndarray:
    """Scores of words, from their cosines with the three words of the question. Changes and returns `to_b`."""
    if method == "add":
        to_b += to_c
        to_b -= to_a
        return to_b
    for cosines in (to_a, to_b, to_c):  # moved to [0, 1]: a product of negative ones would be positive
        cosines += 1
        cosines *= 0.5
    to_b *= to_c
    to_a += np.float32(SMALL)
    to_b /= to_a
    return to_b


def answers(vectors: WordVectors, a: str, b: str, c: str, n: int = 10, method: str = "add") -> list[Neighbour]:
    """The n best words d for "a is to b as c is to d", best first, with their scores.

    3CosAdd's score is the cosine with b - a + c. Raises UserError for a word without a vector.
    """
    _check(method)
    units = [vectors.vector(word) / (np.linalg.norm(vectors.vector(word)) or 1.0) for word in (a, b, c)]
    if method == "add":
        return vectors.nearest(units[1] - units[0] + units[2], n, (a, b, c))
    to_a, to_b, to_c = ((vectors.matrix_VD @ unit / vectors.lengths).astype(np.float32) for unit in units)
    scores_V = combine(to_a, to_b, to_c, method)
    scores_V[[vectors.index[word] for word in (a, b, c) if word in vectors.index]] = -np.inf
    best = [i for i in top(scores_V, n) if scores_V[i] != -np.inf]
    return [Neighbour(vectors.words[i], float(scores_V[i])) for i in best]


def read_questions(path: Path | str, quarantine: Quarantine) -> dict[str, list[Question]]:
    """Section -> questions, of a file in the form of questions-words.txt: ": section", then four words a line.

    Lines of another form are counted in `quarantine`. Raises UserError if no question is left.
    """
    path = Path(path)
    sections: dict[str, list[Question]] = {}
    section = "questions"
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if line.startswith(":"):
            section = line.lstrip(": ").strip()
        elif len(words) == 4:
            sections.setdefault(section, []).append(Question(*words))
        elif words and not line.startswith(("#", "//")):
            quarantine.add(f"{path}, line {number}", "not four words")
    if not sections:
        raise UserError(f"{path} holds no questions: a line must be four words, as in 'Athens Greece Oslo Norway'")
    return sections


def evaluate(
    vectors: WordVectors,
    sections: dict[str, list[Question]],
    method: str = "add",
    *,
    restrict: int = RESTRICTED,
    fold: bool = True,
) -> list[AnalogyScore]:
    """The share of right answers by section, then of all facts, all forms of words (where there are both) and all.

    Only the first `restrict` words are known and can be answers; with fold capitals are not told apart. Questions with an
    unknown word are left out and show in `asked`. The same as gensim's `evaluate_word_analogies`, whose defaults are ours.
    """
    _check(method)
    rows = first_rows(vectors.words, restrict, fold)
    known: list[tuple[int, ...]] = []
    owners: list[str] = []
    for section, questions in sections.items():
        for question in questions:
            places = [rows.get(word.upper() if fold else word) for word in question]
            if None not in places:
                known.append(tuple(place for place in places if place is not None))
                owners.append(section)
    known_Q4 = np.array(known, np.int64).reshape(-1, 4)
    first_V = np.array([rows[word.upper() if fold else word] for word in vectors.words[:restrict]], np.int64)
    right_Q = first_V[_best(vectors, known_Q4[:, :3], first_V, method)] == known_Q4[:, 3]
    chance = 1 / max(len(first_V) - 3, 1)
    found: list[AnalogyScore] = []

    def add(name: str, parts: Sequence[str]) -> None:
        mine = np.isin(np.array(owners, dtype=object), np.array(parts, dtype=object))
        asked = sum(len(sections[part]) for part in parts)
        found.append(AnalogyScore(name, asked, wilson(int(right_Q[mine].sum()), int(mine.sum()), chance)))

    for section in sections:
        add(section, [section])
    forms = [section for section in sections if section.startswith(SYNTACTIC)]
    facts = [section for section in sections if section not in forms]
    if forms and facts:
        add("all facts", facts)
        add("all forms of words", forms)
    add("all", list(sections))
    return found


def _best(vectors: WordVectors, questions_Q3: np.ndarray, first_V: np.ndarray, method: str) -> np.ndarray:
    """Row of the best answer to each question (rows a, b, c), among the first len(first_V) rows.

    first_V[v]: the first row that is the same word but for capitals; none of those of a question's words is its answer.
    Cosines with the words of some questions are computed once for many rows, and all scores are sums or products of them.
    """
    unit_VD = vectors.normalized[: len(first_V)]
    spellings = _spellings(first_V)
    best_Q = np.zeros(len(questions_Q3), np.int64)
    for start in range(0, len(questions_Q3), QUESTIONS):
        block_Q3 = questions_Q3[start : start + QUESTIONS]
        asked_U, places = np.unique(block_Q3, return_inverse=True)
        a, b, c = places.reshape(-1, 3).T
        barred = [
            (q, v) for q, row in enumerate(block_Q3) for word in row for v in spellings.get(int(word), (int(word),))
        ]
        barred_q, barred_v = np.array(barred, np.int64).T
        scores_Q = np.full(len(block_Q3), -np.inf, np.float32)
        for left in range(0, len(unit_VD), COLUMNS):
            cosines_UC = unit_VD[asked_U] @ unit_VD[left : left + COLUMNS].T
            scores_QC = combine(cosines_UC[a], cosines_UC[b], cosines_UC[c], method)
            here = (barred_v >= left) & (barred_v < left + COLUMNS)
            scores_QC[barred_q[here], barred_v[here] - left] = -np.inf
            places_Q = scores_QC.argmax(axis=1)
            found_Q = scores_QC[np.arange(len(places_Q)), places_Q]
            better = found_Q > scores_Q
            scores_Q[better] = found_Q[better]
            best_Q[start : start + QUESTIONS][better] = left + places_Q[better]
    return best_Q


def _spellings(first_V: np.ndarray) -> dict[int, list[int]]:
    """First row -> all rows of the same word, for words that there are several spellings of."""
    spellings: dict[int, list[int]] = {}
    for row in np.flatnonzero(first_V != np.arange(len(first_V))):
        spellings.setdefault(int(first_V[row]), [int(first_V[row])]).append(int(row))
    return spellings


def _check(method: str) -> None:
    if method not in METHODS:
        raise UserError(f"unknown way {method!r} to answer analogies; known: {', '.join(METHODS)}")
