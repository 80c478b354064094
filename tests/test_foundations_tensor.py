"""NumPy tensors: every rule against finite differences, the graph's life, and what is said about mistakes."""

import gc
import math
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from cairn.foundations import tensor as T
from cairn.foundations.tensor import Tensor, no_grad
from cairn.foundations.tensor.graph import apply, plain

RNG = np.random.default_rng(0)


def leaf(*shape, low=None):
    values = RNG.normal(size=shape) if low is None else RNG.uniform(low, 3.0, shape)
    return Tensor(values, requires_grad=True)


MASK = RNG.random((4, 5)) < 0.6
SMOOTH = {
    "add": (T.add, [(2, 1, 4), (3, 1)]),
    "sub": (T.sub, [(3, 1), (2, 1, 4)]),
    "mul": (T.mul, [(2, 1, 4), (3, 1)]),
    "neg": (T.neg, [(3,)]),
    "exp": (T.exp, [(2, 3)]),
    "sin": (T.sin, [(2, 3)]),
    "cos": (T.cos, [(2, 3)]),
    "tanh": (T.tanh, [(2, 3)]),
    "sigmoid": (T.sigmoid, [(2, 3)]),
    "silu": (T.silu, [(2, 3)]),
    "softplus": (T.softplus, [(2, 3)]),
    "erf": (T.erf, [(2, 3)]),
    "normal_cdf": (T.normal_cdf, [(2, 3)]),
    "gelu": (T.gelu, [(2, 3)]),
    "gelu, tanh": (lambda x: T.gelu(x, approximate=True), [(2, 3)]),
    "matmul": (T.matmul, [(2, 1, 3, 4), (5, 4, 2)]),
    "matmul of vectors": (lambda a, b: (a @ b) @ a, [(4,), (4, 4)]),
    "einsum": (lambda a, b, c: T.einsum("ij,jk...,kk->...i", a, b, c), [(2, 3), (3, 4, 2), (4, 4)]),
    "sum": (lambda x: T.sum(x, (0, 2)), [(2, 3, 4)]),
    "mean": (lambda x: T.mean(x, 1, True), [(2, 3, 4)]),
    "var": (lambda x: T.var(x, -1, correction=1), [(2, 3, 4)]),
    "logsumexp": (lambda x: T.logsumexp(x, (0, -1)), [(2, 3, 4)]),
    "softmax": (lambda x: T.softmax(x, 0), [(3, 4)]),
    "log_softmax": (T.log_softmax, [(3, 4)]),
    "cumsum": (lambda x: T.cumsum(x, 1), [(2, 3, 2)]),
    "reshape": (lambda x: T.reshape(x, (3, -1)), [(2, 3, 2)]),
    "transpose": (lambda x: T.transpose(x, (1, 2, 0)), [(2, 3, 4)]),
    "expand": (lambda x: T.expand(x, (5, 2, 3)), [(2, 1)]),
    "concatenate": (lambda a, b: T.concatenate([a, b], 1), [(2, 3), (2, 1)]),
    "stack": (lambda a, b: T.stack([a, b], -1), [(2, 3), (2, 3)]),
    "pad": (lambda x: T.pad(x, [(1, 0), (2, 1)], 3.0), [(2, 3)]),
    "getitem": (lambda x: x[1:, [0, 2, 0]], [(3, 4)]),
    "take": (lambda x: T.take(x, [[0, -1], [0, 1]]), [(3, 2)]),
    "conv2d": (lambda x, w, b: T.conv2d(x, w, b, stride=2, padding=1), [(2, 2, 4, 5), (3, 2, 3, 2), (3,)]),
    "avg_pool2d": (lambda x: T.avg_pool2d(x, 2, 1), [(2, 1, 3, 4)]),
    "layer_norm": (T.layer_norm, [(3, 5), (5,), (5,)]),
    "rms_norm": (T.rms_norm, [(3, 5), (5,)]),
    "batch_norm": (lambda x, w, b: T.batch_norm(x, w, b), [(4, 2, 3, 2), (2,), (2,)]),
    "dropout": (lambda x: T.dropout(x, 0.4, np.random.default_rng(3)), [(4, 5)]),
    "attention": (
        lambda q, k, v: T.scaled_dot_product_attention(q, k, v, MASK, causal=True),
        [(2, 4, 3), (5, 3), (2, 5, 2)],
    ),
    "attention with a learned mask": (T.scaled_dot_product_attention, [(4, 3), (5, 3), (5, 2), (4, 1)]),
}
POSITIVE = {
    "log": (T.log, [(2, 3)]),
    "sqrt": (T.sqrt, [(2, 3)]),
    "div": (T.div, [(2, 1, 3), (4, 1)]),
    "pow": (T.pow, [(2, 1, 3), (4, 1)]),
    "pow by a number": (lambda x: x**-0.5 + x**2 + x**0, [(2, 3)]),
}
CORNERED = {
    "abs": (T.abs, [(3, 4)]),
    "relu": (T.relu, [(3, 4)]),
    "leaky_relu": (T.leaky_relu, [(3, 4)]),
    "maximum": (T.maximum, [(3, 1), (1, 4)]),
    "minimum": (T.minimum, [(3, 1), (1, 4)]),
    "where": (lambda a, b: T.where(MASK, a, b), [(4, 1), (5,)]),
    "clip": (lambda x: T.clip(x, -0.5, 0.7), [(3, 4)]),
    "max": (lambda x: T.max(x, 1), [(3, 4)]),
    "min": (lambda x: T.min(x, (0, 1)), [(3, 4)]),
    "max_pool2d": (lambda x: T.max_pool2d(x, 2, 1), [(2, 1, 3, 4)]),
}


