"""word2vec: the stream, the vocabulary, what is drawn, the kernel against its plain twin, and what is learned."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings import Word2VecConfig, counting, plain, train_word2vec
from cairn.embeddings.counting import WordCounter
from cairn.embeddings.huffman import huffman_paths
from cairn.embeddings.sampling import ALWAYS, alias_table, keep_probability, noise_probability, thresholds
from cairn.embeddings.spool import CHUNK_WORDS, Spool
from cairn.embeddings.stream import blocks, texts
from cairn.embeddings.subwords import subword_bags
from cairn.embeddings.training import initial

MODELS = ("skipgram", "cbow")
LOSSES = ("negative-sampling", "hierarchical-softmax")


def classes_of_words(sentences=1500, classes=8, members=6, seed=0):
    """Sentences in which words of a class stand in the same places: class k is followed by class k + 1 or k + 3."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(sentences):
        kind, sentence = int(rng.integers(classes)), []
        for _ in range(10):
            sentence.append(f"c{kind}w{rng.integers(members)}")
            kind = (kind + int(rng.choice([1, 3]))) % classes
        found.append(sentence)
    return found


def same_class(vectors, neighbours=5):
    """The share of nearest neighbours that are of the word's class."""
    right = [near.word[:2] == word[:2] for word in vectors.words for near in vectors.nearest(word, neighbours)]
    return sum(right) / len(right)


# --- the stream


def test_every_kind_of_source_gives_the_same_text(tmp_path):
    lines = ["the cairn marks", "the trail naïve 数字"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text(lines[0] + "\n", encoding="utf-8")
    (tmp_path / "folder" / "b.jsonl").write_text('{"text": "the trail naïve 数字"}\n', encoding="utf-8")
    (tmp_path / "unknown.ending").write_text("\n".join(lines), encoding="utf-8")
    sources = [lines, (line for line in lines), [line.split() for line in lines], tmp_path / "folder"]
    for source in [*sources, str(tmp_path / "unknown.ending")]:
        joined = b"".join(blocks(source, "lines", Quarantine())).decode()
        assert [line.split() for line in joined.split("\n") if line] == [line.split() for line in lines]


def test_a_corpus_directory_gives_its_general_training_part(corpus):
    assert list(texts(corpus.path, Quarantine())) == list(corpus.texts("general-train"))


def test_prose_is_cut_into_sentences_of_lower_case_words():
    (block,) = blocks(["A Cairn\nmarks it. Is 3.11 new?\n\nYes: über_alles"], "prose", Quarantine())
    assert block.decode() == "a cairn marks it\nis 3 11 new\nyes über alles\n"


@pytest.mark.parametrize("word", ["new york", "", " x"])
def test_a_word_with_a_space_is_refused(word):
    with pytest.raises(UserError, match="empty or has a space"):
        list(texts([["a", word]], Quarantine()))


def test_sources_that_hold_no_text(tmp_path):
    with pytest.raises(UserError, match="not int"):
        train_word2vec([1, 2])
    with pytest.raises(UserError, match="does not exist"):
        train_word2vec(tmp_path / "nowhere")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    quarantine = Quarantine()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"no words in .*folder.*file type .png"):
        train_word2vec(tmp_path / "folder", quarantine=quarantine)
    assert sum(quarantine.counts.values()) == 1
    with pytest.raises(UserError, match="smaller min_count"):
        train_word2vec(["one two three"])


# --- counting


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("ab\u00e9\u6570\U0001faa8 \t\n\x1c\x85\u00a0\u2003\u2028\u3000\u1680\u205f\u202f")),
        max_size=6,
    )
)
def test_words_are_what_split_gives(parts):
    counter = WordCounter(10**6)
    data = ("\n".join(parts) + "\n").encode()
    ids = np.concatenate([*counter.number(data, 3), np.zeros(0, np.int32)])
    names = [counter.bytes[a:b].tobytes().decode() for a, b in itertools.pairwise(counter.starts[: len(counter) + 1])]
    wanted = []
    for line in "\n".join(parts).split("\n"):
        words = line.split()
        wanted += [words[i : i + 3] for i in range(0, len(words), 3)]
    found, sentence = [], []
    for number in ids.tolist():
        if number < 0:
            found.append(sentence)
            sentence = []
        else:
            sentence.append(names[number])
    assert found == wanted
    assert sentence == []
    assert collections.Counter(itertools.chain(*wanted)) == dict(zip(names, counter.counts.tolist()))


