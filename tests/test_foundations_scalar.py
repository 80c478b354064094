"""The engine on numbers: rules against finite differences, accumulation, deep graphs, pictures, two moons."""

import itertools
import math
import random
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.foundations.scalar import MLP, Value, accuracy, draw, svg, topological_order, train, two_moons, zero_grad
from cairn.foundations.scalar.demos import DEMOS
from cairn.foundations.scalar.graph import MAX_NODES
from cairn.foundations.scalar.layout import _crossings, layered, spaced
from cairn.foundations.scalar.moons import batch_loss

# --- values

EXPRESSIONS = {
    "+": lambda a, b: a + b + 1,
    "-": lambda a, b: 1 - a - b,
    "*": lambda a, b: 2 * a * b,
    "/": lambda a, b: 1 / (a / b),
    "**": lambda a, b: a**3 + a**b + 2**b + b**-0.5,
    "neg": lambda a, b: -a * b,
    "exp, log": lambda a, b: a.exp() + b.log(),
    "tanh, sigmoid": lambda a, b: a.tanh() * b.sigmoid(),
    "softplus, relu": lambda a, b: a.softplus() * (a - b).relu(),
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_gradients_are_the_slopes_that_one_measures(expression):
    h = 1e-6
    for a, b in ((1.7, 0.3), (0.4, 2.2), (3.0, 1.0)):
        x, y = Value(a), Value(b)
        expression(x, y).backward()

        def at(da, db, a=a, b=b):
            return expression(Value(a + da), Value(b + db)).data

        assert x.grad == pytest.approx((at(h, 0) - at(-h, 0)) / (2 * h), rel=1e-6, abs=1e-8)
        assert y.grad == pytest.approx((at(0, h) - at(0, -h)) / (2 * h), rel=1e-6, abs=1e-8)


def test_a_value_that_is_used_twice_gets_both_paths():
    a = Value(3.0)
    (a + a).backward()
    assert a.grad == 2.0
    a = Value(3.0)
    b = a * a
    (b * b + b).backward()  # a^4 + a^2
    assert a.grad == 4 * 27 + 2 * 3
    assert b.grad == 2 * 9 + 1


def test_repeated_calls_add_in_leaves_and_not_between():
    a = Value(2.0)
    b = a * a
    out = b * 3.0
    for call in (1, 2, 3):
        out.backward()
        assert a.grad == 12.0 * call
        assert (b.grad, out.grad) == (3.0, 1.0)
    zero_grad([a])
    out.backward()
    assert a.grad == 12.0


def test_a_leaf_is_its_own_gradient():
    a = Value(5.0)
    a.backward()
    a.backward()
    assert a.grad == 2.0


def test_a_graph_of_100_000_nodes_in_a_row():
    """No recursion: neither in backward nor in drawing's order, nor when Python frees the chain."""
    a = Value(1.0)
    out = a
    for _ in range(100_000):
        out = out + a
    assert len(topological_order(out)) == 100_000 > sys.getrecursionlimit()
    out.backward()
    assert a.grad == 100_001.0
    del out
    assert a.data == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=40))
def test_topological_order(choices):
    """Every operation once, after its inputs; gradients equal the sum over all paths, walked one by one."""
    made = [Value(0.5), Value(0.9)]
    for first, second in choices:
        made.append(made[first % len(made)] * made[second % len(made)])
    out = made[-1] + 0.0
    order = topological_order(out)
    assert len(set(order)) == len(order)
    place = {node: i for i, node in enumerate(order)}
    for node in order:
        for source in (node.left, node.right):
            assert source is not None
            assert source.left is None or place[source] < place[node]
    out.backward()
    slope = dict.fromkeys(made, 0.0) | {out: 1.0}
    for node in [out, *reversed(made)]:  # the order in which they were made is topological too
        for source, local in ((node.left, node.left_slope), (node.right, node.right_slope)):
            if source is not None:
                slope[source] = slope.get(source, 0.0) + local * slope[node]
    assert [a.grad for a in made[:2]] == pytest.approx([slope[a] for a in made[:2]])


