"""Layers, losses, optimizers and what stands around them: properties that hold whatever torch says, and clear errors.

That values and gradients are torch's is tested in tests/parity/test_foundations_network_parity.py."""

import io
import pickle
import tracemalloc
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.foundations import network
from cairn.foundations.network import (
    Adam,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    Flatten,
    LayerNorm,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Watch,
    accuracy,
    augmentation,
    clip_norm,
    cross_entropy,
    fit,
    initialisers,
    load,
    mse,
    predict,
    save,
    schedules,
)
from cairn.foundations.network.diagnostics import Snapshot, dead_share
from cairn.foundations.network.diagnostics_picture import picture
from cairn.foundations.tensor import Tensor, gradcheck


def small_cnn(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(3, 4, 3, rng, padding=1),
        BatchNorm(4),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Dropout(0.5, rng),
        Sequential(Dense(4 * 3 * 2, 5, rng), LayerNorm(5)),
    )


# --- layers


def test_parameters_are_named_by_their_place():
    names = list(small_cnn().parameters())
    assert names == [
        "0.weight", "0.bias", "1.weight", "1.bias", "6.0.weight", "6.0.bias", "6.1.weight", "6.1.bias"
    ]  # fmt: skip
    assert set(small_cnn().arrays()) - set(names) == {"1.running_mean", "1.running_var"}


def test_a_shared_weight_is_there_once_and_a_frozen_one_is_stored(tmp_path):
    rng = np.random.default_rng(0)
    first, second, last = Dense(3, 3, rng, bias=False), Dense(3, 3, rng, bias=False), Dense(3, 2, rng)
    model = Sequential(first, second, last)
    second.weight = first.weight
    last.weight.requires_grad = False
    assert list(model.parameters()) == ["0.weight", "2.bias"]
    assert list(model.arrays()) == ["0.weight", "2.weight", "2.bias"]
    optimizer, before = network.SGD(model.parameters(), lr=0.1), first.weight.data.copy()
    model(Tensor(rng.normal(size=(4, 3)))).sum().backward()
    assert first.weight.grad is not None
    gradient = first.weight.grad.copy()
    optimizer.step()
    np.testing.assert_allclose(first.weight.data, before - 0.1 * gradient)  # one step, not two
    frozen = last.weight.data.copy()
    path = save(model, tmp_path / "a.npz")
    last.weight.data[...] = 0
    load(model, path)
    np.testing.assert_array_equal(last.weight.data, frozen)


def test_train_and_eval_reach_every_layer():
    model = small_cnn()
    x = Tensor(np.random.default_rng(1).normal(size=(7, 3, 6, 4)))
    first, second = model(x).data, model(x).data
    assert not np.allclose(first, second)  # dropout
    model.eval()
    before = model.arrays()["1.running_mean"].copy()
    np.testing.assert_array_equal(model(x).data, model(x).data)
    np.testing.assert_array_equal(model.arrays()["1.running_mean"], before)
    assert not any(layer.training for _, layer in model.layers())


def test_float32_stays_float32_from_input_to_step():
    """One float64 array on the way would double the time of everything after it."""
    model = small_cnn().astype(np.float32)
    optimizer = Adam(model.parameters())
    x, y = np.random.default_rng(1).normal(size=(7, 3, 6, 4)).astype(np.float32), np.arange(7) % 5
    loss = cross_entropy(model(Tensor(x)), y, label_smoothing=0.1)
    loss.backward()
    optimizer.step()
    assert loss.dtype == np.float32
    assert {array.dtype for array in model.arrays().values()} == {np.dtype(np.float32)}
    assert {tensor.grad.dtype for tensor in model.parameters().values()} == {np.dtype(np.float32)}
    signs, targets = np.where(y > 2, 1, -1), np.eye(5)[y]
    for value in (
        network.mse(model(Tensor(x)), targets),
        network.huber(model(Tensor(x)), targets),
        network.focal(model(Tensor(x)), targets),
        network.binary_cross_entropy_with_logits(model(Tensor(x)), targets),
        network.binary_cross_entropy(Sigmoid()(model(Tensor(x))), targets),
        network.kl_divergence(model(Tensor(x)), targets),
        network.hinge(model(Tensor(x))[:, 0], signs),
        network.multiclass_hinge(model(Tensor(x)), y),
        network.contrastive(model(Tensor(x)), model(Tensor(x)), y > 2),
        network.info_nce(model(Tensor(x)), model(Tensor(x))),
    ):
        assert value.dtype == np.float32


