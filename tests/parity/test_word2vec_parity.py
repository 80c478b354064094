"""word2vec and fastText against torch's gradients and gensim."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from cairn.corpus import Quarantine
from cairn.embeddings import FastTextConfig, SubwordVectors, Word2VecConfig, plain, train_fasttext, train_word2vec
from cairn.embeddings.huffman import Paths, huffman_paths
from cairn.embeddings.sampling import alias_table, keep_probability, noise_probability, thresholds
from cairn.embeddings.spool import Spool
from cairn.embeddings.subwords import buckets_of, subword_bags
from cairn.embeddings.training import prepare

gensim_models = pytest.importorskip("gensim.models")

SHARED = Path(__file__).parents[3] / "shared" / "data"
WORDS, DIM, RATE = 30, 7, 0.05


def counts_of(seed, words=WORDS):
    return np.sort(np.random.default_rng(seed).integers(1, 500, words))[::-1]


# --- one step against autograd


def step_error(bag, chosen, rows, seed):
    """Largest difference of a row after one step from what the gradients of the written-out loss say, in float64.

    Rows of the output move by rate x gradient; rows of the bag by rate x gradient x the bag's size.
    """
    rng = np.random.default_rng(seed)
    inputs, outputs = rng.normal(size=(rows, DIM)), rng.normal(size=(WORDS, DIM)) / 2
    i, o = torch.tensor(inputs, requires_grad=True), torch.tensor(outputs, requires_grad=True)
    hidden = i[bag].mean(0)
    loss = -sum(logsigmoid((1 if label else -1) * (hidden @ o[row])) for row, label in chosen)
    loss.backward()
    wanted = inputs - RATE * len(bag) * i.grad.numpy(), outputs - RATE * o.grad.numpy()
    before = inputs.copy()
    plain.step(bag, chosen, inputs, outputs, RATE)
    assert np.abs(inputs - before).max() > 1e-3
    return max(np.abs(inputs - wanted[0]).max(), np.abs(outputs - wanted[1]).max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("model", ["skipgram", "cbow"])
@pytest.mark.parametrize("loss", ["negative-sampling", "hierarchical-softmax"])
def test_a_step_follows_the_gradient(loss, model, subwords, seed):
    rng = np.random.default_rng(seed)
    counts = counts_of(seed)
    if loss == "negative-sampling":
        targets = plain.Targets.drawn(alias_table(noise_probability(counts, 0.75)), 5)
    else:
        targets = plain.Targets.turned(huffman_paths(counts))
    names = ["banana", *(f"w{k}" for k in range(WORDS - 1))]
    bags = subword_bags(names, 3, 4, 40) if subwords else plain.Bags.of_words(WORDS)
    words = [0] if model == "skipgram" else rng.integers(WORDS, size=4).tolist()
    bag = [row for word in words for row in bags.rows[bags.starts[word] : bags.starts[word + 1]].tolist()]
    # Targets drawn twice are learned one after the other, which the loss of a step does not say.
    chosen = list(dict(plain.choose(int(rng.integers(WORDS)), targets, plain.Random(seed))).items())
    assert {label for _, label in chosen} == {0, 1} or loss == "hierarchical-softmax"
    assert step_error(bag, chosen, int(bags.rows.max()) + 1, seed) < 1e-10


# --- a whole pass against gensim where nothing is drawn: a window of 1, hierarchical softmax


def gensims_paths(wv):
    codes = [wv.get_vecattr(k, "code") for k in range(len(wv))]
    starts = np.cumsum([0, *map(len, codes)])
    nodes = np.concatenate([wv.get_vecattr(k, "point") for k in range(len(wv))]).astype(np.int32)
    return Paths(starts, nodes, np.concatenate(codes).astype(np.uint8))


def looked_up(size, limit):
    """gensim's logistic function: a table of which the cells are counted in whole numbers, so that it is off by up to 0.01."""

    def told(score, saturate):
        if not -limit < score < limit:
            return None
        cell = int((score + limit) * (size // limit // 2))
        return 1 / (1 + np.exp(-(2 * cell / size - 1) * limit))

    return told


def pass_of(model, sentences, bags, inputs, outputs, skipgram, rate):
    index = model.wv.key_to_index
    numbers = np.array([k for s in sentences for k in (*(index[word] for word in s), -1)], np.int32)
    rows, keep = np.arange(len(index), dtype=np.int32), np.full(len(index), 0xFFFFFFFF, np.uint32)
    targets = plain.Targets.turned(gensims_paths(model.wv))
    plain.train_chunk(numbers, rows, keep, bags, targets, inputs, outputs, skipgram, False, 1, rate, 1)


def sentences_of(length, seed=0):
    names = np.array([f"word{k}" for k in range(WORDS)])
    return [s.tolist() for s in names[np.random.default_rng(seed).zipf(1.5, (60, length)) % WORDS]]


def distance(found, wanted, before):
    """As a share of the way from where training began."""
    assert np.abs(wanted - before).max() > 0.5
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted - before))