def test_numbers_of_numpy_mix():
    a = Value(np.float32(2.0))
    for out in (np.float64(3.0) * a, a * np.float64(3.0), np.int64(3) * a):
        assert isinstance(out, Value)
        assert type(out.data) is float
        assert out.data == 6.0
    assert sum([a, a]).data == 4.0


def test_large_arguments_stay_finite():
    for x in (-1000.0, 1000.0):
        a = Value(x)
        out = a.sigmoid() + a.softplus() + a.tanh()
        out.backward()
        assert out.data == (-1.0 if x < 0 else 1002.0)
        assert a.grad == (0.0 if x < 0 else 1.0)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (lambda: Value(-1.0).log(), r"log\(-1.0\) is not a real number"),
        (lambda: Value(0.0).log(), "must be above 0"),
        (lambda: Value(1.0) / 0, "divided by 0"),
        (lambda: 1 / Value(0.0), "divided by 0"),
        (lambda: Value(0.0) ** -1, "keep the base away from 0"),
        (lambda: Value(-8.0) ** (1 / 3), "not a real number"),
        (lambda: Value(-2.0) ** Value(2.0), "must be above 0"),
        (lambda: Value(1000.0).exp(), "larger than any float"),
        (lambda: Value(1e200) ** 2, "larger than any float"),
        (lambda: Value(1e-200) ** -1, "or its derivative, is larger than any float"),
    ],
)
def test_errors_say_what_to_do(expression, words):
    with pytest.raises(ValueError, match=words):
        expression()


def test_not_a_number_is_passed_on():
    for operation in (Value.relu, Value.log, Value.exp, Value.softplus, Value.sigmoid):
        assert math.isnan(operation(Value(math.nan)).data)


# --- the picture

SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture):
    """The lines of text of each box."""
    root = ElementTree.fromstring(picture)
    return [[text.text for text in group.iter(f"{SVG}text")] for group in root.iter(f"{SVG}g")]


def test_picture_shows_every_node_with_value_and_gradient():
    a, b = Value(2.0), Value(-3.0)
    out = (a * b + a) ** 2
    out.backward()
    picture = svg(out, {"a": a, "b": b, "out": out})
    assert sorted(boxes(picture)) == [
        ["*", "value -6", "grad -8"],
        ["+", "value -4", "grad -8"],
        ["a", "value 2", "grad 16"],
        ["b", "value -3", "grad -16"],
        ["out = **2", "value 16", "grad 1"],
    ]
    assert picture.count("marker-end") == 5  # an arrow per input


def test_picture_is_the_same_each_time_and_leaves_the_graph_alone():
    model = MLP([3, 4, 1], np.random.default_rng(0))
    (out,) = model([0.1, 0.2, 0.3])
    out.backward()
    before = [p.grad for p in model.parameters()]
    assert svg(out) == svg(out)
    assert [p.grad for p in model.parameters()] == before


def test_names_are_escaped_and_cut():
    a = Value(1.0)
    name = '<script>"&\x00\ud800' + "x" * 100
    picture = svg(a + 1.0, {name: a})
    picture.encode("utf-8")
    (label,) = (lines[0] for lines in boxes(picture) if lines[0] not in ("+", "number"))
    assert label.startswith("<script>")
    assert len(label) <= 15
    assert "<script>" not in picture


def test_a_leaf_alone_and_a_square(tmp_path):
    assert boxes(svg(Value(4.0))) == [["number", "value 4", "grad 0"]]
    a = Value(4.0)
    path = draw(a * a, tmp_path / "new" / "square.svg")
    assert path.read_text(encoding="utf-8").count("marker-end") == 2  # both edges are seen


def test_a_graph_too_large_to_read_is_refused():
    out = Value(1.0)
    for _ in range(MAX_NODES):
        out = out + 1.0
    with pytest.raises(ValueError, match=f"{2 * MAX_NODES + 1} nodes, and a picture holds {MAX_NODES}: draw a smaller"):
        svg(out)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=30))
