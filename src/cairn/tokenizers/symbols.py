"""Byte pair encoding over any symbols: what the training of WordPiece and of SentencePiece's BPE have in common.

As in `bpe.py`, the most frequent neighbouring pair is joined again and again; a merge recounts only the words that hold its
pair. The two differ in which pairs may be joined, in the order of equally frequent ones, and in what happens when a pair
makes a piece that is there already.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cairn.tokenizers.bpe import Pair, merge


def train_symbols(
    words: list[list[int]],
    counts: list[int],
    texts: list[str],
    size: int,
    *,
    join: Callable[[str, str], str | None],
    tie: Callable[[Pair, str], Any],
    reuse: bool,
) -> list[str]:
    """Joins pairs until there are `size` texts, or no pair is left. Returns the texts, given ones first.

    words: symbols, each the index of its text; counts: how often each word occurs. join: the text of two neighbours, None
    when they stay apart. tie: of equally frequent pairs the one with the smallest key goes first. reuse: a pair that makes a
    known text is joined to that symbol (Hugging Face); else it stays apart for good (SentencePiece).
    """
    texts = list(texts)
    known = {text: i for i, text in enumerate(texts)}
    total: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in itertools.pairwise(word):
            total[pair] += counts[index]
            where[pair].add(index)
    joined: dict[Pair, str | None] = {}
    heap: list[tuple[int, Any, Pair]] = []

    def offer(pair: Pair) -> None:
        if pair not in joined:
            joined[pair] = join(texts[pair[0]], texts[pair[1]])
        text = joined[pair]
        if text is not None and total[pair] > 0:
            heapq.heappush(heap, (-total[pair], tie(pair, text), pair))

    for pair in list(total):
        offer(pair)
    while len(texts) < size and heap:
        count, _, pair = heapq.heappop(heap)
        if total[pair] != -count:
            offer(pair)  # it has become rarer since it was offered
            continue
        text = joined[pair]
        assert text is not None  # only such pairs are offered
        if text in known and not reuse:
            joined[pair] = None
            continue
        new = known.setdefault(text, len(texts))
        if new == len(texts):
            texts.append(text)
        changed: set[Pair] = set()
        for index in where.pop(pair):
            word = words[index]
            merged = merge(word, pair, new)
            if len(merged) == len(word):
                continue  # the index remembers words that lost the pair to an earlier merge
            for old in itertools.pairwise(word):
                total[old] -= counts[index]
            for fresh in itertools.pairwise(merged):
                total[fresh] += counts[index]
                where[fresh].add(index)
                if new in fresh:
                    changed.add(fresh)
            words[index] = merged
        total.pop(pair, None)
        for fresh in changed:
            offer(fresh)
    return texts
