"""fastText: n-grams, their hashes, vectors for words that were never seen, and what is learned."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.embeddings import FastTextConfig, SubwordVectors, WordVectors, train_fasttext
from cairn.embeddings import fasttext as fasttext_module
from cairn.embeddings.subwords import bucket, buckets_of, ngrams, subword_bags

WORDS = st.lists(st.text(st.sampled_from("ab<é数\U0001faa8"), min_size=1, max_size=9), min_size=1, max_size=6)


def inflected(sentences=1500, seed=0):
    """(sentences, stems, companions by stem): a sentence has one stem with several endings, and its companions.

    Forms of a stem share n-grams; companions share none, and are alike by the company they keep alone.
    """
    rng = np.random.default_rng(seed)
    stems = [f"{letter * 2}{vowel}{letter}stem" for letter, vowel in zip("bdfgkl", "aeiouy")]
    companions = [[f"{number:05x}" for number in row] for row in rng.integers(1 << 20, size=(len(stems), 8))]
    found = []
    for _ in range(sentences):
        kind = int(rng.integers(len(stems)))
        endings = rng.choice(["ing", "ed", "er", "s"], 4)
        found.append([w for e in endings for w in (stems[kind] + e, str(rng.choice(companions[kind])))])
    return found, stems, companions


def test_hashes_are_those_that_fasttext_publishes():
    # 32-bit FNV-1a of ASCII: the published values of the algorithm's authors.
    assert [bucket(text, 2**32) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    assert bucket("é", 2**32) == _signed("é".encode())


def _signed(data):
    state = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer(data, np.int8):
            state = np.uint32(state ^ np.uint32(np.int64(byte) % 2**32)) * np.uint32(16777619)
    return int(state)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(1, 4), st.integers(0, 3))
def test_bags_hold_the_word_and_its_buckets(words, min_n, more):
    words = list(dict.fromkeys(words))
    bags = subword_bags(words, min_n, min_n + more, 101)
    for v, (start, end) in enumerate(itertools.pairwise(bags.starts)):
        own, *grams = bags.rows[start:end].tolist()
        wanted = [len(words) + b for b in buckets_of(words[v], min_n, min_n + more, 101)]
        assert (own, grams) == (v, wanted)
        _, times = np.unique(bags.rows[start:end], return_counts=True)
        assert bags.gain[v] == pytest.approx((times**2).sum() / (end - start))


def test_ngrams_of_one_character_leave_out_the_marks():
    assert ngrams("ab", 1, 2) == ["<a", "a", "ab", "b", "b>"]
    assert ngrams("<", 1, 1) == ["<"]


def test_vectors_are_means_of_bags(monkeypatch):
    monkeypatch.setattr(fasttext_module, "BLOCK_ROWS", 10)  # several blocks, some of a single word
    words = ["a", "banana", "trail", "é"]
    rng = np.random.default_rng(0)
    bags, rows_RD = subword_bags(words, 3, 5, 30), rng.normal(size=(34, 6)).astype(np.float32)
    wanted = [rows_RD[bags.rows[a:b]].mean(0) for a, b in itertools.pairwise(bags.starts)]
    np.testing.assert_allclose(fasttext_module.composed(bags, rows_RD), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
@pytest.mark.parametrize("loss", ["negative-sampling", "hierarchical-softmax"])
def test_unseen_words_stand_near_those_they_share_parts_with(model, loss):
    sentences, stems, companions = inflected()
    config = FastTextConfig(model=model, loss=loss, dim=16, window=3, epochs=8, sample=0.0, rate=0.05, buckets=5000)
    vectors = train_fasttext(sentences, config)
    for stem in stems:
        unseen = stem + "ery"
        assert unseen not in vectors.index
        assert vectors.has(unseen)
        assert [near.word[:4] for near in vectors.nearest(unseen, 4)] == [stem[:4]] * 4
    for kind, own in enumerate(companions):
        others = [word for words in companions for word in words if word != own[0]]
        best = sorted(others, key=lambda word, first=own[0]: -vectors.similarity(first, word))[:5]
        assert sum(word in companions[kind] for word in best) >= 4


def test_one_worker_is_deterministic():
    sentences, *_ = inflected(200)
    config = FastTextConfig(dim=8, epochs=2, buckets=500)
    first, second = train_fasttext(sentences, config), train_fasttext(sentences, config)
    assert first.matrix_VD.tobytes() == second.matrix_VD.tobytes()
    assert first.buckets_BD.tobytes() == second.buckets_BD.tobytes()


def test_a_saved_directory_gives_the_same_vectors(tmp_path):
    sentences, *_ = inflected(100)
    vectors = train_fasttext(sentences, FastTextConfig(dim=8, epochs=1, buckets=300, min_n=2, max_n=4, min_count=1))
    vectors.save(tmp_path / "vectors")
    again = SubwordVectors.load(tmp_path / "vectors")
    assert (again.words, again.min_n, again.max_n) == (vectors.words, 2, 4)
    for word in (vectors.words[0], "unseen"):
        assert again.vector(word).tobytes() == vectors.vector(word).tobytes()
    assert WordVectors.load(tmp_path / "vectors").words == vectors.words
    file = tmp_path / "vectors" / "subwords.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="truncated"):
        SubwordVectors.load(tmp_path / "vectors")
    file.unlink()
    with pytest.raises(UserError, match="words alone"):
        SubwordVectors.load(tmp_path / "vectors")


def test_a_word_without_ngrams_has_no_vector():
    vectors = SubwordVectors(["trail"], np.ones((1, 2), np.float32), np.ones((7, 2), np.float32), 4, 6)
    assert vectors.has("ab")
    assert not vectors.has("a")
    with pytest.raises(UserError, match="no vector"):
        vectors.vector("a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"min_n": 4, "max_n": 3}, "below min_n"), ({"buckets": 2**31}, "at most"), ({"rate": 0.0}, "falls")],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(UserError, match=message):
        from_dict(FastTextConfig, settings)


def test_a_very_long_word_takes_no_square_of_its_length():
    """200,000 characters of one letter: the n-grams of a size are nearly all the same row."""
    bags = subword_bags(["x" * 200_000], 3, 4, 1000)
    _, times = np.unique(bags.rows, return_counts=True)
    assert bags.gain[0] == pytest.approx((times.astype(float) ** 2).sum() / len(bags.rows))


def test_half_of_a_surrogate_pair_has_no_vector():
    vectors = train_fasttext([["cairn", "stone"]] * 5, FastTextConfig(dim=4, min_count=1, buckets=10, epochs=1))
    assert not vectors.has("\udcff\udcfe")
    with pytest.raises(UserError, match="no vector"):
        vectors.vector("\udcff\udcfe")


@pytest.mark.parametrize("setting", ["window", "dim", "negative", "noise_power", "epochs", "workers"])
def test_settings_beyond_all_machines_are_refused(setting):
    with pytest.raises(UserError, match=f"{setting} must be at most"):
        from_dict(FastTextConfig, {setting: 10**9})
