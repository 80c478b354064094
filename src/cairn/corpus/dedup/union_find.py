"""Pairs of duplicates to clusters, of which only the document with the smallest number stays."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.errors import UserError
from cairn.corpus.dedup.files import read_array, write_array


def plain_roots(documents: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """The smallest member of every document's cluster: what the compiled union-find is tested against.

    >>> plain_roots(6, [(4, 5), (1, 4), (2, 3)])
    [0, 1, 2, 2, 1, 1]
    """
    parents = list(range(documents))

    def find(x: int) -> int:
        while parents[x] != x:
            parents[x] = parents[parents[x]]
            x = parents[x]
        return x

    for a, b in edges:
        a, b = find(a), find(b)
        parents[max(a, b)] = min(a, b)
    return [find(x) for x in range(documents)]


def cluster(edge_files: Sequence[Path | str], documents: int, out: Path | str) -> int:
    """Write which documents go, int64[2, removed]: their numbers, ascending, and which one of the cluster stays.

    The order of the files does not matter. Memory: 8 bytes a document, and one file of edges. Returns the number removed.
    """
    from cairn.kernels.union_find import flatten, list_removed, unite

    parents = np.arange(documents, dtype=np.int64)
    for path in edge_files:
        edges = np.array(read_array(path, np.int64))
        if edges.size and (edges.min() < 0 or edges.max() >= documents):
            raise UserError(
                f"{path} names document {edges.max()}, but the corpus has {documents}; make the edges again"
            )
        unite(parents, edges.reshape(-1, 2))
    removed = np.empty((2, flatten(parents)), np.int64)
    list_removed(parents, removed)
    write_array(out, removed)
    return removed.shape[1]


def removed_in(path: Path | str, first: int, count: int) -> np.ndarray:
    """Places, in a shard of `count` documents whose first number is `first`, of the documents that go; ascending."""
    numbers = read_array(path, np.int64, 2)[0]
    return np.array(numbers[slice(*np.searchsorted(numbers, [first, first + count]))]) - first


def describe_clusters(path: Path | str, documents: int, samples: int = 20) -> dict[str, Any]:
    """What a report shows: counts, clusters by size ("2", "3-4", "5-8", ...), and pairs [kept, removed] to look at."""
    removed, kept = read_array(path, np.int64, 2)
    members = np.unique(kept, return_counts=True)[1] + 1
    sizes: dict[str, int] = {}
    if len(members):
        sizes["2"] = int((members == 2).sum())
        low = 3
        while low <= members.max():
            high = 2 * (low - 1)
            sizes[f"{low}-{high}"] = int(((members >= low) & (members <= high)).sum())
            low = high + 1
    shown = np.linspace(0, len(removed) - 1, min(samples, len(removed))).astype(np.int64)
    return {
        "documents": documents,
        "removed": len(removed),
        "clusters": len(members),
        "largest": int(members.max(initial=0)),
        "sizes": sizes,
        "pairs": np.stack([kept[shown], removed[shown]], axis=1).tolist(),
    }