@pytest.mark.parametrize("name", [*SMOOTH, *POSITIVE, *CORNERED])
def test_every_rule_agrees_with_finite_differences(name):
    f, shapes = (SMOOTH | POSITIVE | CORNERED)[name]
    T.gradcheck(f, [leaf(*shape, low=0.4 if name in POSITIVE else None) for shape in shapes])


@pytest.mark.parametrize("name", [*SMOOTH, *POSITIVE])
def test_every_rule_can_be_derived_again(name):
    f, shapes = (SMOOTH | POSITIVE)[name]
    T.gradgradcheck(f, [leaf(*shape, low=0.4 if name in POSITIVE else None) for shape in shapes])


def test_every_operation_of_the_public_face_is_checked():
    checked = {name.split()[0].strip(",") for name in [*SMOOTH, *POSITIVE, *CORNERED]}
    others = {"Tensor", "attention_weights", "grad", "gradcheck", "gradgradcheck", "hessian", "jacobian", "no_grad"}
    others |= {"scaled_dot_product_attention", "embedding", "swapaxes"}  # made of, or the same as, one that is
    assert set(T.__all__) == checked - {"attention"} | others


def test_gradcheck_names_the_input_and_the_place():
    def wrong(a, b):
        return apply("wrong", (a, b), np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a * (a < 2))

    a, b = Tensor([1.0, 3.0], requires_grad=True), Tensor([1.0, 1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"input 1 at \(1,\) is 0, but by finite differences"):
        T.gradcheck(wrong, [a, b])
    assert a.grad is None
    assert a.data.tolist() == [1.0, 3.0]
    ids = Tensor([0, 1, 0])  # what requires no gradient may be of any type
    T.gradcheck(T.embedding, [leaf(2, 3), ids])
    with pytest.raises(ValueError, match=r"float32.*astype"):
        T.gradcheck(T.exp, [Tensor(np.ones(2, np.float32), requires_grad=True)])


def test_gradgradcheck_finds_a_rule_that_is_right_once():
    def once(x):
        return apply("once", (x,), np.square, lambda g, y, x: g * (2 * plain(x)))

    x = leaf(3)
    T.gradcheck(once, [x])
    with pytest.raises(ValueError, match="finite differences"):
        T.gradgradcheck(once, [x])


# The graph


def test_deep_graphs_need_no_recursion():
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + x
    y.backward()
    assert x.grad == 20_001
    for _ in range(20_000):  # and one that is dropped unused
        y = y * 1.0 + x
    del y
    gc.collect()


def test_the_order_is_right_where_ways_are_of_different_length():
    x = leaf(3)
    long = x
    for _ in range(5):
        long = (long * x).sin()
    T.gradcheck(lambda x: x * _chain(x, 5) + _chain(x, 2), [x])


def _chain(x, length):
    y = x
    for _ in range(length):
        y = (y * x).sin()
    return y


def test_the_graph_is_freed_and_using_it_again_is_refused():
    x = leaf(3)
    h = x.exp()
    h.sum().backward()
    with pytest.raises(ValueError, match=r"freed.*retain_graph=True"):
        (h * 2).sum().backward()
    with pytest.raises(ValueError, match="freed"):
        T.grad((h * 2).sum(), [x])
    y = x.exp().sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad, 3 * np.exp(x.data))