def test_a_network_passes_gradcheck():
    model = small_cnn().eval()
    x = Tensor(np.random.default_rng(2).normal(size=(2, 3, 6, 4)), requires_grad=True)
    gradcheck(lambda x: cross_entropy(model(x), np.array([1, 4])), [x])


# --- losses: what must hold without an oracle


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_losses_are_smallest_where_they_should_be(seed):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(5, 4)), rng.integers(0, 4, size=5)
    assert cross_entropy(Tensor(np.eye(4)[y] * 50), y).item() < 1e-9
    assert cross_entropy(Tensor(np.zeros((5, 4))), y).item() == pytest.approx(np.log(4))
    assert cross_entropy(Tensor(z + 7.0), y).item() == pytest.approx(cross_entropy(Tensor(z), y).item())
    q = rng.dirichlet(np.ones(4), size=5)
    assert network.kl_divergence(Tensor(np.log(q)), q).item() == pytest.approx(0, abs=1e-12)
    assert network.kl_divergence(Tensor(np.log(np.full((5, 4), 0.25))), q).item() > 0
    assert (
        network.mse(Tensor(z), z).item() == network.l1(Tensor(z), z).item() == network.huber(Tensor(z), z).item() == 0
    )
    # chance of InfoNCE is log B, and identical pairs are told apart
    assert network.info_nce(Tensor(np.ones((5, 3))), Tensor(np.ones((5, 3)))).item() == pytest.approx(np.log(5))
    assert network.info_nce(Tensor(np.eye(5)), Tensor(np.eye(5)), temperature=0.01).item() < 1e-9


def test_losses_survive_extreme_scores():
    z, y = np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0.0, 0.0, 1.0])
    focal = [lambda x, y, gamma=gamma: network.focal(x, y, gamma=gamma) for gamma in (0.0, 0.5, 1.0, 2.0)]
    for loss in (network.binary_cross_entropy_with_logits, *focal):
        x = Tensor(z, requires_grad=True)
        value = loss(x, y)
        value.backward()
        assert np.isfinite(value.data)
        assert np.isfinite(x.grad).all()
    p = Tensor(np.array([0.0, 1.0, 1.0, 0.0]), requires_grad=True)
    value = network.binary_cross_entropy(p, y)
    value.backward()
    assert value.item() == pytest.approx(100.0)  # all are wrong, and each is bounded
    assert np.isfinite(p.grad).all()
    a = Tensor(np.zeros((2, 3)), requires_grad=True)
    (network.contrastive(a, Tensor(np.zeros((2, 3))), np.array([1, 0])) + network.info_nce(a, a)).backward()
    assert np.isfinite(a.grad).all()


def test_focal_fades_what_is_easy():
    """At gamma = 2 an example predicted at 0.9 counts a hundredth of what cross-entropy gives it."""
    logit = np.array([np.log(9.0)])
    plain = network.binary_cross_entropy_with_logits(Tensor(logit), np.ones(1)).item()
    assert network.focal(Tensor(logit), np.ones(1), alpha=1.0).item() == pytest.approx(0.01 * plain)
    assert network.focal(Tensor(logit), np.ones(1), alpha=0.5, gamma=0.0).item() == pytest.approx(0.5 * plain)


def test_memory_grows_with_classes_not_with_their_square():
    z, y = Tensor(np.zeros((2, 5000))), np.array([0, 4999])
    for loss in (cross_entropy, network.multiclass_hinge):
        tracemalloc.start()
        loss(z, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 << 20  # 5000 x 5000 numbers are 191 MB


def test_targets_may_be_lists():
    targets: Any = [1, 3]
    assert mse(Tensor(np.zeros(2)), targets).item() == 5
    assert cross_entropy(Tensor(np.zeros((2, 4))), targets).item() == pytest.approx(np.log(4))
    assert network.multiclass_hinge(Tensor(np.zeros((2, 4))), targets).item() == 0.75


def test_padding_changes_nothing():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(3, 4, 6)), rng.integers(0, 6, size=(3, 4))
    y[2, 1:] = -100
    kept = y != -100
    assert cross_entropy(Tensor(z), y).item() == pytest.approx(cross_entropy(Tensor(z[kept]), y[kept]).item())


