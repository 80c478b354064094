"""Attention by hand and recurrent layers: what must hold whatever the oracle says."""

import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cairn.foundations import attention
from cairn.foundations.attention import MultiHeadAttention, attend, attend_backward, causal_mask, flash_attend
from cairn.foundations.attention.reverse import Reverse
from cairn.foundations.attention.reverse import learn as learn_to_reverse
from cairn.foundations.gpt import TrainConfig
from cairn.foundations.recurrent import (
    CELLS,
    Recurrent,
    RecurrentConfig,
    RecurrentLayer,
    RecurrentModel,
    detach,
    gradient_norms,
    open_gate,
    set_spectral_norm,
    train_truncated,
)
from cairn.foundations.recurrent.recall import Recall
from cairn.foundations.recurrent.recall import learn as learn_to_recall
from cairn.foundations.recurrent.truncated import pieces, strands
from cairn.foundations.tensor import Tensor


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- attention


def test_softmax_of_any_scores_is_finite_and_sums_to_one(rng):
    scores = rng.normal(size=(5, 7)) * np.array([[1e-3], [1], [1e2], [1e4], [1e300]])
    p = attention.softmax(scores)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-14)


def test_the_jacobian_is_that_of_finite_differences(rng):
    scores, step = rng.normal(size=6), 1e-6
    columns = [(attention.softmax(scores + e) - attention.softmax(scores - e)) / (2 * step) for e in np.eye(6) * step]
    jacobian = attention.softmax_jacobian(attention.softmax(scores))
    np.testing.assert_allclose(jacobian, np.array(columns).T, atol=1e-9)
    np.testing.assert_allclose(jacobian.sum(axis=0), 0, atol=1e-16)


def test_what_is_hidden_changes_nothing(rng):
    q, k, v = (rng.normal(size=(6, 4)) for _ in range(3))
    before, _ = attend(q, k, v, causal_mask(6, 6))
    k[4:], v[4:] = 1e3, -1e3
    after, _ = attend(q, k, v, causal_mask(6, 6))
    assert np.array_equal(before[:4], after[:4])
    assert not np.allclose(before[4:], after[4:])


def test_the_order_of_keys_does_not_matter(rng):
    q, k, v = rng.normal(size=(3, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 5))
    order = rng.permutation(6)
    np.testing.assert_allclose(attend(q, k, v)[0], attend(q, k[order], v[order])[0], rtol=1e-13)


def test_who_sees_nothing_gets_nothing(rng):
    q, k, v, grad = (rng.normal(size=(3, 4)) for _ in range(4))
    mask = np.array([[True, True, True], [False, False, False], [False, True, False]])
    output, weights = attend(q, k, v, mask)
    assert (output[1] == 0).all()
    np.testing.assert_allclose(output[2], v[1])
    grad_q, grad_k, grad_v = attend_backward(grad, q, k, v, weights)
    assert (grad_q[1] == 0).all()
    assert all(np.isfinite(g).all() for g in (grad_q, grad_k, grad_v))