SETTINGS = {"vector_size": 12, "window": 1, "negative": 0, "hs": 1, "sample": 0, "min_count": 1, "workers": 1}


@pytest.mark.parametrize("skipgram", [True, False])
def test_a_pass_of_word2vec_is_gensims(skipgram, monkeypatch):
    """For each word, gensim lets its neighbours tell it; here it tells its neighbours. Of two words that is the same in
    the opposite order."""
    monkeypatch.setattr(plain, "told", looked_up(1000, 6))
    sentences = sentences_of(2 if skipgram else 9)
    theirs = [s[::-1] for s in sentences] if skipgram else sentences
    model = gensim_models.Word2Vec(sg=int(skipgram), alpha=0.25, min_alpha=0.25, **SETTINGS)
    model.build_vocab(theirs)
    rng = np.random.default_rng(1)
    for matrix in (model.syn1, model.wv.vectors):
        matrix[:] = rng.normal(size=matrix.shape) / 3
    inputs, outputs = model.wv.vectors.astype(np.float64), model.syn1.astype(np.float64)
    before = inputs.copy(), outputs.copy()
    pass_of(model, sentences, plain.Bags.of_words(len(model.wv)), inputs, outputs, skipgram, 0.25)
    model.train(theirs, total_examples=len(theirs), epochs=1)
    assert distance(inputs, model.wv.vectors, before[0]) < 1e-5
    assert distance(outputs, model.syn1, before[1]) < 1e-5


def test_a_pass_of_fasttext_is_gensims(monkeypatch):
    """CBOW; for skip-gram gensim divides the sum of a word and its n n-grams by n, where fastText divides by n + 1."""
    monkeypatch.setattr(plain, "told", looked_up(512, 8))
    sentences, buckets = sentences_of(9), 200
    model = gensim_models.FastText(sg=0, alpha=0.25, min_alpha=0.25, bucket=buckets, min_n=3, max_n=5, **SETTINGS)
    model.build_vocab(sentences)
    rng = np.random.default_rng(1)
    for matrix in (model.syn1, model.wv.vectors_vocab, model.wv.vectors_ngrams):
        matrix[:] = rng.normal(size=matrix.shape) / 3
    inputs = np.concatenate([model.wv.vectors_vocab, model.wv.vectors_ngrams]).astype(np.float64)
    outputs = model.syn1.astype(np.float64)
    before = inputs.copy(), outputs.copy()
    bags = subword_bags(model.wv.index_to_key, 3, 5, buckets)
    pass_of(model, sentences, bags, inputs, outputs, False, 0.25)
    model.train(sentences, total_examples=len(sentences), epochs=1)
    theirs = np.concatenate([model.wv.vectors_vocab, model.wv.vectors_ngrams])
    assert distance(inputs, theirs, before[0]) < 1e-5
    assert distance(outputs, model.syn1, before[1]) < 1e-5


# --- vocabulary, draws and trees


@pytest.fixture(scope="module")
def counted():
    """gensim's vocabulary of a text, and ours."""
    file = SHARED / "text" / "wikitext2-valid.txt"
    if not file.exists():
        pytest.skip("no shared data")
    lines = [line.split() for line in file.read_text(encoding="utf-8").split("\n")]
    model = gensim_models.Word2Vec(min_count=3, sample=1e-3, hs=1, negative=5, vector_size=2)
    model.build_vocab(lines)
    with Spool() as spool:
        vocabulary = prepare(file, Word2VecConfig(min_count=3), spool, Quarantine()).vocabulary
    return model, vocabulary


def test_the_vocabulary_is_gensims(counted):
    model, vocabulary = counted
    theirs = {word: model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key}
    assert dict(zip(vocabulary.words, vocabulary.counts.tolist())) == theirs
    assert vocabulary.seen == model.corpus_total_words


def test_words_are_left_out_as_often_as_by_gensim(counted):
    model, vocabulary = counted
    ours = thresholds(keep_probability(vocabulary.counts, 1e-3))
    theirs = np.array([model.wv.get_vecattr(word, "sample_int") for word in vocabulary.words])
    assert (ours < 2**32 - 1).sum() > 30
    assert np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max() <= 1