def weight() -> Tensor:
    return Tensor(np.zeros(2), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mse(Tensor(np.zeros((3, 1))), np.zeros(3)), "cannot be compared"),
        (lambda: cross_entropy(Tensor(np.zeros((2, 3))), np.array([0, 3])), "from 0 to 2"),
        (lambda: cross_entropy(Tensor(np.zeros((2, 3))), np.array([0.0, 1.0])), "of integers"),
        (lambda: cross_entropy(Tensor(np.zeros((2, 3))), np.array([-100, -100])), "no target counts"),
        (lambda: cross_entropy(Tensor(np.zeros((1, 3))), np.array([0]), weights_C=np.ones(2)), "3 weights"),
        (lambda: network.hinge(Tensor(np.zeros(2)), np.array([0, 1])), "-1 and 1"),
        (lambda: network.huber(Tensor(np.zeros(2)), np.zeros(2), delta=0), "positive"),
        (lambda: Dropout(1.0, np.random.default_rng(0)), "below 1"),
        (lambda: network.SGD([Tensor(np.zeros(2), requires_grad=True)], nesterov=True), "momentum"),
        (lambda: Adam([]), "empty"),
        (lambda: Adam([weight()], lr=-1), "at least 0"),
        (lambda: Adam([weight()], lr=float("nan")), "at least 0"),
        (lambda: Adam([weight()], betas=(0.9, 1.0)), "below 1"),
        (lambda: Adam([weight()] * 2), "there twice"),
        (lambda: cross_entropy(Tensor(np.zeros((1, 3))), np.array([0]), label_smoothing=1.5), "from 0 to 1"),
        (lambda: network.multiclass_hinge(Tensor(np.zeros((2, 3))), np.array([-1, 0])), "from 0 to 2"),
        (lambda: network.multiclass_hinge(Tensor(np.zeros((2, 3))), np.array([0, 3])), "from 0 to 2"),
        (lambda: network.multiclass_hinge(Tensor(np.zeros((2, 3))), np.array([0])), "2 rows"),
        (lambda: network.focal(Tensor(np.zeros(2)), np.zeros(2), gamma=-1), "gamma"),
        (lambda: network.info_nce(Tensor(np.eye(2)), Tensor(np.eye(2)), temperature=0), "temperature"),
        (lambda: network.contrastive(Tensor(np.eye(2)), Tensor(np.eye(2)), np.ones((2, 1))), "cannot be compared"),
        (lambda: accuracy(np.eye(3), np.arange(3)[:, None]), "classes"),
        (lambda: predict(Dense(3, 2, np.random.default_rng(0)), np.zeros((0, 3))), "no rows"),
        (lambda: clip_norm([weight()], -1.0), "must be positive"),
        (lambda: network.clip_value([weight()], 0.0), "must be positive"),
        (lambda: Watch(Dense(1, 1, np.random.default_rng(0)), every=0), "at least 1"),
        (lambda: augmentation.rotate(np.zeros((1, 1, 4, 4), np.uint8), np.random.default_rng(0), 5), "x / 255"),
        (lambda: augmentation.noise(np.zeros((1, 1, 4, 4), np.uint8), np.random.default_rng(0), 5), "x / 255"),
        (lambda: augmentation.flip(np.zeros((2, 4, 4)), np.random.default_rng(0)), "batch, channels"),
        (lambda: augmentation.shift(np.zeros((1, 1, 4, 4)), np.random.default_rng(0), -1), "at least 0"),
        (lambda: augmentation.zoom(np.zeros((1, 1, 4, 4)), np.random.default_rng(0), 1.0), "below 1"),
        (lambda: schedules.cosine(0), "at least 1"),
        (lambda: schedules.one_cycle(2), "more steps"),
        (lambda: initialisers.he_normal((3,), np.random.default_rng(0)), "at least 2 dimensions"),
        (lambda: initialisers.gain("swish"), "known"),
        (lambda: EarlyStopping(0), "at least 1"),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- optimizers, schedules, initialisers


