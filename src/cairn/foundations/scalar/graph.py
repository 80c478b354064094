"""The graph of a value as a picture: every node with its operation, value and gradient, every edge with its arrow.

Inputs stand at the left, the result at the right. An edge carries, where the pointer rests on it, the local derivative
that `backward` multiplies by: a node's gradient is the sum over its outgoing edges of that times the gradient at their end.

>>> a, b = Value(2.0), Value(-3.0)
>>> out = (a * b).tanh()
>>> out.backward()
>>> picture = svg(out, {"a": a, "b": b})
>>> picture.count("<rect"), picture.count("<marker"), picture.count("marker-end")
(4, 1, 3)
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from cairn.foundations.scalar.layout import Layout, Segment, layered
from cairn.foundations.scalar.value import Value, topological_order

MAX_NODES = 200  # more than a person wants to read
WIDTH, HEIGHT = 112, 48  # of a box, in pixels
ACROSS, DOWN = 176, 62  # from box to box
MARGIN = 16
NAME_LENGTH = 15  # characters that fit into a box
FILLS = {"input": "#eef3e6", "operation": "#f4f4f6", "result": "#fdeedd"}
INK, EDGE = "#222", "#8a8f98"


def draw(output: Value, path: Path, names: Mapping[str, Value] | None = None) -> Path:
    """Write `svg(output, names)` to a file and give its path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(output, names), encoding="utf-8")
    return path


def svg(output: Value, names: Mapping[str, Value] | None = None) -> str:
    """An SVG document of everything that `output` was made from.

    names: what to call some of the values; those that are no part of the graph are left out.
    ValueError: more than MAX_NODES nodes.
    """
    nodes = _all_nodes(output)
    if len(nodes) > MAX_NODES:
        raise ValueError(
            f"the graph has {len(nodes):,} nodes, and a picture holds {MAX_NODES}: draw a smaller expression, "
            "for instance one neuron or the loss of one example"
        )
    index = {node: i for i, node in enumerate(nodes)}
    layout = layered([[index[source] for source in _inputs(node)] for node in nodes])
    called: dict[Value, str] = {}
    for name, value in (names or {}).items():
        called[value] = f"{called[value]}, {name}" if value in called else name
    place = _places(layout)
    width = 2 * MARGIN + (len(layout.columns) - 1) * ACROSS + WIDTH
    height = max(y for _, y in place.values()) + HEIGHT / 2 + MARGIN
    lines = [_edge(segment, nodes, place) for segment in layout.segments]
    # The line through a bend's own column; the segments on both sides end at its edges.
    lines += [f'<path class="edge" d="M{x:g},{y:g} h{WIDTH}"/>' for v, (x, y) in place.items() if v >= len(nodes)]
    boxes = [_box(node, called.get(node, ""), node is output, *place[i]) for i, node in enumerate(nodes)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="11" style="background: white">',
            "<style>.edge { fill: none; stroke: " + EDGE + "; stroke-width: 1.2 }</style>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{EDGE}"/></marker></defs>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _inputs(node: Value) -> list[Value]:
    return [source for source in (node.left, node.right) if source is not None]


def _all_nodes(output: Value) -> list[Value]:
    """Leaves, in the order of their first use, then the operations in topological order."""
    operations = topological_order(output)
    leaves = dict.fromkeys(source for node in operations for source in _inputs(node) if source.left is None)
    return [*leaves, *operations] or [output]


def _places(layout: Layout) -> dict[int, tuple[float, float]]:
    """Left edge and middle of each vertex, in pixels."""
    return {
        vertex: (MARGIN + column * ACROSS, MARGIN + HEIGHT / 2 + (layout.heights[vertex] - 0.5) * DOWN)
        for column, vertices in enumerate(layout.columns)
        for vertex in vertices
    }


def _edge(segment: Segment, nodes: list[Value], place: dict[int, tuple[float, float]]) -> str:
    """A curve from one column to the next; an arrow and the local derivative where it reaches its node."""
    (x1, y1), (x2, y2) = place[segment.start], place[segment.end]
    x1 += WIDTH
    y2 += (segment.port - 0.5) * HEIGHT
    bend = (x2 - x1) / 2
    curve = f'd="M{x1:g},{y1:g} C{x1 + bend:g},{y1:g} {x2 - bend:g},{y2:g} {x2:g},{y2:g}"'
    if segment.slot < 0:
        return f'<path class="edge" {curve}/>'
    end = nodes[segment.end]
    slope = end.left_slope if segment.slot == 0 else end.right_slope
    return (
        f'<path class="edge" marker-end="url(#arrow)" {curve}><title>local derivative {_number(slope)}</title></path>'
    )


def _box(node: Value, name: str, is_result: bool, x: float, y: float) -> str:
    kind = "result" if is_result else "operation" if node.left is not None else "input"
    label = " = ".join(part for part in (name, node.operation) if part) or "number"
    full = "".join(c if c.isprintable() else "\ufffd" for c in label)  # XML allows no control characters
    short = full if len(full) <= NAME_LENGTH else full[: NAME_LENGTH - 1] + "…"
    top, middle = y - HEIGHT / 2, x + WIDTH / 2
    return (
        f'<g text-anchor="middle" fill="{INK}"><title>{escape(full)}</title>'
        f'<rect x="{x:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILLS[kind]}" stroke="{EDGE}"/>'
        f'<text x="{middle:g}" y="{top + 14:g}" font-weight="bold">{escape(short)}</text>'
        f'<text x="{middle:g}" y="{top + 28:g}">value {_number(node.data)}</text>'
        f'<text x="{middle:g}" y="{top + 42:g}">grad {_number(node.grad)}</text></g>'
    )


def _number(x: float) -> str:
    return f"{x:.4g}"
