"""Who holds which page of the cache, and which pages hold a beginning that another request may use again."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.models import PAGE


@dataclass(frozen=True)
class _Known:
    """A full page whose content is known: the tokens of its positions, and the hash of them and all before."""

    digest: bytes
    tokens: tuple[int, ...]


class PagePool:
    """Counts the holders of each page. Full pages are remembered by their content after the last holder let go, and are
    given away again only when no empty page is left, the least recently used first.

    Content is found by a chain of hashes, each over a page's tokens and the hash before it, keyed with a secret of the
    process: nobody can make two beginnings that collide and so read another's cache. What is found is compared token by
    token all the same.
    """

    def __init__(self, pages: int):
        self.size = pages
        self._empty = list(range(pages - 1, -1, -1))
        self._holders = [0] * pages
        self._idle: OrderedDict[int, None] = (
            OrderedDict()
        )  # known pages that nobody holds, in the order of their last use
        self._by_digest: dict[bytes, int] = {}
        self._known: dict[int, _Known] = {}
        self._key = os.urandom(32)
        self.generation = 0  # of the model whose keys and values the pages hold

    @property
    def free(self) -> int:
        """Pages that can be taken: empty ones, and known ones that nobody holds."""
        return len(self._empty) + len(self._idle)

    def take(self) -> int:
        """A page of one's own, content undefined. Look at `free` before."""
        if self._empty:
            page = self._empty.pop()
        else:
            page, _ = self._idle.popitem(last=False)
            self._forget_page(page)
        self._holders[page] = 1
        return page

    def share(self, page: int) -> int:
        """One more holder of a page."""
        if self._holders[page] == 0:
            del self._idle[page]
        self._holders[page] += 1
        return page

    def release(self, page: int) -> None:
        """One holder less."""
        self._holders[page] -= 1
        assert self._holders[page] >= 0
        if self._holders[page] == 0:
            if page in self._known:
                self._idle[page] = None
            else:
                self._empty.append(page)

    def alone(self, page: int) -> bool:
        """Is there one holder only, who may write?"""
        return self._holders[page] == 1

    def find(self, ids: Sequence[int]) -> list[int]:
        """Pages, now shared, that hold the longest known beginning of `ids` in whole pages, short of its last token (whose
        logits are wanted)."""
        pages, digest = [], b""
        for start in range(0, (len(ids) - 1) // PAGE * PAGE, PAGE):
            tokens = tuple(ids[start : start + PAGE])
            digest = self._digest(digest, tokens)
            page = self._by_digest.get(digest)
            if page is None or self._known[page].tokens != tokens:
                break
            pages.append(self.share(page))
        return pages

    def remember(self, ids: Sequence[int], pages: Sequence[int], filled: int) -> None:
        """The first `filled` tokens of `ids` stand in `pages`: others may use them from now on."""
        last = filled // PAGE - 1
        if last < 0 or pages[last] in self._known:
            return
        first = last
        while first > 0 and pages[first - 1] not in self._known:
            first -= 1
        digest = self._known[pages[first - 1]].digest if first else b""
        for i in range(first, last + 1):
            tokens = tuple(ids[i * PAGE : (i + 1) * PAGE])
            digest = self._digest(digest, tokens)
            if digest not in self._by_digest:
                self._by_digest[digest] = pages[i]
            self._known[pages[i]] = _Known(digest, tokens)

    def forget(self) -> None:
        """No content is known any more: the model that made it has changed."""
        self.generation += 1
        self._by_digest.clear()
        self._known.clear()
        self._empty += self._idle
        self._idle.clear()

    def _digest(self, before: bytes, tokens: tuple[int, ...]) -> bytes:
        return hashlib.blake2b(before + np.array(tokens, np.int64).tobytes(), key=self._key, digest_size=16).digest()

    def _forget_page(self, page: int) -> None:
        known = self._known.pop(page)
        if self._by_digest.get(known.digest) == page:
            del self._by_digest[known.digest]