def test_optimizers_write_in_place_and_leave_gradients():
    for kind in (network.SGD, network.RMSProp, network.Adagrad, network.Adam, network.AdamW):
        w = Tensor(np.ones((3, 2)), requires_grad=True)
        kept, optimizer = w.data, kind([w], lr=0.1, weight_decay=0.1)
        for _ in range(3):
            w.grad = np.full((3, 2), 0.5)
            optimizer.step()
        assert w.data is kept
        assert (w.grad == 0.5).all()
        assert (w.data < 1).all()
        optimizer.zero_grad()
        assert w.grad is None
        before = w.data.copy()
        optimizer.step()  # without a gradient nothing moves, decay included
        np.testing.assert_array_equal(w.data, before)


def test_a_graph_that_needs_old_weights_says_so():
    w = Tensor(np.ones(2), requires_grad=True)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    network.SGD([w], lr=0.1).step()
    with pytest.raises(ValueError, match="changed in place"):
        loss.backward()


def test_schedules_hold_their_end():
    for schedule, end in ((schedules.linear(10, 1, 0.1), 0.1), (schedules.cosine(10, 0.2), 0.2)):
        assert [schedule(step) for step in (10, 11, 500)] == pytest.approx([end] * 3)
    cycle = schedules.one_cycle(20)
    assert cycle(19) == cycle(100) == pytest.approx(1 / 25e4)
    assert max(cycle(step) for step in range(20)) == pytest.approx(1.0, abs=0.02)
    warm = schedules.warm_up(4, then=schedules.constant())
    assert [warm(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_orthogonal_weights_keep_lengths(rows, columns, seed):
    w = initialisers.orthogonal((rows, columns), np.random.default_rng(seed))
    gram = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=1e-10)


def test_gpt2_weights_of_the_residual_stream_shrink_with_depth():
    rng = np.random.default_rng(0)
    assert initialisers.gpt2((300, 300), rng).std() == pytest.approx(0.02, rel=0.02)
    assert initialisers.gpt2((300, 300), rng, layers=8).std() == pytest.approx(0.02 / 4, rel=0.02)


def test_a_gradient_that_is_short_enough_is_not_clipped():
    w = Tensor(np.zeros(2), requires_grad=True)
    w.grad = np.array([0.3, 0.4])
    assert clip_norm({"w": w}, 1.0) == pytest.approx(0.5)
    assert w.grad.tolist() == [0.3, 0.4]


# --- saving


def test_saved_weights_come_back(tmp_path):
    first, second = small_cnn(0), small_cnn(1)
    first(Tensor(np.random.default_rng(0).normal(size=(7, 3, 6, 4))))  # moves the running statistics
    path = save(first, tmp_path / "a.npz")
    load(second, path)
    x = Tensor(np.random.default_rng(3).normal(size=(2, 3, 6, 4)))
    np.testing.assert_array_equal(first.eval()(x).data, second.eval()(x).data)
    assert path.read_bytes() == save(second, tmp_path / "b.npz").read_bytes()
    half = small_cnn(2).astype(np.float32)
    load(half, path)
    assert half.arrays()["0.weight"].dtype == np.float32


def entry(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


class Bomb:
    def __reduce__(self):
        return (print, ("this code must never run",))


def test_wrong_and_hostile_files_change_nothing(tmp_path, capsys):
    model = Dense(3, 2, np.random.default_rng(0))
    before = {name: array.copy() for name, array in model.arrays().items()}
    good = {"weight.npy": entry(np.ones((2, 3))), "bias.npy": entry(np.ones(2))}
    huge = entry(np.ones((2, 3))).replace(b"(2, 3), }", b"(2000000000, 3), }")
    files = {
        "lacks": {"weight.npy": good["weight.npy"]},
        r"lacks .'bias\.npy', 'weight\.npy'": {"weight": good["weight.npy"], "bias": good["bias.npy"]},
        "of another model": good | {"extra.npy": entry(np.ones(1))},
        "where the model has": good | {"weight.npy": entry(np.ones((3, 2)))},
        "of int64": good | {"bias.npy": entry(np.ones(2, dtype=np.int64))},
        "of object": good | {"bias.npy": entry(np.array([Bomb(), Bomb()]), allow_pickle=True)},
        "2000000000": good | {"weight.npy": huge},
        r"weight\.npy|read as|array": good | {"weight.npy": good["weight.npy"][:-8]},
        "magic|read as": good | {"weight.npy": pickle.dumps(Bomb())},
        "read as|header": good | {"weight.npy": good["weight.npy"][:20]},
    }
    for says, members in files.items():
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match=rf"bad\.npz cannot be read.*({says})"):
            load(model, tmp_path / "bad.npz")
    (tmp_path / "text.npz").write_bytes(b"hello")
    for path in (tmp_path / "text.npz", tmp_path / "none.npz"):
        with pytest.raises(ValueError, match="cannot be read"):
            load(model, path)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert not capsys.readouterr().out


# --- the loop


def line(rng: np.random.Generator, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 3))
    return x, x @ np.array([[1.0], [-2.0], [0.5]]) + 3


