"""Regressions, clusters and splits by what they promise; leakage and failures by what they measure."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.foundations import metrics
from cairn.foundations.classical import (
    Chain,
    LinearRegression,
    LogisticRegression,
    Standardiser,
    failures,
    folds,
    kmeans,
    leakage,
    load,
    minimise,
    out_of_fold,
    score_of,
    train_validation_test,
)
from cairn.foundations.classical.demos import DEMOS
from cairn.foundations.classical.k_means import spread_start, squared_distances
from cairn.foundations.classical.survey import survey


def features(seed=0, n=60, d=4):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n, d)) * [1, 10, 0.1, 100][:d] + 5


def test_linear_regression_solves_the_normal_equations():
    rng, x = features()
    y = x @ rng.normal(size=4) + rng.normal(size=60)
    model = LinearRegression(tolerance=1e-13).fit(x, y)
    wanted = np.linalg.lstsq(np.column_stack([x, np.ones(60)]), y, rcond=None)[0]
    np.testing.assert_allclose(np.append(model.weights, model.intercept), wanted, rtol=1e-8)
    np.testing.assert_allclose(x.T @ (y - model.predict(x)), 0, atol=1e-6)  # what is left has nothing of any feature


def test_l2_solves_its_own_normal_equations():
    rng, x = features()
    y = x @ rng.normal(size=4) + rng.normal(size=60)
    z = (x - x.mean(0)) / x.std(0)
    model = LinearRegression(l2=0.5, tolerance=1e-13).fit(x, y)
    wanted = np.linalg.solve(z.T @ z / 60 + 0.5 * np.eye(4), z.T @ (y - y.mean()) / 60)
    np.testing.assert_allclose(model.standard_weights, wanted, atol=1e-9)


def test_what_is_no_information_changes_nothing():
    """A constant feature has no weight, a copy shares its own's, and units do not matter."""
    rng, x = features()
    y = x @ rng.normal(size=4)
    plain = LinearRegression().fit(x, y)
    more = np.column_stack([x, np.full(60, 3.0), x[:, 0]])
    both = LinearRegression().fit(more, y)
    assert both.weights[4] == 0
    assert both.weights[0] == pytest.approx(both.weights[5])
    np.testing.assert_allclose(both.predict(more), plain.predict(x), rtol=1e-6)
    for model in (LinearRegression, LogisticRegression):
        target = y if model is LinearRegression else (y > y.mean()).astype(int)
        np.testing.assert_allclose(
            model().fit(x * 1000 + 7, target).standard_weights, model().fit(x, target).standard_weights, rtol=1e-5
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_stands_at_the_minimum(classes):
    """A step to any side makes the loss larger."""
    rng, x = features()
    y = rng.integers(0, classes, 60)
    model = LogisticRegression(l2=0.05).fit(x, y)
    z = Standardiser().fit(x).transform(x)

    def loss(weights, intercept):
        model.weights, model.intercept = weights, intercept
        return metrics.log_loss(y, model.predict_proba(z), range(classes)) + 0.025 * np.sum(weights**2)

    lowest = loss(model.standard_weights, model.standard_intercept)
    for _ in range(50):
        step = 0.01 * rng.normal(size=model.standard_weights.shape)
        shift = 0.01 * rng.normal(size=model.standard_intercept.shape)
        assert loss(model.standard_weights + step, model.standard_intercept + shift) > lowest


def test_two_classes_are_named_in_any_way():
    _, x = features()
    number = (x[:, 0] > 5).astype(int)
    names = np.array(["left", "right"])[number]
    said = LogisticRegression().fit(x, names).predict(x)
    assert metrics.accuracy(names, said) > 0.9
    assert (said == np.array(["left", "right"])[LogisticRegression().fit(x, number).predict(x)]).all()


def test_without_a_minimum_it_says_so():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    with pytest.raises(ValueError, match="weights grow forever"):
        minimise(lambda w: -np.exp(-w), np.zeros(1), curvature=1.0, max_steps=100)
    with pytest.raises(ValueError, match=r"slope is still 0\.0"):  # its size: this slope is below 0
        minimise(lambda w: -np.exp(-w), np.zeros(1), curvature=1.0, max_steps=100)
    with pytest.raises(ValueError, match="after 0 steps is nan"):
        minimise(lambda w: w * np.nan, np.zeros(1), curvature=1.0)
    with pytest.raises(ValueError, match="must be finite numbers"):
        LinearRegression().fit(x, np.array([0, 1, 2, np.nan]))
    with pytest.raises(ValueError, match="class of sample 3 is nan"):
        LogisticRegression().fit(x, np.array([0, 1, 1, np.nan]))
    with pytest.raises(ValueError, match="2 features, but 1 were"):
        LinearRegression().fit([[0], [1]], [0, 1]).predict(np.ones((3, 2)))
    with pytest.raises(ValueError, match="column of 0 and 1"):
        LinearRegression().fit([["red"], ["blue"]], [0, 1])
    with pytest.raises(ValueError, match="nothing to tell apart"):
        LogisticRegression().fit(x, np.zeros(4))
    with pytest.raises(ValueError, match="feature 0 of sample 1 is nan"):
        LinearRegression().fit(np.array([[0.0], [np.nan]]), np.zeros(2))
    with pytest.raises(ValueError, match="for a single feature"):
        LinearRegression().fit(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match="give one number for each"):
        LinearRegression().fit(x, np.zeros((4, 1)))


@given(st.integers(0, 1000), st.integers(1, 6))
def test_k_means_comes_to_rest(seed, count):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(12, 2)), 0)  # many samples are the same, so that groups run empty
    found = kmeans(x, count, rng=rng)
    assert found.centres.shape == (count, 2)
    assert np.isfinite(found.centres).all()
    square = ((x[:, None] - found.centres) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(x, found.centres), square, atol=1e-9)
    assert found.inertia == pytest.approx(square.min(axis=1).sum(), abs=1e-9)
    one = kmeans(x, 1, rng=rng)
    np.testing.assert_allclose(one.centres[0], x.mean(axis=0))
    assert found.inertia <= one.inertia + 1e-9


