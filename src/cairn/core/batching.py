"""Streams of texts in batches, worked on by threads, in flat memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BATCH_CHARACTERS = 1 << 20


def batches(texts: Iterable[str], characters: int | None = None) -> Iterator[list[str]]:
    """Texts in lists of about so many characters (default: `BATCH_CHARACTERS`), read only when asked for.

    >>> list(batches(["ab", "cd", "e"], 3))
    [['ab', 'cd'], ['e']]
    """
    characters = BATCH_CHARACTERS if characters is None else characters
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """work(item) for each item, in order, `threads` at a time. Only a few items are read ahead: memory stays flat."""
    if threads <= 1:
        yield from map(work, items)
        return
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(work, item) for item in itertools.islice(source, 2 * threads)]
        while pending:
            result = pending.pop(0).result()
            pending += [pool.submit(work, item) for item in itertools.islice(source, 1)]
            yield result