def test_fit_finds_a_line_and_the_same_one_again():
    def once():
        rng = np.random.default_rng(0)
        x, y = line(rng)
        model = Dense(3, 1, rng)
        history = fit(model, mse, network.SGD(model.parameters(), lr=0.1), x, y, epochs=40, batch_size=8, rng=rng)
        return model, history

    model, history = once()
    np.testing.assert_allclose(model.weight.data, [[1.0, -2.0, 0.5]], atol=1e-3)
    assert history[-1].loss < 1e-5 < history[0].loss
    assert np.isnan(history[0].validation_loss)
    assert [e.loss for e in once()[1]] == [e.loss for e in history]


def test_early_stopping_gives_the_best_weights_back():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 8)), rng.normal(size=(12, 1))  # nothing to learn: it can only get worse
    held = rng.normal(size=(50, 8)), rng.normal(size=(50, 1))
    model = Sequential(Dense(8, 32, rng), ReLU(), Dense(32, 1, rng))
    optimizer = Adam(model.parameters(), lr=0.02)
    history = fit(
        model, mse, optimizer, x, y, epochs=200, batch_size=4, rng=rng, validation=held, patience=4, measure=None
    )
    losses = [epoch.validation_loss for epoch in history]
    assert len(history) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 4
    assert mse(Tensor(predict(model, held[0])), held[1]).item() == pytest.approx(min(losses))


def test_a_loss_that_is_no_number_is_not_an_improvement():
    model = Dense(2, 1, np.random.default_rng(0))
    stopping = EarlyStopping(2)
    assert not stopping.update(1.0, model)
    kept = model.weight.data.copy()
    model.weight.data += 1
    assert not stopping.update(float("nan"), model)
    assert stopping.update(float("inf"), model)
    stopping.restore(model)
    np.testing.assert_array_equal(model.weight.data, kept)


def test_fit_follows_schedule_clipping_augmentation_and_report():
    rng = np.random.default_rng(0)
    x, y = line(rng)
    model, seen, rates = Dense(3, 1, rng), [], []
    optimizer = network.SGD(model.parameters(), lr=0.1)
    before = model.weight.data.copy()
    fit(
        model, mse, optimizer, x, y, epochs=3, batch_size=40, rng=rng,
        schedule=lambda step: 0.5**step, clip=0.01, report=rates.append,
        augment=lambda x, rng: (seen.append(len(x)), x)[1],
    )  # fmt: skip
    assert [epoch.lr for epoch in rates] == pytest.approx([0.1, 0.05, 0.025])
    assert optimizer.lr == 0.1
    assert seen == [40] * 3
    assert 0 < np.linalg.norm(model.weight.data - before) <= 0.01 * 0.175 + 1e-9


def test_fit_refuses_what_cannot_work():
    rng = np.random.default_rng(0)
    x, y = line(rng)
    model = Dense(3, 1, rng)
    optimizer = network.SGD(model.parameters(), lr=1e200)
    with pytest.raises(ValueError, match="as many"):
        fit(model, mse, optimizer, x, y[:3], epochs=1, batch_size=8, rng=rng)
    with pytest.raises(ValueError, match="give validation"):
        fit(model, mse, optimizer, x, y, epochs=1, batch_size=8, rng=rng, patience=1)
    with pytest.raises(ValueError, match="give validation"):
        fit(model, mse, optimizer, x, y, epochs=1, batch_size=8, rng=rng, measure=accuracy)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        fit(model, mse, optimizer, x, y, epochs=0, batch_size=8, rng=rng)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"the loss is .* at step"):
        fit(model, mse, optimizer, x, y, epochs=9, batch_size=8, rng=rng, schedule=lambda step: 0.5**step)
    assert optimizer.lr == 1e200  # a run that breaks off leaves no scheduled rate behind