@pytest.mark.parametrize("far", [1e6, 1e9])
def test_k_means_far_from_0_finds_the_same(far):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 6])
    near, moved = (kmeans(x + shift, 4, start=x[[0, 10, 30, 40]] + shift) for shift in (0.0, far))
    assert (near.labels == moved.labels).all()
    assert moved.inertia == pytest.approx(near.inertia, rel=1e-5)
    np.testing.assert_allclose(moved.centres - far, near.centres, atol=1e-5)
    with pytest.raises(ValueError, match="feature 1 of sample 0 is nan"):
        kmeans(x, 1, start=[[0.0, np.nan]])


def test_k_means_plus_plus_starts_apart():
    """Of ten distant groups the start has one each more often than a draw of samples would (10! / 10^10 = 0.04 %)."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(10) * 1000.0, 20)[:, None] + rng.normal(size=(200, 1))
    starts = [len(np.unique(spread_start(x, 10, rng).round(-3))) for _ in range(50)]
    assert np.mean(starts) > 9.9
    with pytest.raises(ValueError, match="give a start"):
        kmeans(x, 2)
    with pytest.raises(ValueError, match="no more than samples"):
        kmeans(x, 201, rng=rng)


@given(st.integers(2, 6), st.integers(0, 100))
def test_folds_test_each_sample_once(count, seed):
    rng = np.random.default_rng(seed)
    samples = int(rng.integers(count, 40))
    classes, groups = rng.integers(0, 3, samples), np.append(rng.integers(0, 9, samples), np.arange(count))
    for n, options in ((samples, {}), (samples, {"classes": classes}), (samples + count, {"groups": groups})):
        tested = []
        sizes = []
        for train, test in folds(n, count, rng, **options):
            assert not set(train) & set(test)
            assert len(train) + len(test) == n
            tested += test.tolist()
            sizes.append(len(test))
            if "groups" in options:
                assert not set(groups[train]) & set(groups[test])
            if "classes" in options:
                for c in range(3):
                    assert abs((classes[test] == c).sum() - (classes == c).sum() / count) < 1
        assert sorted(tested) == list(range(n))
        if "groups" not in options:
            assert max(sizes) - min(sizes) <= 1


def test_three_parts_hold_each_sample_once_and_every_class_in_its_share():
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1], [900, 100])
    parts = train_validation_test(1000, rng, (0.7, 0.2, 0.1), classes)
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert [int(classes[part].sum()) for part in parts] == [70, 20, 10]
    many = np.repeat(range(50), 2)  # of two samples each: rounded one by one, no class would be in the test
    assert [len(part) for part in train_validation_test(100, rng, classes=many)] == [60, 20, 20]
    with pytest.raises(ValueError, match="too few"):
        train_validation_test(2, rng)
    with pytest.raises(ValueError, match="7 folds of 3 samples"):  # when it is called, not when it is used
        folds(3, 7, rng)
    with pytest.raises(ValueError, match="sum to 1"):
        train_validation_test(10, rng, (0.5, 0.6))
    with pytest.raises(ValueError, match="2 groups cannot fill 3 folds"):
        list(folds(4, 3, rng, groups=[0, 0, 1, 1]))
    with pytest.raises(ValueError, match="not by both"):
        list(folds(4, 2, rng, groups=[0, 0, 1, 1], classes=[0, 1, 0, 1]))


def test_a_chain_learns_its_preparation_from_the_training_samples():
    rng, x = features()
    x[0] += 1000  # tested in one fold alone
    y = x[:, 1] + rng.normal(size=60)
    seen = []

    class Watching(Standardiser):
        def fit(self, x, y=None):
            seen.append(x)
            return super().fit(x, y)

    out_of_fold(lambda: Chain(Watching(), LinearRegression()), x, y, folds(60, 5, rng))
    assert [len(part) for part in seen] == [48] * 5
    assert sum(float(part.max()) > 900 for part in seen) == 4
    with pytest.raises(ValueError, match="exactly once"):
        out_of_fold(LinearRegression, x, y, [(np.arange(30), np.arange(30))])


def test_what_is_said_of_whole_numbers_is_not_cut_off():
    x, y = np.arange(10.0)[:, None], np.array([1, 2, 2, 3, 3, 5, 5, 6, 7, 9])
    parts = folds(10, 5, np.random.default_rng(0))
    said = out_of_fold(LinearRegression, x, y, parts)
    np.testing.assert_allclose(said, out_of_fold(LinearRegression, x, y.astype(float), parts))
    assert (said != said.round()).all()


def test_leaks_are_seen():
    rng = np.random.default_rng(1)
    for leak in (leakage.choosing_first(rng=rng), leakage.splitting_groups(rng=rng)):
        assert leak.leaking.low > 0.75
        assert leak.honest.low < 0.55
    wine = load("wine")
    harmless = leakage.standardising_first(wine.x, wine.y, rng=rng)
    assert abs(harmless.leaking.value - harmless.honest.value) < 0.03


def test_images_and_texts_are_no_lists_of_numbers():
    moved = failures.shifted()
    network = moved.pop("convolutions")
    assert min(score.low for score in network) > 0.85
    for name, scores in moved.items():
        assert scores[0].low > 0.9, name
        assert scores[1].high < 0.75, name
        assert scores[2].high < 0.25, name
    plain, shuffled = failures.shuffled()
    assert shuffled.value == pytest.approx(plain.value, abs=0.002)
    words = failures.word_order(rng=np.random.default_rng(2))
    assert words["counts of words"].value == 0.5  # exactly: of two opposite sentences one is right
    assert words["words with their place"].low > 0.7
    near = failures.many_dimensions(rng=np.random.default_rng(2))
    assert near[0][1].low > 0.9 > near[-1][1].high
    assert near[0][2] < 0.2 < 0.8 < near[-1][2]


def test_the_survey_beats_chance_and_names_what_it_does_not_know():
    for name, least in (("wine", 0.9), ("diabetes", 0.4)):
        rows = {row.method: row.score for row in survey(name, ["tree"] if name == "wine" else ["linear regression"])}
        (score,) = rows.values()
        assert score.low > (0.8 if name == "wine" else 0.3)
        assert score.value > least > score.chance
    with pytest.raises(ValueError, match="no method 'deep'"):
        survey("iris", ["deep"])
    with pytest.raises(ValueError, match="known: iris"):
        load("imagenet")


@pytest.mark.parametrize("name", ["confusion-matrix", "leakage", "score-curves", "k-means", "decision-boundaries"])
def test_a_demonstration_draws_and_tells(name, tmp_path):
    lines = DEMOS[name].draw(tmp_path / "a")
    (picture,) = (tmp_path / "a").iterdir()
    assert lines[-1] == str(picture)
    assert picture.stat().st_size > 2000
    DEMOS[name].draw(tmp_path / "b")
    assert (tmp_path / "b" / picture.name).read_bytes() == picture.read_bytes()


def test_without_scikit_learn_the_extra_is_named():
    """And what this chapter writes itself works."""
    code = """
        import sys
        sys.modules["sklearn"] = None
        import numpy as np
        from cairn.foundations.classical import LogisticRegression, load
        x = np.arange(6.0)[:, None]
        assert (LogisticRegression().fit(x, x[:, 0] > 2).predict(x) == (x[:, 0] > 2)).all()
        try:
            load("iris")
        except ValueError as error:
            assert "pip install 'cairn[foundations]'" in str(error)
        else:
            raise AssertionError
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_score_of_says_what_it_is_made_of():
    score = score_of(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert (score.value, score.chance, score.n) == (0.75, 0.75, 4)
    assert score.low < 0.75 < score.high