@pytest.mark.parametrize("block", [1, 2, 5, 11, 64])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_any_size_give_the_same(rng, block, causal):
    q, k, v, grad = (rng.normal(size=(2, 11, 3)) * 5 for _ in range(4))
    mask = causal_mask(11, 11) if causal else None
    output, weights = attend(q, k, v, mask)
    ours, log_sum = flash_attend(q, k, v, block, causal)
    np.testing.assert_allclose(ours, output, atol=1e-13)
    ours = attention.flash_attend_backward(grad, q, k, v, ours, log_sum, block, causal)
    for mine, theirs in zip(ours, attend_backward(grad, q, k, v, weights)):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_numbers_keep_their_precision(rng):
    """float32 in, float32 out: half the memory, twice as fast. Whole numbers become real ones."""
    q, k, v, grad = (rng.normal(size=(5, 3)).astype(np.float32) for _ in range(4))
    output, weights = attend(q, k, v)
    ours, log_sum = flash_attend(q, k, v, 2)
    found = [output, weights, ours, log_sum, *attend_backward(grad, q, k, v, weights)]
    found += attention.flash_attend_backward(grad, q, k, v, ours, log_sum, 2)
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    whole = rng.integers(3, size=(5, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, log_sum = flash_attend(whole, whole, whole, 2)
        grads = attention.flash_attend_backward(grad, whole, whole, whole, ours, log_sum, 2)
    output, weights = attend(whole, whole, whole)
    np.testing.assert_allclose(ours, output, rtol=1e-12)
    for mine, theirs in zip(grads, attend_backward(grad, whole, whole, whole, weights)):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_titles_of_heatmaps_are_inside_the_picture():
    for count in (1, 4):
        figure = attention.draw_heads(np.stack([np.eye(6)] * count), list("abcdef"), ["a title"] * count)
        FigureCanvasAgg(figure).draw()
        for ax in figure.axes[:count]:
            assert ax.title.get_window_extent().y1 <= figure.bbox.y1


@pytest.mark.parametrize("name", ["wq", "bk", "wv", "wo", "bo"])
def test_gradients_of_heads_are_those_of_finite_differences(rng, name):
    layer = MultiHeadAttention.random(6, 2, rng)
    x, grad, step = rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 4, 6)), 1e-6
    grads, _, _ = layer.backward(grad, layer.forward(x, mask=causal_mask(4, 4))[1])
    weight = layer.weights[name]
    for place in (tuple(rng.integers(size) for size in weight.shape) for _ in range(4)):
        ends = []
        for change in (step, -2 * step):
            weight[place] += change
            ends.append((layer.forward(x, mask=causal_mask(4, 4))[0] * grad).sum())
        weight[place] += step
        assert grads[name][place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


def test_a_head_learns_to_reverse():
    _, weights, history = learn_to_reverse(Reverse(length=7, steps=250))
    assert history[-1] < 0.1 < 1.5 < history[0]
    assert weights.argmax(axis=1).tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert np.fliplr(weights).diagonal().min() > 0.8


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: attend(np.ones((2, 3)), np.ones((4, 5)), np.ones((4, 5))), "size 3, keys of size 5"),
        (lambda: attend(np.ones((2, 3)), np.ones((4, 3)), np.ones((5, 3))), "4 keys, 5 values"),
        (lambda: attend(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 3))), "no keys"),
        (lambda: flash_attend(np.ones((2, 3)), np.ones((4, 3)), np.ones((5, 3))), "4 keys, 5 values"),
        (lambda: flash_attend(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 3))), "no keys"),
        (lambda: MultiHeadAttention.random(8, 0, np.random.default_rng(0)), "0 heads"),
        (lambda: causal_mask(3, 2), "3 queries and 2 keys"),
        (lambda: attention.padding_mask(np.array([0, 2]), 3), "must be 1 to 3"),
        (lambda: flash_attend(*(np.ones((2, 3)),) * 3, block=0), "at least 1"),
        (lambda: flash_attend(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 3)), causal=True), "2 queries and 4 keys"),
        (lambda: MultiHeadAttention.random(10, 3, np.random.default_rng(0)), "3 heads cannot share a width of 10"),
        (lambda: attention.draw_heads(np.ones((2, 3, 3)), list("ab")), "over 2 tokens"),
    ],
)
def test_what_does_not_fit_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


# --- recurrent layers


def layer_of(kind):
    return RecurrentLayer(kind, 3, 4, np.random.default_rng(0))


@pytest.mark.parametrize("kind", CELLS)
def test_a_text_in_pieces_is_the_text(rng, kind):
    network = Recurrent(kind, 3, 5, rng, layers=2)
    x = rng.normal(size=(2, 9, 3))
    whole, ends = network.run(Tensor(x))
    states, found = None, []
    for piece in np.split(x, [2, 3, 7], axis=1):
        output, states = network.run(Tensor(piece), states)
        found.append(output.data)
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole.data, atol=1e-14)
    assert states is not None
    for ours, theirs in zip(states, ends):
        np.testing.assert_allclose(ours[0].data, theirs[0].data, atol=1e-14)


@pytest.mark.parametrize("kind", CELLS)
def test_padding_is_never_read(rng, kind):
    network, length = Recurrent(kind, 3, 5, rng, layers=2), np.array([4, 1, 6])
    x = rng.normal(size=(3, 6, 3))
    other = np.where((np.arange(6) < length[:, None])[..., None], x, 1e3)
    results = []
    for array in (x, other):
        tensor = Tensor(array, requires_grad=True)
        output, ends = network.run(tensor, length_B=length)
        (output.sum() + ends[-1][0].sum()).backward()
        results.append((output.data, ends[0][-1].data, tensor.grad))
    for ours, theirs in zip(*results):
        assert np.array_equal(ours, theirs)
    output, _, grad = results[0]
    assert (output[0, 4:] == 0).all()
    assert (grad[1, 1:] == 0).all()
    assert (grad[1, 0] != 0).all()