def test_layout_is_layered_and_nothing_overlaps(choices):
    inputs = [[], []]
    for first, second in choices:
        inputs.append([first % len(inputs), second % len(inputs)])
    layout = layered(inputs)
    column = {vertex: i for i, vertices in enumerate(layout.columns) for vertex in vertices}
    assert sorted(column) == list(range(len(layout.heights)))
    for segment in layout.segments:
        assert column[segment.end] == column[segment.start] + 1
    reached = {(segment.end, segment.slot) for segment in layout.segments if segment.slot >= 0}
    assert reached == {(node, slot) for node, sources in enumerate(inputs) for slot in range(len(sources))}
    for vertices in layout.columns:
        for above, below in itertools.pairwise(vertices):
            room = sum(1.0 if v < len(inputs) else 0.5 for v in (above, below)) / 2
            assert layout.heights[below] - layout.heights[above] >= room - 1e-9


def test_a_tree_is_drawn_without_crossings():
    rng = random.Random(0)
    inputs = [[] for _ in range(40)]
    roots = list(range(40))
    rng.shuffle(roots)
    while len(roots) > 1:
        pair = [roots.pop(rng.randrange(len(roots))) for _ in range(2)]
        roots.append(len(inputs))
        inputs.append(pair)
    layout = layered(inputs)
    after = {vertex: [] for column in layout.columns for vertex in column}
    for segment in layout.segments:
        after[segment.start].append(segment)
    assert _crossings(layout.columns, after) == 0


def test_spaced_is_the_least_squares_answer():
    """Against a fine search over small cases."""
    rng = random.Random(1)
    for _ in range(20):
        wanted = [rng.choice([0.0, 0.5, 1.0, 1.5, 2.0]) for _ in range(3)]
        found = spaced(wanted, [1.0, 1.0, 1.0])
        cost = sum((f - w) ** 2 for f, w in zip(found, wanted))
        steps = [i / 4 for i in range(-6, 17)]
        least = min(
            sum((g - w) ** 2 for g, w in zip(guess, wanted))
            for guess in itertools.product(steps, repeat=3)
            if guess[1] - guess[0] >= 1 and guess[2] - guess[1] >= 1
        )
        assert cost <= least + 1e-9
        assert found[1] - found[0] >= 1 - 1e-9


# --- network and moons


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "linear"])
def test_a_network_computes_what_its_matrices_say(activation):
    rng = np.random.default_rng(3)
    model = MLP([3, 5, 2], rng, activation)
    assert len(model.parameters()) == 3 * 5 + 5 + 5 * 2 + 2
    x = rng.normal(size=3)
    bend = {
        "tanh": np.tanh,
        "relu": lambda z: z.clip(0),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "linear": lambda z: z,
    }
    for layer, f in zip(model.layers, (bend[activation], bend["linear"])):
        weights = np.array([[w.data for w in neuron.weights] for neuron in layer.neurons])
        for neuron in layer.neurons:
            neuron.bias.data = float(rng.normal())
        x = f(weights @ x + [neuron.bias.data for neuron in layer.neurons])
    rng = np.random.default_rng(3)
    MLP([3, 5, 2], rng)
    assert [out.data for out in model(rng.normal(size=3))] == pytest.approx(x)


def test_networks_that_cannot_be():
    rng = np.random.default_rng(0)
    for sizes in ([2], [2, 0, 1]):
        with pytest.raises(ValueError, match="at least an input and an output size"):
            MLP(sizes, rng)
    with pytest.raises(ValueError, match="unknown activation 'gelu': choose one of tanh"):
        MLP([2, 1], rng, "gelu")
    with pytest.raises(ValueError, match="3 inputs for a network that reads 2"):
        MLP([2, 1], rng)([1.0, 2.0, 3.0])


