"""NumPy networks that read digits: a few seconds show that they learn, minutes show how well."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cairn.foundations.data import Split, load_digits, read_mnist, split_images, write_idx
from cairn.foundations.network import load, save
from cairn.foundations.vision import Result, cnn, mlp, pictures, train, train_digits, train_mnist
from cairn.foundations.vision.__main__ import main
from cairn.foundations.vision.train import TrainSettings

REAL = Path(__file__).parents[2] / "shared" / "data" / "vision"


@pytest.fixture(scope="module")
def digits() -> Split:
    pytest.importorskip("sklearn")
    return load_digits()


@pytest.fixture(scope="module")
def short(digits) -> Result:
    return train(digits, "cnn", TrainSettings(epochs=2), watch_every=20)


def test_a_short_training_is_far_above_chance(short):
    assert short.low > 0.7  # of ten classes
    assert short.n == 359
    assert short.accuracy == pytest.approx((short.predicted == short.split.test_y).mean())
    assert short.low < short.accuracy < short.high
    assert [epoch.epoch for epoch in short.history] == [0, 1]
    assert short.history[1].loss < short.history[0].loss
    assert short.watch is not None
    assert len(short.watch.snapshots) == 4


def test_the_same_seed_gives_the_same_network(digits):
    quick = TrainSettings(epochs=1, batch_size=64)
    first, again, other = (train(digits, "mlp", replace(quick, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.outputs_NC, again.outputs_NC)
    assert not np.array_equal(first.outputs_NC, other.outputs_NC)


def test_labels_decide(digits):
    """With shuffled labels nothing about the test digits can be learned: the figures come from the pictures."""
    rng = np.random.default_rng(0)
    shuffled = digits._replace(train_y=rng.permutation(digits.train_y))
    assert train(shuffled, "mlp", TrainSettings(epochs=3)).low < 0.15


def test_networks_fit_pictures_of_any_size():
    rng = np.random.default_rng(0)
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 12, 20)):
        for build in (mlp, cnn):
            model = build(shape, 7, rng)
            assert model(np.zeros((2, *shape))).shape == (2, 7)


def test_an_unknown_network_is_named(digits):
    with pytest.raises(ValueError, match="there are mlp, cnn"):
        train(digits, "transformer")


def test_a_trained_network_can_be_stored(short, tmp_path):
    path = save(short.model, tmp_path / "digits.npz")
    other = cnn((1, 8, 8), 10, np.random.default_rng(9)).astype(np.float32).eval()
    load(other, path)
    np.testing.assert_allclose(other(short.split.test_x).data, short.outputs_NC, atol=1e-4)


def test_mnist_files(tmp_path, digits):
    """The IDX way, with files that the test writes."""
    x = (np.kron(digits.train_x[:300, 0], np.ones((3, 3))) * 255).astype(np.uint8)
    images, labels = (
        write_idx(tmp_path / "x.gz", x),
        write_idx(tmp_path / "y.gz", digits.train_y[:300].astype(np.uint8)),
    )
    split = split_images(*read_mnist(images, labels))
    result = train(split, "mlp", TrainSettings(epochs=4))
    assert result.split.train_x.shape[1:] == (1, 24, 24)
    assert result.low > 0.3


@pytest.fixture
def files(tmp_path, digits):
    """A small pair in MNIST's format."""
    x = (digits.train_x[:200, 0] * 255).astype(np.uint8)
    write_idx(tmp_path / "x.gz", x)
    write_idx(tmp_path / "y.gz", digits.train_y[:200].astype(np.uint8))
    return ["--images", str(tmp_path / "x.gz"), "--labels", str(tmp_path / "y.gz")]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_command_trains_on_files_draws_and_saves(files, tmp_path, capsys, model):
    words = [*files, "--model", model, "--epochs", "2", "--seed", "3"]
    assert main([*words, "--pictures", str(tmp_path / "new" / "pictures"), "--out", str(tmp_path / "net.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pictures of 1 x 8 x 8: 139 to learn from, 20 to watch, 41 to test"
    assert [line.split(":")[0] for line in lines[1:3]] == ["epoch 1 of 2", "epoch 2 of 2"]
    drawn = {line.removeprefix("drawn: ") for line in lines if line.startswith("drawn")}
    assert drawn == {str(path) for path in (tmp_path / "new" / "pictures").iterdir()}
    assert len(drawn) == (5 if model == "cnn" else 4)
    build = {"mlp": mlp, "cnn": cnn}[model]
    load(build((1, 8, 8), 10, np.random.default_rng(0)), tmp_path / "net.npz")


def test_the_command_says_mistakes_in_one_line_before_it_trains(files, tmp_path, capsys):
    (tmp_path / "file").write_text("hello")
    mistakes = {
        "go together": files[:2],
        "does not exist": [*files[:3], str(tmp_path / "none")],
        "not an IDX file": ["--images", str(tmp_path / "file"), *files[2:]],
        "pictures are": ["--images", files[3], "--labels", files[1]],
        "epochs must be": [*files, "--epochs", "0"],
        "--seed": [*files, "--seed", "-1"],
        "name a file": [*files, "--out", str(tmp_path)],
        "in a folder that is there": [*files, "--out", str(tmp_path / "no" / "net.npz")],
        "exists": [*files, "--pictures", str(tmp_path / "file")],
    }
    for says, words in mistakes.items():
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: ")
        assert says in err
        assert err.count("\n") == 1
        assert "epoch 1" not in out


def test_a_class_that_only_the_test_part_has_counts(digits):
    rare = digits._replace(test_y=np.where(digits.test_y == 9, 12, digits.test_y))
    result = train(rare, "mlp", TrainSettings(epochs=1, batch_size=128))
    assert result.outputs_NC.shape == (359, 13)


def test_curves_of_a_bad_start_are_seen(short, tmp_path):
    """One epoch is a point; a curve wholly above 15 % is not cut off."""
    import matplotlib.figure

    shown = []
    bad = replace(short, history=[short.history[0]._replace(validation_measure=0.2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: shown.append(figure))
        pictures.curves(bad, tmp_path / "c.svg")
    line = shown[0].axes[1].lines[0]
    assert line.get_ydata()[0] == pytest.approx(80)
    assert shown[0].axes[1].get_ylim()[1] > 80
    assert line.get_marker() == "o"


def test_pictures_of_a_network(short, tmp_path):
    for draw in (pictures.curves, pictures.filters, pictures.confusion, pictures.mistakes):
        first = draw(short, tmp_path / f"a-{draw.__name__}.svg").read_bytes()
        assert first.startswith(b"<?xml")
        assert len(first) > 5000
    with pytest.raises(ValueError, match="no convolution"):
        pictures.filters(replace(short, model=mlp((1, 8, 8), 10, np.random.default_rng(0))), tmp_path / "b.svg")


def test_a_perfect_network_has_no_mistakes(short, tmp_path):
    perfect = replace(short, outputs_NC=np.eye(10)[short.split.test_y])
    assert b"0 of 359 test pictures are wrong" in pictures.confusion(perfect, tmp_path / "c.svg").read_bytes()
    assert b"0 of 359 test pictures are wrong (red)" in pictures.mistakes(perfect, tmp_path / "m.svg").read_bytes()


def test_a_healthy_training_has_no_findings(short):
    assert short.watch.findings() == []


@pytest.mark.slow
@pytest.mark.parametrize(("model", "bound"), [("mlp", 0.97), ("cnn", 0.98)])
def test_full_accuracy_on_digits(model, bound):
    """Over three seeds together."""
    results = [train_digits(model, seed) for seed in range(3)]
    assert sum(result.accuracy for result in results) / 3 > bound


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real MNIST files are not here")
@pytest.mark.parametrize(("model", "bound"), [("mlp", 0.96), ("cnn", 0.98)])
def test_full_accuracy_on_mnist(model, bound):
    files = (REAL / f"mnist-t10k-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1"))
    result = train_mnist(*files, model=model)
    assert result.n == 2000
    assert result.accuracy > bound