@pytest.mark.parametrize("batch", [7, 1 << 18])
def test_the_vocabulary_and_the_spool_of_a_text_larger_than_the_first_table(batch, monkeypatch):
    monkeypatch.setattr(counting, "BATCH", batch * 100)
    rng = np.random.default_rng(3)
    lines = [" ".join(f"word{k}" for k in rng.zipf(1.3, 30) % 50_000) for _ in range(4000)]
    lines[7] = "long" * 200_000  # longer than all there is room for
    counts = collections.Counter(" ".join(lines).split())
    counter = WordCounter(10**6)
    with Spool() as spool:
        spool.write(("\n".join(lines[i : i + 100]).encode() + b"\n" for i in range(0, 4000, 100)), counter)
        vocabulary, rows = counter.vocabulary(3)
        assert dict(zip(vocabulary.words, vocabulary.counts.tolist())) == {w: n for w, n in counts.items() if n >= 3}
        assert (np.diff(vocabulary.counts) <= 0).all()
        assert (vocabulary.seen, vocabulary.distinct) == (119_971, len(counts))
        assert spool.words == 119_971
        read = np.concatenate([spool.read(chunk) for chunk in spool.chunks])
        assert all(spool.read(chunk)[-1] == -1 for chunk in spool.chunks)
        sizes = [int((spool.read(chunk) >= 0).sum()) for chunk in spool.chunks]
        assert [chunk.before for chunk in spool.chunks] == [0, *np.cumsum(sizes)[:-1]]
        assert all(CHUNK_WORDS <= size < CHUNK_WORDS + 30 for size in sizes[:-1])
        kept = [
            [vocabulary.words[rows[k]] for k in s if rows[k] >= 0]
            for s in np.split(read, np.flatnonzero(read < 0))
            if len(s)
        ]
    wanted = [[w for w in line.split() if counts[w] >= 3] for line in lines]
    assert [s for s in kept if s] == [s for s in wanted if s]


def test_words_beyond_the_limit_are_ignored_and_memory_is_bounded():
    counter = WordCounter(3)
    ids = np.concatenate([*counter.number(b"a b a c d a e d b\n", 10)])
    assert ids.tolist() == [0, 1, 0, 2, 3, 0, 3, 3, 1, -1]
    assert (len(counter), counter.ignored) == (3, 3)
    vocabulary, rows = counter.vocabulary(2)
    assert (vocabulary.words, vocabulary.seen, vocabulary.distinct) == (["a", "b"], 9, 3)
    assert rows[ids[:-1]].tolist() == [0, 1, 0, -1, -1, 0, -1, -1, 1]
    config = Word2VecConfig(dim=4, min_count=1, max_distinct=3)
    assert train_word2vec(["a b a c d a e d b"] * 3, config).words == ["a", "b", "c"]


# --- what is drawn


def test_keep_probability_is_the_rule_of_word2vec_c():
    counts = np.array([50_000, 1_000, 10])
    share = counts / counts.sum()
    wanted = (np.sqrt(share / 1e-3) + 1) * 1e-3 / share
    np.testing.assert_allclose(keep_probability(counts, 1e-3), np.minimum(wanted, 1), rtol=1e-12)
    assert (thresholds(keep_probability(counts, 0.0)) == ALWAYS).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=60), st.sampled_from([0.0, 0.75, 1.0]))