def test_noise_is_drawn_as_often_as_by_gensim(counted):
    model, vocabulary = counted
    drawn = alias_table(noise_probability(vocabulary.counts, 0.75)).probability()
    table = model.cum_table.astype(np.int64)
    theirs = dict(zip(model.wv.index_to_key, np.diff(table, prepend=0) / table[-1]))
    assert max(abs(p - theirs[word]) for word, p in zip(vocabulary.words, drawn)) < 2**-30


def test_huffman_codes_are_as_short_as_gensims(counted):
    model, vocabulary = counted
    ours = int((np.diff(huffman_paths(vocabulary.counts).starts) * vocabulary.counts).sum())
    theirs = sum(model.wv.get_vecattr(w, "count") * len(model.wv.get_vecattr(w, "code")) for w in vocabulary.words)
    assert ours == theirs > 10**6


# --- n-grams and vectors of unknown words


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_buckets_are_gensims(word, min_n, more):
    from gensim.models.fasttext import ft_ngram_hashes

    try:
        word.encode()
    except UnicodeEncodeError:
        return
    assert buckets_of(word, min_n, min_n + more, 2_000_000) == ft_ngram_hashes(word, min_n, min_n + more, 2_000_000)


def test_vectors_are_gensims_given_the_same_matrices():
    from gensim.models.fasttext import FastTextKeyedVectors

    rng = np.random.default_rng(0)
    words, buckets = ["trail", "banana", "naïve", "数字", "a"], 150
    theirs = FastTextKeyedVectors(8, 3, 6, buckets)
    theirs.add_vectors(words, np.zeros((len(words), 8), np.float32))
    theirs.vectors_vocab = rng.normal(size=(len(words), 8)).astype(np.float32)
    theirs.vectors_ngrams = rng.normal(size=(buckets, 8)).astype(np.float32)
    theirs.recalc_char_ngram_buckets()
    theirs.adjust_vectors()
    from cairn.embeddings.fasttext import composed

    rows = np.concatenate([theirs.vectors_vocab, theirs.vectors_ngrams])
    ours = SubwordVectors(words, composed(subword_bags(words, 3, 6, buckets), rows), theirs.vectors_ngrams, 3, 6)
    for word in [*words, "bananas", "unseen", "über", "日本"]:
        np.testing.assert_allclose(ours.vector(word), theirs[word], atol=1e-6)


# --- what is learned


def planted(sentences=2500, classes=12, members=8, seed=0):
    """(sentences, class of each word): words of a class are drawn in the same places. Names do not tell the class."""
    rng = np.random.default_rng(seed)
    names = np.array([f"{k:04x}" for k in rng.permutation(1 << 16)[: classes * members]]).reshape(classes, members)
    found = []
    for _ in range(sentences):
        kind, sentence = int(rng.integers(classes)), []
        for _ in range(12):
            sentence.append(str(names[kind, rng.integers(members)]))
            kind = (kind + int(rng.choice([1, 5]))) % classes
        found.append(sentence)
    return found, {str(name): kind for kind, row in enumerate(names) for name in row}


def same_class(words, matrix, kinds, neighbours=5):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    kind = np.array([kinds[word] for word in words])
    return float((kind[np.argsort(-cosine)[:, :neighbours]] == kind[:, None]).mean())


@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("loss", ["negative-sampling", "hierarchical-softmax"])
@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_planted_classes_are_found_as_by_gensim(model, loss, subwords):
    sentences, kinds = planted()
    size = {"dim": 20, "window": 2, "epochs": 12, "rate": 0.05}
    theirs = {"vector_size": 20, "window": 2, "epochs": 12, "alpha": 0.05, "workers": 1, "seed": 1}
    theirs |= {"sg": int(model == "skipgram"), "hs": int(loss != "negative-sampling")}
    theirs |= {"negative": 5 if loss == "negative-sampling" else 0}
    if subwords:
        ours = train_fasttext(sentences, FastTextConfig(model=model, loss=loss, buckets=5000, **size))
        other = gensim_models.FastText(sentences, bucket=5000, **theirs)
    else:
        ours = train_word2vec(sentences, Word2VecConfig(model=model, loss=loss, **size))
        other = gensim_models.Word2Vec(sentences, **theirs)
    found = same_class(ours.words, ours.matrix_VD, kinds)
    reference = same_class(other.wv.index_to_key, other.wv.vectors, kinds)
    assert found > max(reference - 0.03, 0.9)  # by chance 7 / 95