def test_detached_states_keep_their_values_and_lose_their_past(rng):
    network = Recurrent("lstm", 3, 4, rng)
    first, second = (Tensor(rng.normal(size=(2, 5, 3)), requires_grad=True) for _ in range(2))
    _, states = network.run(first)
    attached, _ = network.run(second, states)
    cut, _ = network.run(second, detach(states))
    assert np.array_equal(attached.data, cut.data)
    cut.sum().backward()
    assert first.grad is None
    attached.sum().backward()
    assert first.grad is not None
    assert np.abs(first.grad).max() > 0


def test_gradients_of_a_rotation_shrink_by_its_radius(rng):
    """Without input and bias the state is 0, where tanh has slope 1: the product of Jacobians is radius^n rotations."""
    layer = set_spectral_norm(RecurrentLayer("tanh", 2, 8, rng), 0.9)
    layer.bias_ih.data[:] = layer.bias_hh.data[:] = 0
    norms = gradient_norms(layer, np.zeros((3, 20, 2)))
    np.testing.assert_allclose(norms[:-1] / norms[1:], 0.9, rtol=1e-12)


def test_open_gates_let_gradients_through(rng):
    x = rng.normal(size=(4, 40, 6))
    for kind in ("lstm", "gru"):
        fresh = gradient_norms(RecurrentLayer(kind, 6, 16, np.random.default_rng(1)), x)
        held = gradient_norms(open_gate(RecurrentLayer(kind, 6, 16, np.random.default_rng(1)), 4.0), x)
        assert fresh[0] / fresh[-1] < 1e-5
        assert held[0] / held[-1] > 1e-2


def test_memory_is_learned_where_gradients_arrive():
    task = Recall(steps=12, updates=150, size=16)
    plain, _ = learn_to_recall("tanh", Recall(steps=20, updates=60, size=16))
    held, _ = learn_to_recall("lstm", Recall(steps=task.steps, updates=task.updates, size=task.size, bias=4.0))
    assert plain < 0.5
    assert held > 0.95


def test_strands_ask_every_character_once():
    text = np.arange(50)
    rows = strands(text, 3)
    assert rows.shape == (3, 17)
    source = pieces(rows, 5)
    asked = np.concatenate([next(source)[1].ravel() for _ in range(3)])
    assert len(set(asked.tolist())) == len(asked) == 45
    ids, wanted, begins = next(source)  # round again
    assert begins
    assert np.array_equal(ids[:, 1:], wanted[:, :-1])


def test_truncated_training_learns_and_repeats_by_seed():
    text = np.array([0, 1, 2, 3, 4] * 60)
    runs = []
    for _ in range(2):
        model = RecurrentModel(RecurrentConfig(symbols=5, kind="gru", width=4, size=8))
        history = train_truncated(model, text, 6, TrainConfig(steps=80, batch=4, rate=2e-2, warmup=5))
        runs.append((history, model.parameters()["head.weight"].data))
    assert runs[0][0][-1] < 0.1 < 1.4 < runs[0][0][0]
    assert runs[0][0] == runs[1][0]
    assert np.array_equal(runs[0][1], runs[1][1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: RecurrentLayer("elman", 2, 3, np.random.default_rng(0)), "known: tanh, relu, lstm, gru"),
        (lambda: Recurrent("gru", 2, 3, np.random.default_rng(0), layers=0), "at least 1"),
        (lambda: layer_of("gru").run(Tensor(np.ones((2, 0, 3)))), "at least one place"),
        (lambda: layer_of("gru").run(Tensor(np.ones((2, 5, 3))), None, np.array([6, 1])), "1 to 5"),
        (lambda: layer_of("gru").run(Tensor(np.ones((2, 5, 3))), None, np.array([2])), "for 2 texts"),
        (lambda: layer_of("lstm").run(Tensor(np.ones((2, 5, 3))), (Tensor(np.ones((2, 4))),)), "carries 2"),
        (lambda: Recurrent("gru", 3, 4, np.random.default_rng(0), 2).run(Tensor(np.ones((2, 5, 3))), []), "0 states"),
        (lambda: open_gate(layer_of("tanh"), 3.0), "no gate"),
        (lambda: set_spectral_norm(layer_of("lstm"), 1.0), "give a tanh or relu layer"),
        (lambda: strands(np.arange(4), 9), "9 strands"),
        (lambda: next(pieces(np.zeros((2, 4), int), 9)), "no piece of 9"),
    ],
)
def test_what_cannot_be_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
