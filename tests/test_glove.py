"""GloVe: pairs are counted right however little memory there is, steps are what is said plainly, and vectors mean something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings import cooccurrence, glove
from cairn.embeddings.cooccurrence import PairCounter, Pairs, merge, plain_counts, table_ends
from cairn.embeddings.glove import GloveConfig, Parameters, fit, loss_and_gradients, plain_epoch, train_glove, weights
from cairn.embeddings.shuffled import Shuffled
from cairn.embeddings.similarity import spearman
from cairn.kernels.glove import train_pairs

# --- counting


def counted(ids, rows, window, memory, cuts=()):
    """(i, j) -> x from the counter, whose input comes in parts, and the runs that went to disk."""
    found = {}
    with PairCounter(int(rows.max()) + 1, rows, window, memory) as counter:
        for part in np.split(np.asarray(ids, np.int32), cuts):
            counter.add(part)
        most, runs = counter.most(), len(counter.runs)
        for pairs in counter.pairs():
            for i, j, x in zip(*(part.tolist() for part in pairs)):
                assert (i, j) not in found
                found[i, j] = x
    assert len(found) <= most
    return found, runs


def both_ways(counts):
    """What `plain_counts` says of pairs once, in both directions."""
    wanted = {}
    for (i, j), x in counts.items():
        wanted[i, j] = wanted[j, i] = 2 * x if i == j else x
    return wanted


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(-1, 9), max_size=60),
    window=st.integers(1, 6),
    memory=st.sampled_from([1, 300, 2000, 1 << 20]),
    cuts=st.lists(st.integers(0, 60), max_size=3).map(sorted),
)
def test_pairs_are_those_said_plainly(ids, window, memory, cuts):
    """Sentences and windows across calls, words left out (ids 3 and 7), and any amount of memory."""
    rows = np.array([4, 0, 1, -1, 2, 3, 5, -1, 6, 7], np.int32)
    found, _ = counted(ids, rows, window, memory, cuts)
    wanted = both_ways(plain_counts(ids, rows, window))
    assert found.keys() == wanted.keys()
    assert all(found[pair] == pytest.approx(x, rel=1e-6) for pair, x in wanted.items())


def test_many_runs_are_merged(monkeypatch):
    rng = np.random.default_rng(0)
    ids = (60 * rng.random(6000) ** 2).astype(np.int32)
    ids[::17] = -1
    rows = np.arange(60)
    wanted = both_ways(plain_counts(ids.tolist(), rows, 5))
    for merged_rows in (3, 1 << 16):
        monkeypatch.setattr(cooccurrence, "MERGED_ROWS", merged_rows)
        found, runs = counted(ids, rows, 5, 20_000)
        assert runs > 8
        assert found.keys() == wanted.keys()
        assert all(found[pair] == pytest.approx(x, rel=1e-5) for pair, x in wanted.items())


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), min_size=1, max_size=5), st.integers(1, 5))
def test_merging_is_adding_up(lists, rows):
    runs = [cooccurrence.added_up(np.array(keys, np.int64), np.ones(len(keys))) for keys in lists]
    keys = [key for part, _ in merge(runs, rows) for key in part.tolist()]
    sums = [total for _, part in merge(runs, rows) for total in part.tolist()]
    flat = [key for part in lists for key in part]
    assert keys == sorted(set(flat))
    assert sums == [flat.count(key) for key in keys]


@given(st.integers(1, 300), st.integers(0, 5000))
def test_the_table_fits_and_holds_the_pairs_of_frequent_words(size, cells):
    ends = table_ends(size, cells)
    widths = np.maximum(ends - np.arange(size), 0)
    assert widths.sum() <= cells
    assert (np.diff(ends) <= 0).all()
    if cells >= size * (size + 1) // 2:
        assert (ends == size).all()


# --- shuffling


def test_every_pair_once_in_a_new_order_each_time():
    rng = np.random.default_rng(0)
    parts = [
        Pairs(*(np.arange(k, k + 50, dtype=t) for t in (np.int32, np.int32, np.float32))) for k in range(0, 500, 50)
    ]
    with Shuffled(64, rng) as store:
        store.fill(600, parts)
        assert len(store) == 500
        orders = [np.concatenate([pairs.i_N for pairs in store.shuffled()]) for _ in range(2)]
        for pairs in store.shuffled():
            assert len(pairs.x_N) < 120
            assert (pairs.i_N == pairs.j_N).all()
            assert (pairs.i_N == pairs.x_N).all()
    for order in orders:
        assert sorted(order.tolist()) == list(range(500))
        assert abs(spearman(order, np.arange(500))) < 0.3
    assert (orders[0] != orders[1]).any()


# --- the step


def random_pairs(dtype: type[np.floating] = np.float32, words=20, dim=13, pairs=300):
    rng = np.random.default_rng(0)
    parameters = Parameters(
        *(rng.standard_normal(s).astype(dtype) / 4 for s in ((words, dim), (words, dim), words, words))
    )
    i_N, j_N = (rng.integers(0, words, pairs).astype(np.int32) for _ in range(2))
    return parameters, (i_N, j_N, rng.standard_normal(pairs).astype(dtype), rng.random(pairs).astype(dtype))


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_the_kernel_does_what_is_said_plainly(dtype, error):
    results = []
    for epoch in (train_pairs, plain_epoch):
        parameters, batch = random_pairs(dtype)
        sums = Parameters(*map(np.ones_like, parameters))
        loss = (
            train_pairs(*batch, dtype(0.05), *parameters, sums)
            if epoch is train_pairs
            else plain_epoch(*batch, 0.05, parameters, sums)
        )
        results.append((loss, *parameters, *sums))
    for ours, plain in zip(*results):
        np.testing.assert_allclose(ours, plain, rtol=error, atol=error)


def test_the_gradient_is_that_of_the_loss():
    parameters, batch = random_pairs(np.float64, words=4, dim=3, pairs=9)
    _, gradients = loss_and_gradients(*batch, parameters)
    for value, gradient in zip(parameters, gradients):
        for place in np.ndindex(value.shape):
            kept, losses = value[place], []
            for step in (1e-6, -1e-6):
                value[place] = kept + step
                losses.append(loss_and_gradients(*batch, parameters)[0])
            value[place] = kept
            assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-6)


def test_weights_grow_to_one():
    assert weights(np.array([1.0, 16.0, 100.0, 1e6]), 16.0, 0.75).tolist() == [0.125, 1.0, 1.0, 1.0]


# --- training


def planted(groups=4, words=6, sentences=800, length=6, seed=0):
    """Sentences, each mostly of words of one group. GloVe learns nothing from pairs that never meet: some words are any."""
    rng = np.random.default_rng(seed)
    for _ in range(sentences):
        group = rng.integers(groups)
        yield [f"g{group if rng.random() < 0.8 else rng.integers(groups)}w{rng.integers(words)}" for _ in range(length)]


SMALL = GloveConfig(dim=12, window=4, x_max=20.0, min_count=1, epochs=40, memory=1)


def test_words_of_a_planted_group_are_nearest():
    vectors = train_glove(planted(), SMALL)
    same = [near.word[:2] == word[:2] for word in vectors.words for near in vectors.nearest(word, 5)]
    assert len(vectors) == 24
    assert np.mean(same) > 0.95  # chance: 5 of 23
    assert vectors.counts is not None
    assert (np.diff(vectors.counts) <= 0).all()


def test_a_worker_gives_the_same_bits_and_several_nearly(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(sentence) for sentence in planted()))
    once, again = train_glove(text, SMALL), train_glove(str(text), SMALL)
    assert once.words == again.words
    assert once.matrix_VD.tobytes() == again.matrix_VD.tobytes()
    several = train_glove(text, from_dict(GloveConfig, {"workers": 3}, SMALL))
    assert several.words == once.words
    assert (
        several.matrix_VD.tobytes() != train_glove(text, from_dict(GloveConfig, {"seed": 2}, SMALL)).matrix_VD.tobytes()
    )
    cosines = [(v.similarity("g0w0", w)) for v in (once, several) for w in ("g0w1", "g1w1")]
    assert cosines[0] > cosines[1]
    assert cosines[2] > cosines[3]


def test_products_come_to_tell_the_counts():
    """With every weight 1 and room enough, w . c + biases is log x."""
    rng = np.random.default_rng(0)
    config = GloveConfig(dim=12, epochs=400, x_max=1e-6, rate=0.1)
    i_N, j_N = (part.ravel().astype(np.int32) for part in np.mgrid[:8, :8])
    x_N = (10 * rng.random(64) + 0.5).astype(np.float32)
    parameters = Parameters.initial(8, 12, 1)
    with Shuffled(1000, rng) as store:
        store.fill(64, [Pairs(i_N, j_N, x_N)])
        losses = fit(store, parameters, config)
    assert losses[-1] < losses[0] / 1000
    told = (parameters.w_VD[i_N] * parameters.c_VD[j_N]).sum(1) + parameters.w_bias_V[i_N] + parameters.c_bias_V[j_N]
    np.testing.assert_allclose(told, np.log(x_N), atol=0.1)


def test_memory_does_not_change_the_pairs(monkeypatch):
    """A bound that forces everything through the disk counts what a generous one does."""
    seen = []
    monkeypatch.setattr(glove, "fit", lambda store, parameters, config: seen.append(_sorted(store)) or [0.0])
    for memory in (1, 64):
        train_glove(planted(sentences=3000, words=40), from_dict(GloveConfig, {"memory": memory}, SMALL))
    np.testing.assert_array_equal(seen[0][:, :2], seen[1][:, :2])
    np.testing.assert_allclose(seen[0][:, 2], seen[1][:, 2], rtol=1e-5)


def _sorted(store):
    pairs = np.concatenate([np.stack([pairs.i_N, pairs.j_N, pairs.x_N], axis=1) for pairs in store.shuffled()])
    return pairs[np.lexsort(pairs.T[::-1])]


def test_mistakes_are_said(tmp_path):
    with pytest.raises(UserError, match="grew beyond all bounds"):
        train_glove(planted(), from_dict(GloveConfig, {"rate": 1e30}, SMALL))
    with pytest.raises(UserError, match="no two words stand near"):
        train_glove(["one", "two"] * 3, SMALL)
    with pytest.raises(UserError, match="min_count"):
        train_glove(["one two"], GloveConfig(memory=1))
    with pytest.raises(UserError, match="does not exist"):
        train_glove(tmp_path / "nowhere", SMALL)
    for wrong in ({"dim": 0}, {"x_max": 0.0}, {"window": -1}, {"workers": 0}, {"text": "poems"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            from_dict(GloveConfig, wrong)


def test_what_could_not_be_read_is_counted(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n".join(" ".join(sentence) for sentence in planted(sentences=50)))
    (tmp_path / "texts" / "b.jsonl").write_text('{"text": "g0w1 g0w2"}\nbroken\n')
    quarantine = Quarantine()
    train_glove(tmp_path / "texts", from_dict(GloveConfig, {"epochs": 1}, SMALL), quarantine)
    assert sum(quarantine.counts.values()) == 1


def test_little_text_for_x_max_is_said(capsys):
    config = from_dict(GloveConfig, {"epochs": 1, "x_max": 1e6}, SMALL)
    vectors = train_glove(planted(sentences=50), config)
    assert len(vectors) == 24
    assert "little text for x_max 1e+06" in capsys.readouterr().err
    train_glove(planted(), from_dict(GloveConfig, {"epochs": 1}, SMALL))
    assert "little text" not in capsys.readouterr().err


def test_methods_agree_on_the_vocabulary():
    from cairn.embeddings import Word2VecConfig, train_word2vec

    ours = train_glove(planted(sentences=100), from_dict(GloveConfig, {"epochs": 1}, SMALL))
    theirs = train_word2vec(planted(sentences=100), Word2VecConfig(dim=4, min_count=1, epochs=1))
    assert ours.words == theirs.words
    assert ours.counts is not None
    np.testing.assert_array_equal(ours.counts, theirs.counts)