def test_gradients_are_not_shared():
    a, b = leaf(3), leaf(3)
    given = np.ones(3)
    (a + b).backward(given)
    a.grad *= 5
    assert b.grad.tolist() == [1, 1, 1]
    assert given.tolist() == [1, 1, 1]
    tensor = Tensor(given)
    a.grad = None
    (a * 1).backward(tensor)
    a.grad *= 5
    assert tensor.data.tolist() == [1, 1, 1]
    assert isinstance(a.grad, np.ndarray)
    c = leaf(2, 3)
    c.sum().backward()
    c.grad[0, 0] = 7  # a stretched number would not be writable, or change everywhere
    assert c.grad.sum() == 12
    first, second = T.grad((a + b).sum(), [a, b])
    first.data *= 5
    assert second.data.tolist() == [1, 1, 1]
    d = leaf(2, 3)
    (d.reshape(6) + d.T.reshape(6)).backward(np.arange(6.0))
    assert d.grad.base is None


def test_a_leaf_is_its_own_derivative():
    x = leaf(2)
    x.backward(np.array([2.0, 3.0]))
    assert x.grad.tolist() == [2, 3]
    (same,) = T.grad(x.sum(), [x])
    assert same.data.tolist() == [1, 1]


def test_grad_gives_derivatives_by_what_was_calculated_and_leaves_grad_alone():
    x = leaf(3)
    h = x * x
    y = (h * h).sum()
    by_h, by_x = T.grad(y, [h, x])
    np.testing.assert_allclose(by_h.data, 2 * x.data**2)
    np.testing.assert_allclose(by_x.data, 4 * x.data**3)
    assert x.grad is None
    other = leaf(2)
    with pytest.raises(ValueError, match=r"does not depend on input 1, of shape \(2,\)"):
        T.grad((x * x).sum(), [x, other])
    assert T.grad((x * x).sum(), [other], allow_unused=True)[0].data.tolist() == [0, 0]


def test_create_graph_makes_gradients_that_are_tensors():
    x = Tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    assert isinstance(x.grad, Tensor)
    first, x.grad = x.grad, None
    first.backward()
    assert first.item() == 12
    assert x.grad.item() == 12
    found = [x]
    y = x.sin()
    for _ in range(7):
        (y,) = T.grad(y, [x], create_graph=True)
        found.append(y)
    assert found[-1].item() == pytest.approx(-math.cos(2.0))  # the seventh derivative of a sine


def test_no_grad_records_nothing_even_when_functions_call_themselves():
    @no_grad()
    def down(n):
        return x * 2 if n == 0 else down(n - 1)

    x = leaf(2)
    assert not down(3).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_of_one_thread_does_not_stop_another():
    x = leaf(2)
    with ThreadPoolExecutor(1) as pool:
        with no_grad():
            assert pool.submit(lambda: (x * 2).requires_grad).result()
            assert not (x * 2).requires_grad

        entered, leave = Event(), Event()

        def hold():
            with no_grad():
                entered.set()
                assert leave.wait(60)

        held = pool.submit(hold)
        assert entered.wait(60)
        assert (x * 2).requires_grad
        leave.set()
        held.result()


def test_what_is_not_wanted_is_not_calculated():
    called = []

    def rule(name):
        def back(g, y, a, b):
            called.append(name)
            return g

        return back

    a, b, c = leaf(2), leaf(2), Tensor(np.ones(2))
    f = apply("spy", (a, b), np.add, rule("a"), rule("b"))
    T.grad(f.sum(), [b])
    apply("spy", (c, b), np.add, rule("c"), rule("b")).sum().backward()
    assert called == ["b", "b"]


