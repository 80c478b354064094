"""Metrics by their meaning: what must hold whatever the numbers are. The values are compared in parity/."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.foundations import metrics

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def columns(pairs):
    truth, said = (np.array(column) for column in zip(*pairs))
    return truth, said


@given(LABELS)
def test_scores_are_read_off_the_matrix(pairs):
    truth, said = columns(pairs)
    matrix = metrics.confusion_matrix(truth, said, range(4))
    for i, j in itertools.product(range(4), range(4)):
        assert matrix[i, j] == sum(pair == (i, j) for pair in pairs)
    assert metrics.accuracy(truth, said) == pytest.approx(matrix.trace() / len(pairs))
    assert metrics.f1(truth, said, "micro") == pytest.approx(metrics.accuracy(truth, said))
    assert metrics.recall(truth, said, "weighted") == pytest.approx(metrics.accuracy(truth, said))
    scores = metrics.class_scores(truth, said, range(4))
    assert scores.support.sum() == len(pairs)
    for p, r, f in zip(scores.precision, scores.recall, scores.f1):
        assert f == pytest.approx(2 * p * r / (p + r) if p + r else 0)


@given(LABELS, st.data())
def test_a_weight_counts_as_so_many_samples(pairs, data):
    truth, said = columns(pairs)
    times = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(pairs), max_size=len(pairs))))
    again = np.repeat(truth, times), np.repeat(said, times)
    for score in (metrics.accuracy, metrics.balanced_accuracy, metrics.matthews, metrics.mse, metrics.mae):
        assert score(truth, said, weights=times) == pytest.approx(score(*again))
    for average in ("micro", "macro", "weighted"):
        assert metrics.f1(truth, said, average, weights=times) == pytest.approx(metrics.f1(*again, average))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=25))
def test_the_area_under_roc_is_the_share_of_pairs_in_order(pairs):
    truth, score = columns(pairs)
    positive, negative = score[truth], score[~truth]
    if not len(positive) or not len(negative):
        with pytest.raises(ValueError, match="only one class"):
            metrics.roc_auc(truth, score)
        return
    wanted = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert metrics.roc_auc(truth, score) == pytest.approx(wanted)
    assert metrics.roc_auc(truth, np.exp(score)) == pytest.approx(wanted)  # only the order counts
    assert metrics.roc_auc(truth, -score) == pytest.approx(1 - wanted)
    curve = metrics.precision_recall_curve(truth, score)
    for p, r, threshold in zip(curve.precision, curve.recall, curve.thresholds):
        assert p == pytest.approx(metrics.precision(truth, score >= threshold, positive=True))
        assert r == pytest.approx(metrics.recall(truth, score >= threshold, positive=True))


def test_chance_levels():
    rng = np.random.default_rng(0)
    truth, score = rng.random(20_000) < 0.2, rng.random(20_000)
    assert metrics.roc_auc(truth, score) == pytest.approx(0.5, abs=0.02)
    assert metrics.average_precision(truth, score) == pytest.approx(0.2, abs=0.02)
    assert metrics.balanced_accuracy(truth, np.zeros(20_000, bool)) == 0.5
    assert metrics.matthews(truth, rng.random(20_000) < 0.5) == pytest.approx(0, abs=0.03)
    assert metrics.chance_level(truth) == pytest.approx(0.8, abs=0.02)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_honest_probabilities_score_best(p, said):
    """The expected loss over what happens with probability p: smallest where p is said."""
    for loss in (metrics.log_loss, metrics.brier):
        expected = [loss([1, 0], [q, q], weights=[p, 1 - p]) for q in (p, said)]
        assert expected[0] <= expected[1] + 1e-12


def test_certain_and_wrong():
    assert metrics.log_loss([1], [[1.0, 0.0]], classes=[0, 1]) == pytest.approx(52 * math.log(2))  # finite
    assert metrics.brier([1], [[1.0, 0.0]], classes=[0, 1]) == 1.0
    assert metrics.brier([2], [[1.0, 0.0, 0.0]], classes=[0, 1, 2]) == 2.0


def test_calibration_by_hand():
    said = np.array([0.0, 0.1, 0.1, 0.55, 0.65, 1.0])
    happened = np.array([0, 0, 1, 1, 1, 1])
    curve = metrics.reliability_curve(happened, said, bins=2)
    assert curve.count.tolist() == [3, 3]
    np.testing.assert_allclose(curve.happened, [1 / 3, 1])
    np.testing.assert_allclose(curve.said, [0.2 / 3, 2.2 / 3])
    error = (abs(1 - 0.2) + abs(3 - 2.2)) / 6
    assert metrics.expected_calibration_error(happened, said, bins=2) == pytest.approx(error)
    assert sum(metrics.reliability_curve(happened, said, 3, "quantile").count) == 6


def test_calibration_is_not_ranking():
    rng = np.random.default_rng(0)
    said = rng.random(5000)
    happened = rng.random(5000) < said
    assert metrics.expected_calibration_error(happened, said) < 0.03
    assert metrics.expected_calibration_error(happened, said**2) > 0.1
    assert metrics.roc_auc(happened, said) == metrics.roc_auc(happened, said**2)


def test_r2_compares_with_the_mean():
    truth = np.array([1.0, 2.0, 4.0, 9.0])
    assert metrics.r2(truth, np.full(4, truth.mean())) == pytest.approx(0)
    assert metrics.r2(truth, truth) == 1
    assert metrics.r2(truth, -truth) < 0
    assert math.isnan(metrics.r2([1.0], [1.0]))


@settings(max_examples=30)
@given(st.integers(1, 200), st.data())
def test_intervals_hold_the_share(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = metrics.proportion_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high  # no number of samples makes sure
    wider = metrics.proportion_interval(successes * 4, n * 4)
    assert wider[1] - wider[0] < high - low


def test_an_interval_covers_95_of_100():
    rng = np.random.default_rng(0)
    found = [metrics.proportion_interval(int(rng.binomial(80, 0.7)), 80) for _ in range(1000)]
    assert np.mean([low <= 0.7 <= high for low, high in found]) == pytest.approx(0.95, abs=0.02)
    truth = rng.normal(size=300)
    said = truth + rng.normal(size=300)
    low, high = metrics.bootstrap_interval(metrics.mse, truth, said, rng=rng)
    error = 1.96 * np.std((truth - said) ** 2) / math.sqrt(300)
    assert low == pytest.approx(metrics.mse(truth, said) - error, abs=0.05)
    assert high == pytest.approx(metrics.mse(truth, said) + error, abs=0.05)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.accuracy([1, 0], [1]), "2 true values but 1"),
        (lambda: metrics.accuracy([], []), "no samples"),
        (lambda: metrics.accuracy([1, 0], [[1], [0]]), "one class for each"),
        (lambda: metrics.accuracy(["a"], [1]), "of one kind"),
        (lambda: metrics.confusion_matrix([0, 1, 2], [[0], [1], [2]]), "one class for each"),
        (lambda: metrics.f1([0, 1, 2], [[0], [1], [2]], "macro"), "one class for each"),
        (lambda: metrics.confusion_matrix([1], [1], ["a"]), "either names or numbers"),
        (lambda: metrics.confusion_matrix([1], [1], []), "one or more"),
        (lambda: metrics.confusion_matrix([0, 1], [0, 1], [0, 0, 1]), "each of them once"),
        (lambda: metrics.f1(["a"], ["a"]), "does not occur"),
        (lambda: metrics.roc_auc([[0], [1]], [0.1, 0.2]), "one for each sample"),
        (lambda: metrics.roc_auc(["no", "yes"], [0.1, 0.2]), "positive=1"),
        (lambda: metrics.log_loss([0, 1], np.full((2, 2, 2), 0.5)), "of shape"),
        (lambda: metrics.r2([1.0, np.nan], [1.0, 2.0]), "true value of sample 1 is nan"),
        (lambda: metrics.mae([1.0, 2.0], [np.inf, 2.0]), "predicted value of sample 0 is inf"),
        (lambda: metrics.chance_level([]), "no samples"),
        (lambda: metrics.bootstrap_interval(metrics.mse, [1, 2], [1], rng=np.random.default_rng(0)), "2 true values"),
        (lambda: metrics.accuracy([1, 0], [1, 0], [1, -1]), "none below 0"),
        (lambda: metrics.accuracy([1, 0], [1, 0], [1]), "give one number for each"),
        (lambda: metrics.confusion_matrix(["a"], [1]), "of one kind"),
        (lambda: metrics.f1([0, 1, 2], [0, 1, 1]), "choose an average"),
        (lambda: metrics.f1(["a", "b"], ["a", "b"]), "does not occur"),
        (lambda: metrics.f1([0, 1], [0, 1], "mean"), "known: binary"),
        (lambda: metrics.roc_auc([0, 1, 2], [0.1, 0.2, 0.3]), "more than two classes"),
        (lambda: metrics.roc_auc([0, 1], [0.1, float("nan")]), "finite score"),
        (lambda: metrics.roc_auc_one_vs_rest([0, 1, 2], [[1, 0]] * 3), "one column for each"),
        (lambda: metrics.average_precision([0, 0], [0.1, 0.2]), "nothing to find"),
        (lambda: metrics.log_loss([0, 1], [0.2, 1.2]), "within 0 and 1"),
        (lambda: metrics.log_loss([0, 1], [[0.2, 0.2], [0.5, 0.5]]), "sum to 1"),
        (lambda: metrics.log_loss([0, 0], [0.2, 0.5]), "name all of them"),
        (lambda: metrics.log_loss([0, 3], [0.2, 0.5], [0, 1]), "not among classes"),
        (lambda: metrics.mse([1, 2], [[1], [2]]), "both must be alike"),
        (lambda: metrics.reliability_curve([0, 2], [0.1, 0.2]), "0 or 1"),
        (lambda: metrics.reliability_curve([0, 1], [0.1, 0.2], strategy="wide"), "uniform, quantile"),
        (lambda: metrics.proportion_interval(3, 2), "no more successes"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
