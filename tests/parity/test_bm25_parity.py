"""BM25 against rank_bm25's BM25Okapi: equal scores on random texts, words of more than half of them included."""

import numpy as np
import pytest

from cairn.retrieval import BM25

rank_bm25 = pytest.importorskip("rank_bm25")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("k1", "b", "epsilon"), [(1.5, 0.75, 0.25), (0.9, 0.4, 0.1), (2.0, 1.0, 0.0)])
def test_scores_equal(seed: int, k1: float, b: float, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    # Zipf-like: the first words stand in nearly every text, so that their idf is negative and epsilon is used.
    share = 1 / np.arange(1, 121)
    vocabulary = [f"w{n}" for n in range(120)]
    texts = [list(rng.choice(vocabulary, size=rng.integers(1, 60), p=share / share.sum())) for _ in range(80)]
    ours, theirs = BM25(texts, k1=k1, b=b, epsilon=epsilon), rank_bm25.BM25Okapi(texts, k1=k1, b=b, epsilon=epsilon)
    assert any(value == pytest.approx(epsilon * theirs.average_idf) for value in theirs.idf.values())
    for _ in range(20):
        query = [*rng.choice(vocabulary, size=rng.integers(1, 8)), "unknown"]
        np.testing.assert_allclose(ours.scores(query), theirs.get_scores(query), rtol=0, atol=1e-9)


def test_best_are_the_same() -> None:
    texts = [f"the text number {n} says {'alpha ' * (n % 7)}{'beta ' * (n % 5)}" for n in range(200)]
    ours = BM25(texts)
    theirs = rank_bm25.BM25Okapi([text.split() for text in texts])
    expected = theirs.get_scores(["alpha", "beta"])
    found = ours.search("alpha beta", 10)
    order = np.argsort(-expected, kind="stable")[:10]
    assert [score for _, score in found] == pytest.approx(list(expected[order]), abs=1e-9)
    assert [n for n, _ in found] == list(order)
