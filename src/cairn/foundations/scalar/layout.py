"""Where the nodes of a graph go on paper: a layered layout (Sugiyama, Tagawa and Toda 1981), in four steps.

1. *Columns*: a node stands to the right of all its inputs; one without inputs, just left of the first that uses it.
2. *Bends*: an edge over several columns passes through a vertex of its own in each between, so that edges join
   neighbouring columns only. Edges that leave the same node share their bends and part as late as possible.
3. *Order*: within a column, vertices are sorted by the mean position of their neighbours in the next column, back and
   forth; of all orders seen, the one with the fewest crossings stays.
4. *Heights*: each vertex wants to lie at the mean height of its neighbours, but keeps its distance to the one above.
   The nearest such heights in the sense of least squares are found exactly (`spaced`).

>>> layout = layered([[], [], [0, 1], [0, 2]])  # node 3 is made of 0 and 2, node 2 of 0 and 1
>>> layout.columns  # vertex 4 is the bend of the edge from 0 to 3
[[0, 1], [4, 2], [3]]
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SWEEPS = 12  # of either kind; graphs of some hundred nodes settle after a few
BEND = 0.5  # height of a bend, where that of a node is 1


class Segment(NamedTuple):
    start: int  # vertex
    end: int  # vertex in the next column
    port: float  # where it meets a node: 0 at the top, 1 at the bottom; 0.5 for a bend
    slot: int  # which input of the end it is; -1 when the end is a bend


class Layout(NamedTuple):
    columns: list[list[int]]  # vertices from top to bottom; from the number of nodes on they are bends
    segments: list[Segment]
    heights: list[float]  # of each vertex's middle, downwards from 0, in heights of a node


def layered(inputs: Sequence[Sequence[int]]) -> Layout:
    """Places nodes 0 .. len(inputs) - 1, of which each comes after its inputs."""
    columns, segments = _with_bends(inputs, _column_of(inputs))
    columns = _ordered(columns, segments)
    return Layout(columns, segments, _heights(columns, segments, len(inputs)))


def _column_of(inputs: Sequence[Sequence[int]]) -> list[int]:
    column = [0] * len(inputs)
    for node, sources in enumerate(inputs):
        column[node] = 1 + max((column[source] for source in sources), default=-1)
    first_use = [len(inputs)] * len(inputs)
    for node, sources in enumerate(inputs):
        for source in sources:
            first_use[source] = min(first_use[source], column[node])
    return [
        place if sources or use == len(inputs) else use - 1 for sources, use, place in zip(inputs, first_use, column)
    ]


def _with_bends(inputs: Sequence[Sequence[int]], column: list[int]) -> tuple[list[list[int]], list[Segment]]:
    columns: list[list[int]] = [[] for _ in range(max(column) + 1)]
    for node, place in enumerate(column):
        columns[place].append(node)
    segments: list[Segment] = []
    bends: dict[tuple[int, int], int] = {}  # (node that the edge leaves, column) -> vertex
    count = len(inputs)
    for node, sources in enumerate(inputs):
        for slot, source in enumerate(sources):
            last = source
            for place in range(column[source] + 1, column[node]):
                if (source, place) not in bends:
                    bends[source, place] = count
                    columns[place].append(count)
                    segments.append(Segment(last, count, 0.5, -1))
                    count += 1
                last = bends[source, place]
            segments.append(Segment(last, node, (slot + 1) / (len(sources) + 1), slot))
    return columns, segments


def _ordered(columns: list[list[int]], segments: list[Segment]) -> list[list[int]]:
    before: dict[int, list[Segment]] = {v: [] for column in columns for v in column}
    after: dict[int, list[Segment]] = {v: [] for column in columns for v in column}
    for segment in segments:
        before[segment.end].append(segment)
        after[segment.start].append(segment)
    best, fewest = columns, _crossings(columns, after)
    columns = [list(column) for column in columns]
    for sweep in range(2 * SWEEPS):
        if sweep % 2 == 0:  # from the result back
            for place in range(len(columns) - 2, -1, -1):
                at = {vertex: i for i, vertex in enumerate(columns[place + 1])}
                wanted = {v: [at[s.end] + s.port for s in after[v]] for v in columns[place]}
                columns[place] = _resorted(columns[place], wanted)
        else:  # from the inputs on
            for place in range(1, len(columns)):
                at = {vertex: i for i, vertex in enumerate(columns[place - 1])}
                wanted = {v: [float(at[s.start]) for s in before[v]] for v in columns[place]}
                columns[place] = _resorted(columns[place], wanted)
        if (crossings := _crossings(columns, after)) < fewest:
            best, fewest = [list(column) for column in columns], crossings
    return best


def _resorted(column: list[int], wanted: dict[int, list[float]]) -> list[int]:
    """By the mean of the wanted positions; what has no neighbour stays about where it was."""
    here = {vertex: float(i) for i, vertex in enumerate(column)}
    return sorted(column, key=lambda vertex: _mean(wanted[vertex] or [here[vertex]]))


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _crossings(columns: list[list[int]], after: dict[int, list[Segment]]) -> int:
    """Pairs of segments that start in one order and end in the other."""
    total = 0
    for column, following in pairwise(columns):
        at = {vertex: i for i, vertex in enumerate(following)}
        ends: list[float] = []  # of the segments that start further up, sorted
        for vertex in column:
            mine = [at[segment.end] + segment.port for segment in after[vertex]]
            total += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
    return total


def _heights(columns: list[list[int]], segments: list[Segment], nodes: int) -> list[float]:
    vertices = sum(map(len, columns))
    size = [1.0 if vertex < nodes else BEND for vertex in range(vertices)]
    before: list[list[tuple[int, float]]] = [[] for _ in range(vertices)]  # neighbour, and what its port adds
    after: list[list[tuple[int, float]]] = [[] for _ in range(vertices)]
    for segment in segments:
        offset = (segment.port - 0.5) * size[segment.end]
        before[segment.end].append((segment.start, -offset))
        after[segment.start].append((segment.end, offset))
    height = [0.0] * vertices
    for column in columns:
        for above, vertex in pairwise(column):
            height[vertex] = height[above] + (size[above] + size[vertex]) / 2
    for _ in range(SWEEPS):
        for neighbours, sweep in ((after, columns[-2::-1]), (before, columns[1:])):
            for column in sweep:
                wanted = [_mean([height[n] + offset for n, offset in neighbours[v]] or [height[v]]) for v in column]
                for vertex, found in zip(column, spaced(wanted, [size[v] for v in column])):
                    height[vertex] = found
    top = min(h - s / 2 for h, s in zip(height, size))
    return [h - top for h in height]


def spaced(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The heights nearest to the wanted ones (least squares) at which things of these sizes do not overlap.

    With the room that the things above take subtracted, heights only have to be in rising order, and the nearest rising
    numbers come from pooling adjacent violators: wherever two neighbours are out of order, both take their mean.

    >>> spaced([0.0, 0.0, 5.0], [1.0, 1.0, 1.0])
    [-0.5, 0.5, 5.0]
    """
    room = [0.0]
    for above, below in pairwise(sizes):
        room.append(room[-1] + (above + below) / 2)
    pools: list[tuple[float, int]] = []  # (sum, count) of each run that shares one height
    for want, shift in zip(wanted, room):
        total, count = want - shift, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    levels = [total / count for total, count in pools for _ in range(count)]
    return [level + shift for level, shift in zip(levels, room)]