# Values


def test_arrays_and_numbers_mix_on_both_sides():
    x = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    for y, wanted in (
        (array + x, [4, 6]),
        (array - x, [2, 2]),
        (array / x, [3, 2]),
        (array @ x, 11),
        (np.float64(2) * x, [2, 4]),
        (2**x, [2, 4]),
        (1 / x, [1, 0.5]),
        (x @ [1, 1], 3),
    ):
        assert isinstance(y, Tensor)
        assert np.allclose(y.data, wanted)
        assert y.dtype == np.float32 or y.data.ndim == 0  # of a list, NumPy makes float64
    assert (x > 1).tolist() == [False, True]
    assert (x == x).all()
    assert {x: 1}[x] == 1
    assert len(x) == 2
    assert [float(value) for value in x] == [1, 2]


def test_numbers_keep_their_format():
    assert Tensor(np.float32(2)).dtype == np.float32
    assert Tensor([1, 2]).dtype.kind == "i"
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    double = x.astype(np.float64)
    (double * double).sum().backward()
    assert double.dtype == np.float64
    assert x.grad.dtype == np.float32
    w = Tensor(np.ones(3), requires_grad=True)
    (w * x).sum().backward()  # float64 in between; each gradient in the format of its own
    assert (w.grad.dtype, x.grad.dtype) == (np.float64, np.float32)


def test_arrays_alone_give_arrays():
    x = RNG.normal(size=(2, 3, 6, 6))
    for f in (T.exp, T.softmax, T.gelu, T.sum, lambda x: T.max_pool2d(x, 2), lambda x: T.conv2d(x, x[:, :, :2, :2])):
        assert isinstance(f(x), (np.ndarray, np.float64))
    assert isinstance(T.exp(Tensor(x)), Tensor)


def test_the_error_function_is_right_to_the_last_digits():
    x = np.concatenate([np.linspace(-30, 30, 20_001), [0.0, -0.0, 1e-12, -1e-300, np.inf, -np.inf]])
    assert np.abs(T.erf(x) - [math.erf(v) for v in x]).max() < 5e-15
    wanted = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
    np.testing.assert_allclose(T.normal_cdf(x), wanted, rtol=1e-8, atol=1e-300)  # also in its far tail, 1e-198 at -30
    near = np.abs(x) < 12
    np.testing.assert_allclose(T.normal_cdf(x)[near], wanted[near], rtol=1e-13)
    rough = T.erf(x.astype(np.float32))
    assert rough.dtype == np.float32
    assert np.abs(rough - [math.erf(v) for v in x]).max() < 5e-7
    assert math.isnan(T.erf(np.array(np.nan)))


@pytest.mark.filterwarnings("error")
def test_large_scores_do_no_harm():
    x = Tensor([-1e3, -50.0, 0.0, 50.0, 1e3], requires_grad=True)
    for f in (T.sigmoid, T.softplus, T.silu, T.gelu, T.tanh, T.softmax, T.log_softmax, T.logsumexp, T.erf):
        x.grad = None
        f(x).sum().backward()
        assert np.isfinite(f(x).data).all(), f
        assert np.isfinite(x.grad).all(), f
    assert T.sigmoid(np.array(-50.0)) == pytest.approx(math.exp(-50), rel=1e-12)
    assert T.log_softmax(x).data[0] == -2000


@pytest.mark.filterwarnings("error")
def test_what_may_not_be_looked_at_has_no_share():
    q, k, v = leaf(3, 2), leaf(3, 2), leaf(3, 4)
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    weights = T.attention_weights(q, k, mask, causal=True)
    assert weights.data[1].tolist() == [0, 0, 0]
    assert weights.data[0].tolist() == [1, 0, 0]
    assert weights.data[2].sum() == pytest.approx(1)
    T.scaled_dot_product_attention(q, k, v, mask).sum().backward()
    assert np.isfinite(q.grad).all()
    assert T.logsumexp(np.full(3, -np.inf)) == -np.inf