def test_the_alias_table_draws_the_noise_distribution(counts, power):
    wanted = np.array(counts, float) ** power
    table = alias_table(noise_probability(np.array(counts), power))
    np.testing.assert_allclose(table.probability(), wanted / wanted.sum(), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_huffman_paths(counts):
    counts = np.sort(np.array(counts))[::-1]
    paths = huffman_paths(counts)
    codes = [tuple(paths.turns[a:b].tolist()) for a, b in itertools.pairwise(paths.starts)]
    # A complete prefix code: Kraft's sum is 1, and the nodes of equal beginnings are the same.
    assert sum(0.5 ** len(code) for code in codes) == 1
    at = {}
    for word, code in enumerate(codes):
        for k, node in enumerate(paths.nodes[paths.starts[word] : paths.starts[word + 1]].tolist()):
            assert at.setdefault(code[:k], node) == node
    assert sorted(at.values()) == list(range(len(counts) - 1))
    assert codes[0] == min(codes, key=len)


def test_random_numbers_are_splitmix64():
    random = plain.Random(1234567)  # the published test values of this seed
    assert [random.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


# --- the kernel


@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_the_kernel_equals_its_twin(model, loss, subwords):
    from cairn.kernels.word2vec import train_chunk

    rng = np.random.default_rng(7)
    words, dim = 40, 11
    counts = np.sort(rng.integers(1, 500, words))[::-1]
    names = ["banana", *(f"w{k}" for k in range(words - 1))]  # banana has an n-gram twice
    bags = subword_bags(names, 3, 4, 50) if subwords else plain.Bags.of_words(words)
    if loss == "negative-sampling":
        targets = plain.Targets.drawn(alias_table(noise_probability(counts, 0.75)), 4)
    else:
        targets = plain.Targets.turned(huffman_paths(counts))
    inputs = rng.normal(size=(int(bags.rows.max()) + 1, dim)).astype(np.float32) / 2
    outputs = rng.normal(size=(words, dim)).astype(np.float32)  # some scores are beyond the limit of 6
    twins = inputs.astype(np.float64), outputs.astype(np.float64)
    numbers = rng.integers(0, words + 5, 150).astype(np.int32)
    numbers[::17] = -1
    rows = np.append(rng.permutation(words), [-1] * 5).astype(np.int32)
    keep = thresholds(keep_probability(counts, 0.02))
    before = inputs.copy()
    kind = model == "skipgram", subwords  # fastText saturates
    trained = train_chunk(
        numbers, rows, keep, bags, targets, inputs, outputs, *kind, 3, np.float32(0.05), np.uint64(77)
    )
    assert trained == plain.train_chunk(numbers, rows, keep, bags, targets, *twins, *kind, 3, 0.05, 77) > 50
    assert np.abs(inputs - before).max() > 0.05
    np.testing.assert_allclose(inputs, twins[0], atol=2e-5)
    np.testing.assert_allclose(outputs, twins[1], atol=2e-5)


# --- what is learned


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_words_of_one_class_become_neighbours(model, loss):
    config = Word2VecConfig(model=model, loss=loss, dim=16, window=3, epochs=12, sample=0.0, rate=0.05)
    vectors = train_word2vec(classes_of_words(), config)
    assert len(vectors) == 48
    assert same_class(vectors) > 0.95  # by chance 0.11


def test_one_worker_is_deterministic_and_the_seed_counts():
    sentences = classes_of_words(300)
    first, second, other = (
        train_word2vec(sentences, Word2VecConfig(dim=8, epochs=2, seed=seed)).matrix_VD for seed in (4, 4, 5)
    )
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


def test_several_workers_learn_the_same():
    # Several chunks an epoch, so that threads do meet.
    sentences = classes_of_words(3500)
    config = Word2VecConfig(dim=16, window=3, epochs=5, sample=0.0, rate=0.05, workers=3)
    assert same_class(train_word2vec(sentences, config)) > 0.95


def test_training_starts_from_small_even_vectors():
    matrix = initial(200, 50, 0.01, 3)
    assert abs(float(matrix.mean())) < 1e-3
    assert 0.0099 < np.abs(matrix).max() <= 0.01
    untrained = train_word2vec(classes_of_words(50), Word2VecConfig(dim=50, rate=0.0, final_rate=0.0, min_count=1))
    assert untrained.matrix_VD.tobytes() == initial(48, 50, 0.01, 1).tobytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.01, "final_rate": 0.02}, "falls"),
        ({"sample": 1.0}, "below 1"),
        ({"rate": 2.0}, "at most 1"),
        ({"model": "glove"}, "one of skipgram, cbow"),
        ({"dim": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(UserError, match=message):
        from_dict(Word2VecConfig, settings)