def test_predict_leaves_the_model_as_it_was():
    model = small_cnn()
    x = np.random.default_rng(0).normal(size=(9, 3, 6, 4))
    np.testing.assert_allclose(predict(model, x, batch_size=4), predict(model, x))
    assert model.training
    model[1].eval()  # a frozen normalization
    predict(model, x)
    with pytest.raises(ValueError, match="conv2d"):
        predict(model, x[:, :2])
    assert model.training
    assert [layer.training for _, layer in model.layers()] == [True, False, *[True] * 7]
    assert accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])) == 0.5


def test_integers_are_looked_up():
    rng = np.random.default_rng(0)
    model = Sequential(Embedding(5, 8, rng, initialiser=initialisers.xavier_normal), Dense(8, 5, rng))
    ids = np.arange(200) % 5
    fit(model, cross_entropy, Adam(model.parameters(), lr=0.05), ids, (ids + 1) % 5, epochs=10, batch_size=20, rng=rng)
    assert predict(model, np.arange(5)).argmax(1).tolist() == [1, 2, 3, 4, 0]


# --- augmentation


def pictures(seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).random(size=(6, 2, 7, 9)).astype(dtype)


CHANGES = {
    "shift": lambda x, rng: augmentation.shift(x, rng, 2),
    "flip": augmentation.flip,
    "rotate": lambda x, rng: augmentation.rotate(x, rng, 20),
    "zoom": lambda x, rng: augmentation.zoom(x, rng, 0.2),
    "cutout": lambda x, rng: augmentation.cutout(x, rng, 3),
    "noise": lambda x, rng: augmentation.noise(x, rng, 0.1),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_augmentation_keeps_shape_type_and_the_original(name, dtype):
    x = pictures(dtype=dtype)
    kept = x.copy()
    made = [CHANGES[name](x, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(x, kept)
    assert made[0].shape == x.shape
    assert made[0].dtype == dtype
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], x)


def test_turns_of_a_quarter_and_no_turn_are_exact():
    x = pictures()[..., :7]  # square
    quarter = np.tile(np.array([[0.0, -1.0], [1.0, 0.0]]), (6, 1, 1))
    np.testing.assert_allclose(augmentation.warp(x, quarter), np.rot90(x, -1, axes=(2, 3)), atol=1e-12)
    np.testing.assert_allclose(augmentation.rotate(x, np.random.default_rng(0), 0.0), x, atol=1e-12)
    mirror = np.tile(np.diag([1.0, -1.0]), (6, 1, 1))
    np.testing.assert_allclose(augmentation.warp(x, mirror), x[..., ::-1], atol=1e-12)


def test_rotation_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = pictures()
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(x.shape[2:]) - 1) / 2
    ours = augmentation.warp(x, np.tile(turn, (6, 1, 1)))
    for image, changed in zip(x.reshape(-1, 7, 9), ours.reshape(-1, 7, 9)):
        wanted = ndimage.affine_transform(image, turn, middle - turn @ middle, order=1, mode="grid-constant")
        np.testing.assert_allclose(changed, wanted, atol=1e-10)


def test_mixup_mixes_pictures_and_targets_alike():
    x, targets = pictures(), np.eye(6)
    mixed, shares = augmentation.mixup(x, targets, np.random.default_rng(0), alpha=1.0)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(mixed, np.einsum("bk,kchw->bchw", shares, x))


def test_cutout_and_shift_leave_black():
    x = np.ones((50, 1, 8, 8))
    holes = 64 - augmentation.cutout(x, np.random.default_rng(0), 4).sum(axis=(1, 2, 3))
    assert holes.max() == 16
    assert holes.min() >= 4  # a quarter is always inside
    moved = augmentation.shift(x, np.random.default_rng(0), 2).sum(axis=(1, 2, 3))
    assert set(moved) <= {8 * 8, 8 * 7, 8 * 6, 7 * 7, 7 * 6, 6 * 6}
    assert len(set(moved)) > 3


