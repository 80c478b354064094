"""Union-find whose root is always the smallest member. Twin: `plain_roots` in `cairn.corpus.dedup.union_find`."""

from cairn.kernels.jit import kernel


@kernel
def _find(parents, x):
    """The root of x; on the way every second node is tied to its grandparent (path halving)."""
    while parents[x] != x:
        parents[x] = parents[parents[x]]
        x = parents[x]
    return x


@kernel
def unite(parents, edges):
    """Join the two ends of every edge (int64[n, 2]) in `parents` (int64, parents[x] = x at the start).

    The smaller root wins, so which member stands for a cluster does not depend on the order of the edges.
    """
    for i in range(len(edges)):
        x, y = _find(parents, edges[i, 0]), _find(parents, edges[i, 1])
        if x < y:
            parents[y] = x
        elif y < x:
            parents[x] = y


@kernel
def flatten(parents):
    """Tie every node to its root and count the others. A parent is never larger than its child: one pass is enough."""
    others = 0
    for x in range(len(parents)):
        parents[x] = parents[parents[x]]
        others += parents[x] != x
    return others


@kernel
def list_removed(roots, out):
    """out: int64[2, others]: every node that is not its own root, ascending, and its root."""
    count = 0
    for x in range(len(roots)):
        if roots[x] != x:
            out[0, count], out[1, count] = x, roots[x]
            count += 1