def test_einsum_is_numpy_s():
    size = {letter: n for n, letter in enumerate("abcdijk", 2)}
    for text in (
        "ij,jk", "ij,jk->ki", "ij->ji", "ba", "ij", "i,i", "i,i->i", "aij,ajk->aik", "ij,kj,k->i", "iij->j", "ii->i",
        "abcd,cd->ba", "a,b,c->cba", "ijk->", "...i,...i->...", "i...->...i", "a...,b...", "...,...", "ij,jk,ka,ab->ib",
    ):  # fmt: skip
        names = text.replace(" ", "").split("->")[0].split(",")
        arrays = []
        for n, name in enumerate(names):
            hidden = (2, 3)[n % 2 :] if "..." in name else ()
            before, _, after = name.partition("...") if "..." in name else (name, "", "")
            arrays.append(RNG.normal(size=(*(size[x] for x in before), *hidden, *(size[x] for x in after))))
        np.testing.assert_allclose(T.einsum(text, *arrays), np.einsum(text, *arrays), atol=1e-12, err_msg=text)
    one = RNG.normal(size=(1, 3))
    np.testing.assert_allclose(T.einsum("ij,ij->i", one, np.ones((4, 3))), np.full(4, one.sum()))


def test_rows_are_added_where_ids_repeat():
    table = np.zeros((5, 2))
    ids, rows = RNG.integers(-5, 5, (40,)), RNG.normal(size=(40, 2))
    np.add.at(table, ids, rows)
    x = Tensor(np.zeros((5, 2)), requires_grad=True)
    T.take(x, ids).backward(rows)
    np.testing.assert_allclose(x.grad, table)
    x.grad = None
    T.take(x, np.zeros(0, int)).sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64])
def test_ids_may_be_in_a_format_too_small_for_the_number_of_rows(dtype):
    """Bytes as ids of 256 rows: 256 itself is no uint8."""
    x = Tensor(np.zeros((300, 2)), requires_grad=True)
    ids = np.array([1, 100, 1], dtype)
    T.take(x, ids).sum().backward()
    assert x.grad[:, 0].nonzero()[0].tolist() == [1, 100]
    assert x.grad[1].tolist() == [2, 2]
    assert ids.tolist() == [1, 100, 1]
    if dtype == np.int8:
        x.grad = None
        T.take(x, np.array([-1], dtype)).sum().backward()
        assert x.grad[299].tolist() == [1, 1]


def test_whole_numbers_become_real_ones_where_results_are_shares():
    x = np.array([1, 2, 4])
    for f in (T.softmax, T.log_softmax, T.sigmoid, T.gelu, lambda x: T.layer_norm(x, None, None)):
        np.testing.assert_allclose(f(x), f(x.astype(float)))
    kept = T.dropout(np.ones(1000, int), 0.25, np.random.default_rng(0))
    assert set(kept) == {0, 1 / 0.75}


def test_what_is_rounded_to_whole_numbers_is_a_constant():
    x = leaf(3)
    assert not x.astype(int).requires_grad
    (x * x.astype(int)).sum().backward()
    assert x.grad.tolist() == x.data.astype(int).tolist()


def test_an_axis_may_be_a_number_of_numpy():
    x = leaf(2, 3)
    for f in (T.sum, T.mean, T.var, T.max, T.min, T.logsumexp):
        x.grad = None
        axis: Any = np.int64(1)
        f(x, axis).sum().backward()
        found, x.grad = x.grad, None
        f(x, 1).sum().backward()
        np.testing.assert_array_equal(found, x.grad)


def test_extremes_of_logsumexp_and_empty_ends():
    assert T.logsumexp(np.array([np.inf, 1.0])) == np.inf
    w = leaf(3, 2, 2, 2)
    y = T.conv2d(np.zeros((0, 2, 4, 4)), w)  # the last batch may be empty
    assert y.shape == (0, 3, 3, 3)
    y.sum().backward()
    assert not w.grad.any()
    assert leaf(3)[[]].shape == (0,)


def test_float32_is_kept_beside_constants_of_float64():
    x = Tensor(RNG.normal(size=(4, 3)).astype(np.float32), requires_grad=True)
    running = np.zeros(3), np.ones(3)
    assert T.batch_norm(x, None, None, running, training=False).dtype == np.float32
    assert T.attention_weights(x, x, np.zeros((4, 4))).dtype == np.float32


