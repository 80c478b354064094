"""Word vectors against gensim, SciPy, scikit-learn and torch: the checks of `cairn parity` with more seeds, and the lists of
word pairs and analogies that the field uses."""

from pathlib import Path

import numpy as np
import pytest

from cairn.corpus import Quarantine
from cairn.embeddings.analogies import evaluate, read_questions
from cairn.embeddings.formats import read_vectors, write_vectors
from cairn.embeddings.projector import pca
from cairn.embeddings.similarity import correlate, read_pairs
from cairn.embeddings.tsne import divergence_and_gradient, neighbour_probabilities, tsne
from cairn.embeddings.vectors import WordVectors
from cairn.parity import embeddings as parity

DATA = Path(__file__).parents[3] / "shared" / "data" / "embeddings"
MODULE = {"scikit-learn": "sklearn"}


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: f"{check.part} ({check.oracle})")
def test_check(check):
    pytest.importorskip(MODULE.get(check.oracle, check.oracle))
    assert max(check.run(seed) for seed in range(5)) <= check.tolerance


def test_our_binary_file_is_gensim_s_byte_for_byte(tmp_path):
    pytest.importorskip("gensim")
    vectors = parity.some_vectors(3)
    write_vectors(vectors, tmp_path / "ours.bin")
    parity.keyed(vectors).save_word2vec_format(str(tmp_path / "theirs.bin"), binary=True)
    assert (tmp_path / "ours.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()


def test_text_of_a_float64_program_is_read_as_gensim_reads_it(tmp_path):
    """Numbers of up to 20 digits, exponents and signs: the same float32 to the last bit."""
    models = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((200, 6)) * 10.0 ** rng.integers(-44, 38, (200, 6))
    forms = ["{!r}", "{:.6f}", "{:e}", "{:.20g}", "{:+.9E}", "{:.0f}"]
    rows = [f"w{i} " + " ".join(form.format(float(x)) for form, x in zip(forms, row)) for i, row in enumerate(numbers)]
    file = tmp_path / "wide.vec"
    file.write_text("200 6\n" + " \n".join(rows) + " \n")
    theirs = models.KeyedVectors.load_word2vec_format(str(file))
    assert read_vectors(file).matrix_VD.tobytes() == theirs.vectors.tobytes()


@pytest.fixture(scope="module")
def worldly():
    """All words of the real test files, with vectors in which a third of the analogies hold."""
    if not DATA.exists():
        pytest.skip(f"needs {DATA}")
    quarantine = Quarantine()
    sections = read_questions(DATA / "questions-words.txt", quarantine)
    words = dict.fromkeys(word for questions in sections.values() for question in questions for word in question)
    for file in sorted(DATA.glob("EN-*.txt")):
        words.update(dict.fromkeys(word for pair in read_pairs(file, quarantine) for word in pair[:2]))
    assert not quarantine.counts
    rng = np.random.default_rng(0)
    place = {word: i for i, word in enumerate(words)}
    matrix_VD = rng.standard_normal((len(words), 30))
    for questions in sections.values():
        offset_D = 1.2 * rng.standard_normal(30)
        for a, b, c, d in questions[::3]:
            matrix_VD[place[b]], matrix_VD[place[d]] = matrix_VD[place[a]] + offset_D, matrix_VD[place[c]] + offset_D
    return WordVectors(list(words), matrix_VD), sections


@pytest.mark.parametrize(("name", "pairs"), [("EN-RG-65", 65), ("EN-SIMLEX-999", 999), ("EN-WS-353-ALL", 353)])
def test_the_three_lists_of_pairs(worldly, name, pairs):
    pytest.importorskip("gensim")
    file = DATA / f"{name}.txt"
    ours = correlate(worldly[0], read_pairs(file, Quarantine()))
    theirs = parity.keyed(worldly[0]).evaluate_word_pairs(str(file))
    assert ours.known == ours.pairs == pairs
    # Cosines that are equal in float32 share a rank there.
    assert ours.spearman == pytest.approx(theirs[1][0], abs=1e-5)
    assert ours.pearson == pytest.approx(theirs[0][0], abs=1e-6)


def test_the_list_of_analogies(worldly, tmp_path):
    pytest.importorskip("gensim")
    vectors, sections = worldly
    some = {section: questions[::20] for section, questions in sections.items()}
    lines = [line for section, questions in some.items() for line in (f": {section}", *map(" ".join, questions))]
    assert sum(map(len, sections.values())) == 19_544
    ours = {found.section: found.score for found in evaluate(vectors, some)}
    file = tmp_path / "questions.txt"
    file.write_text("\n".join(lines))
    score, theirs = parity.keyed(vectors).evaluate_word_analogies(str(file))
    assert 0.5 < score < 1
    for section in theirs[:-1]:
        found = ours[section["section"]]
        assert round(found.score * found.n) == len(section["correct"])
    assert ours["all"].score == pytest.approx(score, abs=1e-12)


def test_the_plane_of_t_sne_is_as_good_as_scikit_learn_s():
    manifold = pytest.importorskip("sklearn.manifold")
    rng = np.random.default_rng(0)
    x_ND = np.concatenate([4 * rng.standard_normal(15) + rng.standard_normal((30, 15)) for _ in range(5)])
    theirs = manifold.TSNE(method="exact", init="pca", perplexity=20, max_iter=1000).fit_transform(x_ND)
    p_NN = neighbour_probabilities(x_ND, 20)
    ours = tsne(x_ND, 20, start_N2=pca(x_ND)[0])
    assert divergence_and_gradient(p_NN, ours)[0] < 1.1 * divergence_and_gradient(p_NN, theirs)[0]
