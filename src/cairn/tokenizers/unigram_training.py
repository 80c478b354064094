"""Training a unigram model (Kudo 2018, as in SentencePiece): from far too many pieces down to the best few.

1. Seeds: every repeated substring of a fragment (`fragments.py`), the million with the most characters covered, and all
   characters. 2. EM: expected counts over all segmentations, then log probabilities by digamma, which favours few pieces
   (a Dirichlet prior); pieces expected less than half a time go. 3. Pruning: the pieces whose loss hurts least go, a quarter
   at a time. 2 and 3 repeat until a tenth more than wanted is left; the most probable of these are the vocabulary.

A lattice never changes but for the pieces that go, so all are laid out once, from the sorted suffixes: no trie is built and
no text is read again. Sums are made in a fixed number of parts, whatever the number of threads, so a run can be repeated.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.tokenizers.fragments import Fragments, count_fragments, required_characters
from cairn.tokenizers.modelfile import Piece, PieceType, byte_piece
from cairn.tokenizers.normalize import SPACE, SentencePieceNormalizer, nmt_nfkc_rules
from cairn.tokenizers.unigram import Unigram

PARTS = 8  # of every sum, each on a thread of its own when there are as many
PENALTY = 1e-4  # between characters that no sum found, so that no two have the same score


@dataclass(frozen=True)
class UnigramConfig:
    vocab_size: int = option(8000, "pieces, special tokens and bytes included", minimum=4)
    coverage: float = option(0.9995, "share of the text's characters that get a piece", minimum=0.9)
    byte_fallback: bool = option(True, "spell characters without a piece in bytes instead of <unk>")
    longest: int = option(16, "characters of a piece at most", minimum=1)
    seeds: int = option(1_000_000, "substrings to start from", minimum=1)
    iterations: int = option(2, "EM steps between two prunings", minimum=1)
    keep: float = option(0.75, "share of the pieces that a pruning keeps", minimum=0.1)
    threads: int = option(1, "threads of the training", minimum=1)


def first_pieces(byte_fallback: bool, control: Sequence[str] = ("<s>", "</s>")) -> list[Piece]:
    """What every vocabulary starts with: <unk>, the control tokens, and the bytes."""
    pieces = [Piece("<unk>", 0.0, PieceType.UNKNOWN), *(Piece(name, 0.0, PieceType.CONTROL) for name in control)]
    return pieces + [Piece(byte_piece(b), 0.0, PieceType.BYTE) for b in range(256 if byte_fallback else 0)]


def required_or_refuse(fragments: Fragments, coverage: float, vocab_size: int, first: int) -> dict[str, int]:
    required = required_characters(fragments.characters, coverage)
    if first + len(required) > vocab_size:
        raise UserError(
            f"a vocabulary of {vocab_size} is too small: {len(required)} characters and {first} special tokens and bytes "
            f"need room; take at least {first + len(required)}, or a lower coverage"
        )
    return required


def train_unigram(
    texts: Iterable[str],
    vocab_size: int,
    *,
    config: UnigramConfig | None = None,
    normalizer: SentencePieceNormalizer | None = None,
) -> Unigram:
    """Learn a unigram model with exactly `vocab_size` pieces (whatever size `config` names). Texts stream by; only their
    distinct fragments are kept.

    Raises UserError when the characters do not fit, or when the text does not hold as many pieces.
    """
    config = dataclasses.replace(config or UnigramConfig(), vocab_size=vocab_size)
    normalizer = normalizer or SentencePieceNormalizer(nmt_nfkc_rules())
    first = first_pieces(config.byte_fallback)
    fragments = count_fragments(texts, normalizer, [piece.text for piece in first])
    required = required_or_refuse(fragments, config.coverage, vocab_size, len(first))
    room = vocab_size - len(first)
    training = Training(fragments, sorted(required), config)
    wanted = int(vocab_size * 1.1)
    while True:
        for _ in range(config.iterations):
            training.step()
        if training.alive <= wanted:
            break
        training.prune(wanted)
    scores = finish(training.texts(), training.scores, training.dropped, required, room)
    if len(scores) < room:
        most = len(first) + len(scores)
        raise UserError(f"the text holds only {most} pieces; ask for a vocabulary of at most {most}, or give more text")
    ordinary = [Piece(text.replace(" ", SPACE), float(np.float32(score))) for text, score in scores]
    return Unigram(first + ordinary, normalizer, byte_fallback=config.byte_fallback)


def finish(
    texts: list[str], scores: np.ndarray, dropped: np.ndarray, required: dict[str, int], room: int
) -> list[tuple[str, float]]:
    """The required characters and then the most probable pieces, sorted by score; ties by text."""
    known = {text: float(score) for text, score, gone in zip(texts, scores, dropped) if not gone}
    lowest = min(known.values(), default=0.0)
    final: dict[str, float] = {}
    missing = 0
    for char in sorted(required, key=lambda c: (-required[c], c)):
        if char in known:
            final[char] = known[char]
        else:
            final[char] = lowest + PENALTY * missing
            missing += 1
    for text, score in sorted(known.items(), key=lambda item: (-item[1], item[0])):
        if len(final) == room:
            break
        final.setdefault(text, score)
    return sorted(final.items(), key=lambda item: (-item[1], item[0]))


class Training:
    """The pieces that are left, their scores, and the lattices of all runs (`kernels/lattice.py`).

    The first len(alphabet) pieces are the characters. They stay, so that every run has a path; one that EM gives up
    (`dropped`) counts as an unknown character.
    """

    def __init__(self, fragments: Fragments, alphabet: list[str], config: UnigramConfig):
        from cairn.kernels import lattice, suffix

        self.kernels = lattice
        self.config = config
        self.alphabet = alphabet
        self.codes, counts = lay_out(fragments, alphabet)
        self.runs = _runs(self.codes, counts)
        order = suffix.suffix_order(self.codes, config.longest + 1)
        lcp = suffix.common_prefixes(self.codes, order, config.longest + 1)
        rows = suffix.repeats(self.codes, order, lcp, counts, config.longest)
        rows = best_seeds(rows, config.seeds)
        self.starts, self.pieces, self.lengths = suffix.lay_edges(self.codes, order, rows)
        self.sizes = np.concatenate([np.ones(len(alphabet), np.int64), rows[:, 2]])
        self.places = np.concatenate([_first_places(self.codes, len(alphabet)), order[rows[:, 0]]])
        weights = np.bincount(self.codes, counts, len(alphabet) + 1)[
            1:
        ]  # of characters: their count; of others: times size
        weights = np.concatenate([weights, rows[:, 3] * rows[:, 2]])
        self.scores = np.log(weights) - math.log(weights.sum())
        self.dropped: np.ndarray = np.zeros(len(self.scores), bool)
        self.likelihood = -math.inf

    @property
    def alive(self) -> int:
        return len(self.scores) - int(self.dropped.sum())

    def _in_parts(self, size: int, work: Any) -> list[Any]:
        """work(low, high) for PARTS stretches of range(size), in order."""
        edges = [size * part // PARTS for part in range(PARTS + 1)]
        with ThreadPoolExecutor(self.config.threads) as pool:
            return list(pool.map(work, edges[:-1], edges[1:]))

    def step(self) -> None:
        """One step of EM. Pieces other than characters that are expected less than half a time go."""
        probabilities = np.exp(self.scores)

        def work(low: int, high: int) -> tuple[np.ndarray, float]:
            expected = np.zeros(len(self.scores))
            lattices = (self.starts, self.pieces, self.lengths)
            return expected, self.kernels.expect(self.runs, low, high, *lattices, self.scores, probabilities, expected)

        parts = self._in_parts(len(self.runs), work)
        expected = np.sum([part[0] for part in parts], axis=0)
        self.likelihood = sum(part[1] for part in parts)
        rare = np.less(expected, 0.5)
        self.scores = digamma(np.maximum(expected, 0.5)) - digamma(np.array([expected[~rare].sum()]))
        self.dropped = rare
        self.scores[rare] = self.scores[~rare].min() - 10.0
        self._keep(~rare)

    def prune(self, wanted: int) -> None:
        """Drop the pieces that are missed least, down to a share of what is left or to `wanted`."""

        def count(low: int, high: int) -> np.ndarray:
            found = np.zeros(len(self.scores))
            self.kernels.count_best(self.runs, low, high, self.starts, self.pieces, self.lengths, self.scores, found)
            return found

        found = np.sum(self._in_parts(len(self.runs), count), axis=0)
        loss = np.empty(len(self.scores))

        def weigh(low: int, high: int) -> None:
            lattices = (self.starts, self.pieces, self.lengths)
            self.kernels.losses(low, high, self.places, self.sizes, *lattices, self.scores, found, loss)

        self._in_parts(len(loss), weigh)
        size = max(wanted, int(self.config.keep * self.alive))
        best = np.lexsort((np.arange(len(loss)), -loss))[:size]
        keep = np.zeros(len(loss), bool)
        keep[best] = loss[best] > -np.inf
        self._keep(keep)

    def _keep(self, keep: np.ndarray) -> None:
        """Go on with these pieces and all characters."""
        self.dropped |= ~keep
        keep = keep.copy()
        keep[: len(self.alphabet)] = True
        if not keep.all():
            new = np.where(keep, np.cumsum(keep) - 1, -1)
            self.starts, self.pieces, self.lengths = self.kernels.compact(self.starts, self.pieces, self.lengths, new)
            self.sizes, self.places = self.sizes[keep], self.places[keep]
            self.scores, self.dropped = self.scores[keep], self.dropped[keep]

    def texts(self) -> list[str]:
        letters = np.array(["", *self.alphabet], object)
        return ["".join(letters[self.codes[p : p + n]]) for p, n in zip(self.places, self.sizes)]


def lay_out(fragments: Fragments, alphabet: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Fragments as codes (1 for the first letter of the alphabet, ...), 0 after each one and for every other character; and
    for each code how often its fragment occurs."""
    code_of = np.zeros(0x110000, np.int32)
    code_of[[ord(char) for char in alphabet]] = np.arange(1, len(alphabet) + 1)
    sizes = np.diff(fragments.offsets)
    places = np.arange(len(fragments.points)) + np.repeat(np.arange(len(sizes)), sizes)
    codes = np.zeros(len(fragments.points) + len(sizes), np.int32)
    codes[places] = code_of[fragments.points]
    return codes, np.repeat(fragments.counts, sizes + 1)