def test_dropout_keeps_the_expected_value():
    x = Tensor(np.ones((200, 300), np.float32), requires_grad=True)
    y = T.dropout(x, 0.25, np.random.default_rng(0))
    assert y.dtype == np.float32
    assert float(y.data.mean()) == pytest.approx(1, abs=0.01)
    assert float((y.data == 0).mean()) == pytest.approx(0.25, abs=0.01)
    y.sum().backward()
    assert np.array_equal(x.grad, y.data)
    assert T.dropout(x, 0.5, np.random.default_rng(0), training=False) is x


def test_batch_norm_follows_the_batches_in_place():
    mean, variance = np.zeros(2), np.ones(2)
    x = RNG.normal(3.0, 2.0, (500, 2))
    for _ in range(100):
        T.batch_norm(x, None, None, (mean, variance))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(variance, x.var(0, ddof=1), rtol=1e-4)
    used = T.batch_norm(x, None, None, (mean, variance), training=False)
    np.testing.assert_allclose(used.mean(0), 0, atol=1e-3)


def test_a_parameter_is_updated_in_place_without_grad():
    w = Tensor(np.ones(3), requires_grad=True)
    memory = w.data
    with no_grad():
        w -= 0.5
        w *= 4.0
        w[0] = 9.0
    assert w.data is memory
    assert w.data.tolist() == [9, 2, 2]
    assert w.node is None
    h = w * 2
    h += 1  # what was calculated becomes a new tensor
    h.sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


def test_newton_s_method_needs_one_step_on_a_parabola():
    a = np.array([[3.0, 1.0], [1.0, 2.0]])
    x = np.array([5.0, -7.0])

    def f(x):
        return (x @ a @ x) / 2 - x.sum()

    step = np.linalg.solve(T.hessian(f, x), T.jacobian(f, x))
    np.testing.assert_allclose(a @ (x - step), 1, atol=1e-12)
    np.testing.assert_allclose(T.hessian(f, x), a)
    assert not T.hessian(lambda x: x.sum() * 3, x).any()
    assert not T.jacobian(lambda x: Tensor(np.ones(4)), x).any()


