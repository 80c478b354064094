"""The unigram training's sums by their definitions: every substring, every segmentation. Exponential; for tests and readers.

The kernels in `cairn.kernels.suffix` and `cairn.kernels.lattice` find the same numbers without listing anything.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping


def seeds(fragments: Mapping[str, int], longest: int) -> dict[str, int]:
    """Substrings of 2 to `longest` characters and how often they occur, where that is at least twice, and without those
    that the same character always follows: the longer one says it all."""
    counts: Counter[str] = Counter()
    after: defaultdict[str, set[str]] = defaultdict(set)
    for fragment, count in fragments.items():
        for start in range(len(fragment)):
            for end in range(start + 2, min(start + longest, len(fragment)) + 1):
                counts[fragment[start:end]] += count
                after[fragment[start:end]].add(fragment[end : end + 1])
    return {s: n for s, n in counts.items() if n >= 2 and (len(after[s]) > 1 or after[s] == {""})}


def segmentations(text: str, pieces: Mapping[str, float]) -> Iterator[list[str]]:
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in pieces:
            for rest in segmentations(text[end:], pieces):
                yield [text[:end], *rest]


def score(path: list[str], pieces: Mapping[str, float]) -> float:
    return math.fsum(pieces[piece] for piece in path)


def expect(fragments: Mapping[str, int], pieces: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """How often each piece occurs over all segmentations, each weighted by its probability; and the log likelihood."""
    expected = dict.fromkeys(pieces, 0.0)
    likelihood = 0.0
    for fragment, count in fragments.items():
        paths = list(segmentations(fragment, pieces))
        weights = [math.exp(score(path, pieces)) for path in paths]
        likelihood += count * math.log(math.fsum(weights))
        for path, weight in zip(paths, weights):
            for piece in path:
                expected[piece] += count * weight / math.fsum(weights)
    return expected, likelihood


def count_best(fragments: Mapping[str, int], pieces: Mapping[str, float]) -> dict[str, int]:
    """How often each piece occurs in the best segmentations."""
    found = dict.fromkeys(pieces, 0)
    for fragment, count in fragments.items():
        for piece in max(segmentations(fragment, pieces), key=lambda path: score(path, pieces)):
            found[piece] += count
    return found


def loss(piece: str, pieces: Mapping[str, float], found: Mapping[str, int]) -> float:
    """How much likelihood goes with a piece of two characters or more, when its best other segmentation takes its place.

    `found`: from `count_best`. Minus infinity when the piece is on no best path.
    """
    total = sum(found.values())
    others = [path for path in segmentations(piece, pieces) if path != [piece]]
    other = max(others, key=lambda path: score(path, pieces))
    if found[piece] == 0 or score(other, pieces) > pieces[piece]:
        return -math.inf
    now = math.log(found[piece] / total)
    grown = total + found[piece] * (len(other) - 1)
    then = sum(math.log((found[part] + found[piece]) / grown) for part in other)
    return found[piece] / total * (now - then)