def _runs(codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rows (begin, end, count) of the stretches without 0."""
    inside = np.concatenate([[0], codes != 0, [0]]).astype(np.int8)
    change = np.diff(inside)
    begin, end = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return np.stack([begin, end, counts[begin]], axis=1).astype(np.int64)


def _first_places(codes: np.ndarray, alphabet: int) -> np.ndarray:
    found, places = np.unique(codes, return_index=True)
    first = np.zeros(alphabet + 1, np.int64)
    first[found] = places
    return first[1:]


def best_seeds(rows: np.ndarray, most: int) -> np.ndarray:
    """The rows that cover the most characters, sorted by their length (as the lattices want them)."""
    covered = rows[:, 2] * rows[:, 3]
    best = np.lexsort((rows[:, 0], rows[:, 2], -covered))[:most]
    rows = rows[best]
    return rows[np.lexsort((rows[:, 0], rows[:, 2]))]


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log gamma: up to 7 by the recurrence psi(x) = psi(x + 1) - 1/x, from there by its series.

    >>> bool(abs(digamma(np.array([1.0]))[0] + 0.5772156649) < 1e-9)  # minus Euler's constant
    True
    """
    x = np.asarray(x, float)
    result = np.zeros_like(x)
    for _ in range(7):
        small = x < 7
        result -= np.where(small, 1 / x, 0)
        x = np.where(small, x + 1, x)
    y = 1 / (x - 0.5) ** 2
    return result + np.log(x - 0.5) + y / 24 - 7 * y**2 / 960 + 31 * y**3 / 8064 - 127 * y**4 / 30720