def test_two_moons_lie_on_their_half_circles():
    x_N2, y_N = two_moons(101, 0.0, np.random.default_rng(0))
    upper, lower = x_N2[y_N > 0], x_N2[y_N < 0]
    assert (len(upper), len(lower)) == (51, 50)
    assert np.allclose(np.linalg.norm(upper, axis=1), 1.0)
    assert (upper[:, 1] >= 0).all()
    assert np.allclose(np.linalg.norm(lower - (1.0, 0.5), axis=1), 1.0)
    assert (lower[:, 1] <= 0.5).all()
    again, _ = two_moons(101, 0.0, np.random.default_rng(0))
    assert (again == x_N2).all()


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_two_moons_are_learned(loss):
    x_N2, y_N = two_moons(200, 0.1, np.random.default_rng(0))
    fresh = two_moons(200, 0.1, np.random.default_rng(1))
    model, record = train(x_N2, y_N, loss=loss)
    assert accuracy(model, x_N2, y_N) > 0.98
    assert accuracy(model, *fresh) > 0.98
    assert np.mean([step.loss for step in record[-20:]]) < np.mean([step.loss for step in record[:20]]) / 5
    straight, _ = train(x_N2, y_N, loss=loss, hidden=(), steps=60)
    assert accuracy(straight, x_N2, y_N) < 0.95  # no line divides them


def test_batch_loss_by_hand():
    model = MLP([2, 1], np.random.default_rng(0))
    for parameter, number in zip(model.parameters(), (1.0, -2.0, 0.5)):
        parameter.data = number
    x_N2, y_N = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0])  # scores 1.5, -1.5
    loss, right = batch_loss(model, x_N2, y_N, "hinge", l2=0.1)
    assert loss.data == pytest.approx((0.0 + 2.5) / 2 + 0.1 * 5.25)
    assert right == 0.5
    loss, _ = batch_loss(model, x_N2, y_N, "logistic", l2=0.0)
    assert loss.data == pytest.approx((math.log1p(math.exp(-1.5)) + math.log1p(math.exp(1.5))) / 2)


def test_l2_keeps_weights_small():
    x_N2, y_N = two_moons(60, 0.1, np.random.default_rng(0))
    sizes = []
    for l2 in (0.0, 0.05):
        model, _ = train(x_N2, y_N, hidden=(4,), steps=80, l2=l2)
        sizes.append(sum(p.data**2 for p in model.parameters()))
    assert sizes[1] < sizes[0] / 2


def test_training_is_the_same_for_the_same_seed():
    x_N2, y_N = two_moons(30, 0.1, np.random.default_rng(0))
    runs = [[p.data for p in train(x_N2, y_N, hidden=(3,), steps=5, seed=s)[0].parameters()] for s in (4, 4, 5)]
    assert runs[0] == runs[1] != runs[2]


def test_training_that_cannot_be():
    with pytest.raises(ValueError, match="unknown loss 'l1': choose one of hinge, logistic"):
        train(np.zeros((1, 2)), np.ones(1), loss="l1")
    with pytest.raises(ValueError, match="no points"):
        train(np.zeros((0, 2)), np.ones(0))
    for x, y in (((4,), 4), ((4, 3), 4), ((4, 2), 3)):
        with pytest.raises(ValueError, match=r"give points \(N, 2\) and a side for each"):
            train(np.zeros(x), np.ones(y))
    with pytest.raises(ValueError, match="name the sides so, for instance by 2"):
        train(np.zeros((2, 2)), np.array([0.0, 1.0]))  # else all zeros would be points that nothing is learned from
    with pytest.raises(ValueError, match="batch is 0: give at least 1"):
        train(np.zeros((2, 2)), np.ones(2), batch=0)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+: lower the rate, 1e\+300"):
        train(*two_moons(30, 0.1, np.random.default_rng(0)), rate=1e300)


def test_demos(tmp_path):
    lines = DEMOS["scalar-graph"].draw(tmp_path)
    assert "0.4621" in lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"neuron.svg", "network.svg"}
    for path in tmp_path.iterdir():
        ElementTree.fromstring(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_moons_demo(tmp_path):
    lines = DEMOS["scalar-moons"].draw(tmp_path)
    assert len(lines) == 2
    assert (tmp_path / "moons.png").read_bytes().startswith(b"\x89PNG")