# Mistakes


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: leaf(2, 3).backward(), r"shape \(2, 3\).*sum\(\) or mean\(\)"),
        (lambda: leaf(2, 3).backward(np.ones((3, 2))), r"gradient has shape \(3, 2\).*\(2, 3\)"),
        (lambda: Tensor(1.0).backward(), "requires_grad=True"),
        (lambda: leaf(2, 3) + leaf(4), r"add of shapes \(2, 3\) and \(4,\).*equally long"),
        (lambda: leaf(2, 3) @ leaf(2, 3), r"\(2, 3\) and \(2, 3\).*3, must be as long as.*2"),
        (lambda: leaf(2) @ 3.0, "single number"),
        (lambda: Tensor([1, 2], requires_grad=True), r"int64.*astype\(float\)"),
        (lambda: Tensor(["a"]), "real numbers"),
        (lambda: np.concatenate([leaf(2), leaf(2)]), r"x\.data"),
        (lambda: leaf(2).reshape(3), r"reshape of shapes \(2,\)"),
        (lambda: leaf(2).__setitem__(0, 1.0), r"no_grad"),
        (lambda: leaf(2).__isub__(1.0), r"no_grad"),
        (lambda: T.take(leaf(3, 2), np.array([0, 3])), "ids from 0 to 3: there are 3 rows"),
        (lambda: T.take(leaf(3, 2), np.array([0.5])), "whole numbers"),
        (lambda: T.conv2d(leaf(1, 2, 4, 4), leaf(3, 1, 2, 2)), "as many channels"),
        (lambda: T.conv2d(leaf(1, 2, 4, 4), leaf(3, 2, 5, 5)), "does not fit"),
        (lambda: T.max_pool2d(leaf(1, 2, 4, 4), 5), "must fit"),
        (lambda: T.dropout(leaf(2), 1.0, RNG), "below 1"),
        (lambda: T.batch_norm(leaf(1, 2), None, None), "no spread"),
        (lambda: T.batch_norm(leaf(3, 2), None, None, training=False), "running"),
        (lambda: T.einsum("ij,jk", leaf(2, 3)), "2 terms, but 1"),
        (lambda: T.einsum("ij,jk", leaf(2, 3), leaf(2, 3)), "'j' is an axis of 3 and one of 2"),
        (lambda: T.einsum("ij->ijk", leaf(2, 3)), "each of the result"),
        (lambda: T.einsum("i", leaf(2, 3)), "does not name the 2 axes"),
        (lambda: T.pad(leaf(2, 3), [(1, 1)]), "each axis"),
        (lambda: T.clip(leaf(2)), "low="),
        (lambda: T.hessian(lambda x: x, np.ones(2)), r"sum\(\) it"),
        (lambda: T.grad(leaf(1).sum(), [Tensor(1.0)]), "requires_grad=True"),
        (lambda: T.grad(leaf(1).sum(), leaf(1)), r"list of tensors.*\[x\]"),  # type: ignore
        (lambda: T.grad(leaf(1).sum(), [np.ones(1)]), "ndarray.*list of tensors"),  # type: ignore
        (lambda: T.gradcheck(T.exp, [Tensor(np.ones(3))]), "nothing to check"),
        (lambda: T.gradcheck(T.exp, [np.ones(3)]), "list of tensors"),  # type: ignore
        (lambda: T.gradgradcheck(T.exp, leaf(3)), "list of tensors"),  # type: ignore
        (lambda: T.jacobian(lambda x: x.data, np.ones(2)), "returns ndarray"),  # type: ignore
        (lambda: Tensor(np.zeros(3)).__setitem__(0, leaf(3)[0] * 2), "lose it.*stack"),
        (lambda: T.attention_weights(leaf(2, 3), leaf(2, 3), np.eye(2, dtype=int)), r"astype\(bool\)"),
        (lambda: T.conv2d(leaf(1, 2, 4, 4), leaf(3, 2, 2, 2), stride=(1, 1)), r"stride=\(1, 1\)"),  # type: ignore
        (lambda: T.conv2d(leaf(1, 2, 4, 4), leaf(3, 2, 0, 2)), "none of them 0"),
        (lambda: T.avg_pool2d(leaf(1, 2, 4, 4), 2.0), r"size=2\.0"),  # type: ignore
        (lambda: T.layer_norm(leaf(3, 1), leaf(5), None), r"weight of shape \(5,\)"),
        (lambda: T.batch_norm(leaf(3), None, None), "axis 1 the channels"),
        (lambda: T.batch_norm(leaf(3, 2), None, None, (np.zeros(1), np.ones(1))), "one number for each channel"),
        (lambda: leaf(3, 1).var(1, correction=1), "more than 1 values, not 1"),
        (lambda: T.concatenate([]), "at least one part"),
        (lambda: T.concatenate([leaf(2), leaf(2)], 1), "along axis 1"),
        (lambda: T.stack([]), "at least one"),
        (lambda: T.pad(leaf(3), [(-1, 0)]), "0 or more"),
        (lambda: T.take(leaf(), 0), "no rows"),
        (lambda: T.dropout(leaf(2), 0.5, None), "default_rng"),  # type: ignore
        (lambda: T.einsum("ii", np.ones((1, 3))), "'i' is an axis of 1 and one of 3"),
        (lambda: T.einsum("...i...", np.ones((1, 3))), "does not name"),
    ],
)
def test_mistakes_are_explained(mistake, words):
    with pytest.raises(ValueError, match=words):
        mistake()


def test_writing_to_what_the_graph_needs_is_refused():
    w, x = leaf(3), leaf(3)
    y = (w * x).sum()
    with no_grad():
        w += 1.0
    with pytest.raises(ValueError, match=r"an input of mul, of shape .*in place"):
        y.backward()
    h = x.exp()
    y = h.sum()
    with no_grad():
        h[0] = 0.0
    with pytest.raises(ValueError, match="in place"):
        y.backward()


def test_an_embedding_knows_no_negative_ids():
    with pytest.raises(ValueError, match="ids from 0 to 3"):
        T.embedding(Tensor(np.eye(4), requires_grad=True), np.array([1, -1]))