# --- diagnostics


def watched(bend, make, lr: float, layers: int = 5) -> Watch:
    rng = np.random.default_rng(0)
    steps = [step for _ in range(layers) for step in (Dense(16, 16, rng, initialiser=make), bend())]
    model = Sequential(*steps, Dense(16, 3, rng))
    watch = Watch(model, every=2)
    x, y = rng.normal(size=(96, 16)), rng.integers(0, 3, size=96)
    optimizer = network.SGD(model.parameters(), lr=lr)
    fit(model, cross_entropy, optimizer, x, y, epochs=2, batch_size=16, rng=rng, watch=watch)
    assert [snapshot.step for snapshot in watch.snapshots] == [0, 2, 4, 6, 8, 10]
    return watch


def test_a_healthy_network_has_no_findings():
    assert watched(ReLU, initialisers.he_normal, 0.01).findings() == []
    assert Watch(Dense(1, 1, np.random.default_rng(0))).findings() == []


@pytest.mark.parametrize(
    ("bend", "make", "lr", "says"),
    [
        (Sigmoid, initialisers.xavier_normal, 0.01, "gradients vanish"),
        (network.Tanh, lambda shape, rng: initialisers.normal(shape, rng, 3.0), 0.01, "at their limits"),
        (ReLU, lambda shape, rng: -np.abs(initialisers.he_normal(shape, rng)), 0.01, "ReLU units are 0"),
        (ReLU, initialisers.he_normal, 3.0, "lower the learning rate"),
        (ReLU, initialisers.he_normal, 1e-8, "raise the learning rate"),
    ],
)
def test_planted_faults_are_found(bend, make, lr, says):
    assert any(says in line for line in watched(bend, make, lr).findings())


def test_gradients_that_explode_or_break_are_found():
    watch = Watch(Dense(1, 1, np.random.default_rng(0)))
    for first, says in ((1e3, "explode"), (1e-3, "vanish"), (float("nan"), "no longer finite")):
        watch.snapshots = [Snapshot(0, gradients={"0.weight": first, "2.weight": 1.0})]
        assert len(watch.findings()) == 1
        assert says in watch.findings()[0]


def test_the_share_of_dead_units_is_exact():
    model = Sequential(Dense(2, 10, np.random.default_rng(0)), ReLU())
    model.parameters()["0.bias"].data[:3] = -1e6
    watch = Watch(model)
    with watch.step(0):
        model(Tensor(np.random.default_rng(1).normal(size=(500, 2)))).sum().backward()
    assert watch.snapshots[0].dead == {"1": 0.3}
    assert watch.snapshots[0].updates["0.weight"] == 0.0
    counts, edges = watch.snapshots[0].outputs["0"]
    assert counts.sum() == 5000
    assert len(edges) == len(counts) + 1
    assert all(layer.watcher is None for _, layer in model.layers())
    conv = np.zeros((2, 4, 3, 3))
    conv[1, 2, 0, 0] = 1.0
    assert dead_share(conv) == 0.75


def test_update_ratios_are_lengths_of_steps():
    model = Dense(2, 2, np.random.default_rng(0))
    watch = Watch(model)
    before = model.weight.data.copy()
    with watch.step(0):
        model.weight.data *= 0.99
    assert watch.snapshots[0].updates["weight"] == pytest.approx(0.01)
    assert "bias" not in watch.snapshots[0].updates  # it was all 0
    assert np.linalg.norm(before) > 0


def test_pictures_of_a_run_are_the_same_each_time(tmp_path):
    watch = watched(ReLU, initialisers.he_normal, 0.01, layers=2)
    assert picture(watch, tmp_path / "a.svg").read_bytes() == picture(watch, tmp_path / "b.svg").read_bytes()
    one = Watch(Dense(2, 1, np.random.default_rng(0)))
    with one.step(0):
        one.model(Tensor(np.ones((3, 2)))).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = picture(one, tmp_path / "one.svg").read_text()
    assert "layer Dense" in drawing
    with pytest.raises(ValueError, match="nothing was measured"):
        picture(Watch(Dense(1, 1, np.random.default_rng(0))), tmp_path / "c.svg")
