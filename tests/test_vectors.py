"""Word vectors: what is asked of them, the files they come from and go to, hostile ones among them, and pictures."""

import gzip
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings import analogies, layouts, text_form
from cairn.embeddings.analogies import answers, evaluate, read_questions
from cairn.embeddings.formats import open_vectors, read_vectors, write_vectors
from cairn.embeddings.projector import chosen, export, label_offsets, pca, picture, project
from cairn.embeddings.similarity import Pair, correlate, first_rows, interval, ranks, read_pairs, spearman
from cairn.embeddings.tsne import divergence_and_gradient, neighbour_probabilities, tsne
from cairn.embeddings.vectors import WordVectors, cosine

WORDS = ["the", "king", "queen", "naïve", "数字", "🪨", "c++", "e-mail", "King", "x"]


@pytest.fixture
def vectors():
    return WordVectors(WORDS, np.random.default_rng(0).standard_normal((len(WORDS), 5)), np.arange(10, 0, -1))


# --- words, neighbours, directories


def test_nearest_is_every_cosine_sorted(vectors):
    for word in WORDS:
        all_cosines = {other: vectors.similarity(word, other) for other in WORDS if other not in (word, "the")}
        wanted = sorted(all_cosines, key=lambda other: -all_cosines[other])
        found = vectors.nearest(word, 4, exclude=["the"])
        assert [n.word for n in found] == wanted[:4]
        assert found[0].similarity == pytest.approx(all_cosines[wanted[0]], abs=1e-6)
    assert len(vectors.nearest("king", 99)) == len(WORDS) - 1
    assert vectors.nearest(vectors.vector("queen"), 1)[0].word == "queen"
    assert vectors.nearest("king", 0) == []


def test_equal_cosines_keep_their_order_and_zeros_are_near_to_nothing():
    same = WordVectors(["a", "b", "zero", "c"], [[1, 0], [2, 0], [0, 0], [3, 0]])
    assert [n.word for n in same.nearest("a", 3)] == ["b", "c", "zero"]
    assert same.similarity("a", "zero") == 0
    assert same.nearest("zero", 1)[0].similarity == 0
    assert np.isfinite(same.normalized).all()


def test_lengths_of_the_normalized_rows(vectors):
    np.testing.assert_allclose(np.linalg.norm(vectors.normalized, axis=1), 1, atol=1e-6)
    assert vectors.normalized is vectors.normalized
    with pytest.raises(ValueError, match="read-only"):
        vectors.matrix_VD[0, 0] = 1


def test_a_missing_word_names_words_spelt_alike(vectors):
    with pytest.raises(UserError, match=r"'quen'.*did you mean 'queen'"):
        vectors.vector("quen")
    with pytest.raises(UserError, match="did you mean 'the'"):
        vectors.similarity("king", "THE")
    with pytest.raises(UserError, match=r"among 10 words$"):
        vectors.vector("zzzzzzzz")
    with pytest.raises(UserError) as error:
        vectors.vector("y" * 100_000)
    assert len(str(error.value)) < 200
    assert vectors.has("king")
    assert not vectors.has("quen")


@pytest.mark.parametrize(
    ("words", "matrix", "counts"),
    [
        (["a", "b"], np.zeros((3, 2)), None),
        (["a", "a"], np.zeros((2, 2)), None),
        (["a"], np.zeros(3), None),
        (["a", "b"], np.zeros((2, 2)), np.array([1])),
    ],
)
def test_words_rows_and_counts_must_fit(words, matrix, counts):
    with pytest.raises(ValueError, match=r"word|rows|twice|counts"):
        WordVectors(words, matrix, counts)


def test_a_directory_reads_back_the_same(tmp_path, vectors):
    vectors.save(tmp_path / "v", {"kind": "test"})
    back = open_vectors(tmp_path / "v")
    assert back.words == WORDS
    assert back.matrix_VD.tobytes() == vectors.matrix_VD.tobytes()
    assert back.counts is not None
    assert back.counts.tolist() == list(range(10, 0, -1))
    record = json.loads((tmp_path / "v" / "cairn.json").read_text())
    assert record == {"stage": "embeddings", "words": 10, "dimensions": 5, "kind": "test"}
    vectors.save(tmp_path / "v")  # over an older one
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("years")
    with pytest.raises(UserError, match="will not be replaced"):
        vectors.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis").read_text() == "years"


DAMAGE = {
    "no words": (lambda d: (d / "words.json").unlink(), "words.json"),
    "no matrix": (lambda d: (d / "vectors.safetensors").unlink(), "vectors.safetensors"),
    "truncated": (lambda d: (d / "vectors.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"), "truncated"),
    "fewer words": (lambda d: (d / "words.json").write_text('["a"]'), "a row for each of 1"),
    "numbers": (lambda d: (d / "words.json").write_text("[1, 2]"), "list of different words"),
    "twice": (lambda d: (d / "words.json").write_text('["a", "a"]'), "list of different words"),
    "not JSON": (lambda d: (d / "words.json").write_text('["a"'), "not valid JSON"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_directories(tmp_path, vectors, kind):
    vectors.save(tmp_path / "v")
    damage, message = DAMAGE[kind]
    damage(tmp_path / "v")
    with pytest.raises(UserError, match=message):
        WordVectors.load(tmp_path / "v")


def test_a_directory_with_nan_is_refused(tmp_path):
    WordVectors(["a"], [[np.nan]]).save(tmp_path / "v")
    with pytest.raises(UserError, match="not finite"):
        WordVectors.load(tmp_path / "v")


# --- files


@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin", "v.glove", "v.bin.gz", "v.vec.gz", "v.glove.gz"])
def test_files_read_back_bit_for_bit(tmp_path, vectors, name):
    extreme = np.array([[1e-45, -0.0, 3.4028235e38, 0.1, 1 / 3], *vectors.matrix_VD[1:]], np.float32)
    written = WordVectors(WORDS, extreme)
    write_vectors(written, tmp_path / name)
    for form in ("", "binary" if "bin" in name else "glove" if "glove" in name else "text"):
        back = read_vectors(tmp_path / name, form)
        assert back.words == WORDS
        assert back.matrix_VD.tobytes() == extreme.tobytes()
    assert read_vectors(tmp_path / name, limit=3).words == WORDS[:3]


def test_blocks_do_not_show(tmp_path, monkeypatch):
    """Many small blocks give what one large one gives, in the binary form and in text."""
    many = WordVectors([f"w{i}" for i in range(500)], np.random.default_rng(1).standard_normal((500, 7)))
    for name in ("m.bin", "m.vec", "m.glove"):
        write_vectors(many, tmp_path / name)
    for module in ("binary_form", "text_form"):
        monkeypatch.setattr(f"cairn.embeddings.{module}.BLOCK_BYTES", 100)
    for name in ("m.bin", "m.vec", "m.glove"):
        back = read_vectors(tmp_path / name)
        assert back.words == many.words
        assert back.matrix_VD.tobytes() == many.matrix_VD.tobytes()


def test_words_with_spaces_and_numbers_are_split_from_the_right(tmp_path):
    """As in glove.840B: ". . ." and "at name@domain.com" are words there."""
    (tmp_path / "g.txt").write_text("the 0.1 0.2\n. . . 1 2\nat 5 pm 3 4\n2009 5 6\nat 7 8\n")
    found = read_vectors(tmp_path / "g.txt")
    assert found.words == ["the", ". . .", "at 5 pm", "2009", "at"]
    assert found.vector("at 5 pm").tolist() == [3, 4]
    write_vectors(found, tmp_path / "back.glove")
    assert read_vectors(tmp_path / "back.glove").words == found.words
    quarantine = Quarantine()
    write_vectors(found, tmp_path / "less.bin", skip_bad=True, quarantine=quarantine)
    assert read_vectors(tmp_path / "less.bin").words == ["the", "2009", "at"]
    assert sum(quarantine.counts.values()) == 2
    with pytest.raises(UserError, match="cannot hold the word"):
        write_vectors(found, tmp_path / "less.vec")
    assert not (tmp_path / "less.vec").exists()


def test_carriage_returns_trailing_spaces_and_line_ends_after_binary_rows(tmp_path):
    (tmp_path / "c.vec").write_bytes(b"2 2\r\na 1 2 \r\nb +3 4e0 \r\n")
    assert read_vectors(tmp_path / "c.vec").matrix_VD.tolist() == [[1, 2], [3, 4]]
    rows = b"".join(word + b" " + struct.pack("<2f", *row) + b"\n" for word, row in ((b"a", (1, 2)), (b"b", (3, 4))))
    (tmp_path / "c.bin").write_bytes(b"2 2\n" + rows)
    assert read_vectors(tmp_path / "c.bin").words == ["a", "b"]


BAD = {
    "a word for a number": ("3 2\na 1 2\nb 1 x\nc 3 4\n", "line 3: something else than finite numbers"),
    "NaN": ("3 2\na 1 2\nb 1 nan\nc 3 4\n", "line 3: something else than finite numbers"),
    "too large for float32": ("3 2\na 1 2\nb 1 1e39\nc 3 4\n", "line 3: something else than finite numbers"),
    "a number short": ("3 2\na 1 2\nb 1\nc 3 4\n", "line 3: 1 numbers where 2"),
    "no word": ("3 2\na 1 2\n 1 5\nc 3 4\n", "line 3: an empty word"),
    "two spaces": ("3 2\na 1 2\nb 1  5\nc 3 4\n", "line 3: something else than finite numbers"),
    "truncated": ("3 2\na 1 2\nc 3 4\n", "line 4: the file ends after 2 of 3 words"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_named_or_counted(tmp_path, kind):
    text, message = BAD[kind]
    (tmp_path / "bad.vec").write_text(text)
    with pytest.raises(UserError, match=f"bad.vec, {message}.*skip-bad"):
        read_vectors(tmp_path / "bad.vec")
    quarantine = Quarantine()
    found = read_vectors(tmp_path / "bad.vec", skip_bad=True, quarantine=quarantine)
    assert found.words == ["a", "c"]
    assert found.matrix_VD.tolist() == [[1, 2], [3, 4]]
    assert sum(quarantine.counts.values()) == 1
    assert message.split(": ")[0] in quarantine.examples[0]["where"]


def test_doubles_and_wrong_bytes_are_counted(tmp_path):
    (tmp_path / "d.vec").write_bytes(b"5 1\na 1\nb 2\na 3\n\xff\xfe 4\nb 5\n")
    quarantine = Quarantine()
    found = read_vectors(tmp_path / "d.vec", quarantine=quarantine)
    assert found.words == ["a", "b", "\ufffd\ufffd"]
    assert found.matrix_VD.tolist() == [[1], [2], [4]]
    assert quarantine.counts == {"a word that was there before": 2, "a word that is not UTF-8": 1}
    assert {example["where"].rpartition(", ")[2] for example in quarantine.examples} == {"line 4", "line 5", "line 6"}


def test_more_than_the_header_promises_is_counted(tmp_path):
    (tmp_path / "m.vec").write_text("1 2\na 1 2\nb 3 4\n")
    quarantine = Quarantine()
    assert read_vectors(tmp_path / "m.vec", quarantine=quarantine).words == ["a"]
    assert quarantine.examples[0]["where"].endswith("line 3")


def binary(words, dim, rows):
    return f"{words} {dim}\n".encode() + b"".join(word + b" " + np.asarray(row, "<f4").tobytes() for word, row in rows)


REFUSED = {
    "empty": (b"", "empty"),
    "a header alone": (b"10 5\n", "truncated or damaged"),
    "a huge header": (b"1000000000 300\nabc 1 2\n", "more than the"),
    "a large header": (b"1000000 300\nabc 1 2\n", "truncated or damaged"),
    "no words": (b"0 5\n", "0 words"),
    "no dimensions": (b"5 0\na\nb\n", "0 dimensions"),
    "many dimensions": (b"1 99999999\na 1\n", "99,999,999 dimensions"),
    "prose": (b"It was a dark and stormy night.\nThe end.\n", "no word vectors"),
    "one long line": (b"9 2\na 1 2\n" + b"x" * 100_000 + b"\n", "longer than"),
    "pickle": (b"\x80\x04\x95rest", "never read"),
    "fastText's model": (struct.pack("<i", 793712314) + b"rest", "the .vec file"),
    "NumPy": (b"\x93NUMPY\x01", "without words"),
    "binary without spaces": (binary(2, 2, [(b"a", (0.1, 2))]) + b"x" * 5000, "no space within"),
    "binary truncated": (binary(2, 3, [(b"a", (1, 2, 3)), (b"b", (1, 2, 3))])[:-1], "ends after 1 of 2 words"),
    "binary NaN": (binary(1, 3, [(b"a", (1, math.nan, 3))]), "word 1: a vector of numbers that are not finite"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_with_a_reason(tmp_path, kind):
    content, message = REFUSED[kind]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_vectors(tmp_path / "file")


def test_packed_files_that_are_damaged_or_too_good_to_be_true(tmp_path):
    whole = gzip.compress(b"2 2\na 1 2\nb 3 4\n")
    (tmp_path / "cut.vec.gz").write_bytes(whole[:-9])
    (tmp_path / "none.vec.gz").write_bytes(b"2 2\na 1 2\nb 3 4\n")
    (tmp_path / "bomb.vec.gz").write_bytes(gzip.compress(b"4000000 1000\na 1 2\n"))
    for name in ("cut", "none"):
        with pytest.raises(UserError, match="damaged"):
            read_vectors(tmp_path / f"{name}.vec.gz")
    with pytest.raises(UserError, match="truncated or damaged"):
        read_vectors(tmp_path / "bomb.vec.gz")


def test_names_that_do_not_say_a_form(tmp_path, vectors):
    with pytest.raises(UserError, match="in which form"):
        write_vectors(vectors, tmp_path / "v.dat")
    write_vectors(vectors, tmp_path / "v.dat", "binary")
    assert read_vectors(tmp_path / "v.dat").words == WORDS
    with pytest.raises(UserError, match=r"not \.zst"):
        write_vectors(vectors, tmp_path / "v.vec.zst", "text")
    with pytest.raises(UserError, match="unknown form"):
        read_vectors(tmp_path / "v.dat", "hdf5")
    with pytest.raises(UserError, match="first line must be two numbers"):
        (tmp_path / "g.txt").write_text("a 1 2\n")
        read_vectors(tmp_path / "g.txt", "text")
    with pytest.raises(UserError, match="does not exist"):
        read_vectors(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no word vectors"):
        open_vectors(tmp_path)


SEEDS = [
    b"3 2\na 1 2\nb 3 4\nc 5 6\n",
    b"a 1 2 3\nb c 4 5 6\n. 7 8 9\n",
    binary(3, 2, [(b"a", (1, 2)), (b"\xff", (3, 4)), (b"c", (5, 6))]),
]
PIECES = st.sampled_from(
    [b" ", b"\n", b"0", b"9", b"-", b"e99", b"nan", b"\0", b"\xff", b"\r", b"  ", b"\n\n", b"1 1\n", b"\t"]
)


@st.composite
def hostile(draw):
    """Bytes of any kind, or a good file with something cut out, put in or changed."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 6)))
        data = data[:start] + draw(st.one_of(PIECES, st.binary(max_size=4), st.just(b""))) + data[stop:]
    return data


@settings(max_examples=400, deadline=None)
@given(data=hostile(), form=st.sampled_from(["", *layouts.FORMS]), skip=st.booleans(), packed=st.booleans())
def test_no_bytes_break_the_reader(tmp_path_factory, data, form, skip, packed):
    """Vectors whose words are different and whose numbers are finite, or a UserError of one line: nothing else."""
    path = tmp_path_factory.getbasetemp() / ("hostile.gz" if packed else "hostile")
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    quarantine = Quarantine()
    try:
        found = read_vectors(path, form, skip_bad=skip, quarantine=quarantine)
    except UserError:
        return
    assert len(found) == len(set(found.words)) == len(found.matrix_VD) > 0
    assert np.isfinite(found.matrix_VD).all()
    assert all(found.words)
    if not skip:
        assert not set(quarantine.counts) - {
            "a word that was there before",
            "a word that is not UTF-8",
            "lines after the last that the header promises",
            "bytes after the last word that the header promises",
        }


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=4, max_size=4))
def test_numbers_are_parsed_as_python_parses_them(numbers):
    rest = b" ".join(repr(number).encode() for number in numbers)
    found = text_form._numbers([rest], 4)
    assert found is not None
    assert found[0].tolist() == numbers
    assert text_form._careful(rest).tolist() == numbers


# --- similarity and analogies


def test_ranks_of_equal_values_are_their_mean():
    assert ranks([10, 10, 10]).tolist() == [2, 2, 2]
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1], [1, 2]))
    assert math.isnan(spearman([], []))


def test_the_interval_covers_the_truth_nineteen_times_of_twenty():
    rng = np.random.default_rng(0)
    n, rho = 60, 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of normal pairs with Pearson's rho
    inside = 0
    for _ in range(800):
        a = rng.standard_normal(n)
        b = rho * a + math.sqrt(1 - rho**2) * rng.standard_normal(n)
        low, high = interval(spearman(a, b), n)
        inside += low <= truth <= high
    assert 0.93 < inside / 800 < 0.97
    assert interval(0.5, 3) == (-1, 1)


FORMS_OF_PAIRS = {
    "tabs": "# comment\ntiger\tcat\t7.35\r\nbook\tpaper\t7.46\r\n",
    "a heading": "Word 1,Word 2,Human (mean)\ntiger,cat,7.35\nbook,paper,7.46\n",
    "semicolons": "tiger;cat;7.35\nbook;paper;7.46",
    "spaces": "tiger cat   7.35\nbook paper 7.46\n\n",
    "SimLex with its columns": "word1\tword2\tPOS\tSimLex999\tconc(w1)\ntiger\tcat\tN\t7.35\t5\nbook\tpaper\tN\t7.46\t5\n",
}


@pytest.mark.parametrize("kind", FORMS_OF_PAIRS)
def test_files_of_pairs(tmp_path, kind):
    (tmp_path / "pairs").write_bytes(FORMS_OF_PAIRS[kind].encode())
    quarantine = Quarantine()
    assert read_pairs(tmp_path / "pairs", quarantine) == [("tiger", "cat", 7.35), ("book", "paper", 7.46)]
    assert not quarantine.counts


def test_lines_that_are_no_pairs_are_counted(tmp_path):
    (tmp_path / "pairs").write_text("a b 1\nc d\ne f nan\n g 2\n")
    quarantine = Quarantine()
    assert len(read_pairs(tmp_path / "pairs", quarantine)) == 1
    assert quarantine.counts == {"not two words and a number": 3}
    (tmp_path / "pairs").write_text("nothing here\n")
    with pytest.raises(UserError, match="no pairs"):
        read_pairs(tmp_path / "pairs", quarantine)
    (tmp_path / "pairs").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_pairs(tmp_path / "pairs", quarantine)


def test_capitals_fold_to_the_most_frequent_spelling(vectors):
    assert first_rows(WORDS)["KING"] == 1
    assert first_rows(WORDS, fold=False)["King"] == 8
    assert "X" not in first_rows(WORDS, restrict=9)
    pairs = [Pair(w, "the", float(i)) for i, w in enumerate(["KING", "Queen", "x", "nowhere"])]
    found = correlate(vectors, pairs)
    assert (found.known, found.pairs, found.composed) == (3, 4, 0)
    expected = [cosine(vectors.vector(w), vectors.vector("the")) for w in ("king", "queen", "x")]
    assert found.spearman == pytest.approx(spearman([0, 1, 2], expected))


def _countries():
    """Capital = country + a fixed step, exactly."""
    rng = np.random.default_rng(0)
    countries = rng.standard_normal((30, 12))
    matrix = np.concatenate([countries, countries + 2 * rng.standard_normal(12)])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return WordVectors([f"Country{i}" for i in range(30)] + [f"City{i}" for i in range(30)], matrix)


@pytest.mark.parametrize("method", analogies.METHODS)
def test_planted_analogies_are_found_whatever_the_blocks(tmp_path, monkeypatch, method):
    vectors = _countries()
    lines = [": capitals", *(f"country{i} city{i} country{i + 1} CITY{i + 1}" for i in range(29))]
    lines += [": gram1", "country1 city1 country2 nowhere", "three words only", "city1 country1 city2 country2"]
    (tmp_path / "q.txt").write_text("\n".join(lines))
    quarantine = Quarantine()
    sections = read_questions(tmp_path / "q.txt", quarantine)
    assert quarantine.counts == {"not four words": 1}
    found = {score.section: score for score in evaluate(vectors, sections, method)}
    assert found["capitals"].score.score > 20 * found["capitals"].score.chance
    assert found["capitals"].score.chance == pytest.approx(1 / 57)
    assert (found["gram1"].asked, found["gram1"].score.n) == (2, 1)
    assert set(found) == {"capitals", "gram1", "all facts", "all forms of words", "all"}
    monkeypatch.setattr(analogies, "QUESTIONS", 4)
    monkeypatch.setattr(analogies, "COLUMNS", 7)
    assert {score.section: score for score in evaluate(vectors, sections, method)} == found
    assert evaluate(vectors, sections, method, fold=False)[-1].score.n == 0
    right = [answers(vectors, f"Country{i}", f"City{i}", f"Country{i + 1}", 1, method)[0].word for i in range(29)]
    share = sum(word == f"City{i + 1}" for i, word in enumerate(right)) / 29
    assert share == pytest.approx(found["capitals"].score.score)


def test_no_spelling_of_a_question_s_word_is_an_answer():
    vectors = WordVectors(["a", "b", "c", "d", "B", "C"], [[1, 0], [1, 1], [0, 1], [0.9, 1], [1, 1], [0.2, 1]])
    sections = {"s": [analogies.Question("a", "b", "c", "d")]}
    assert evaluate(vectors, sections)[-1].score.score == 1
    assert {n.word for n in answers(vectors, "a", "b", "c", 10)} == {"d", "B", "C"}


def test_unknown_ways_are_refused(vectors):
    for call in (
        lambda: answers(vectors, "the", "king", "x", method="divide"),
        lambda: evaluate(vectors, {}, "divide"),
        lambda: project(vectors, WORDS, "umap"),
    ):
        with pytest.raises(UserError, match="known: "):
            call()


# --- pictures


def test_t_sne_s_gradient_is_that_of_its_divergence():
    rng = np.random.default_rng(0)
    p_NN, y_N2 = neighbour_probabilities(rng.standard_normal((12, 4)), 3), rng.standard_normal((12, 2))
    _, gradient_N2 = divergence_and_gradient(p_NN, y_N2)
    for i, k in ((0, 0), (3, 1), (11, 0)):
        moved = [y_N2.copy(), y_N2.copy()]
        moved[0][i, k] += 1e-6
        moved[1][i, k] -= 1e-6
        slope = (divergence_and_gradient(p_NN, moved[0])[0] - divergence_and_gradient(p_NN, moved[1])[0]) / 2e-6
        assert gradient_N2[i, k] == pytest.approx(slope, abs=1e-8)


def test_every_point_has_as_many_neighbours_as_the_perplexity_says():
    x_ND = np.random.default_rng(0).standard_normal((50, 4)) * 100
    p_NN = neighbour_probabilities(x_ND, 7)
    assert p_NN.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(p_NN, p_NN.T)


def test_t_sne_keeps_groups_together():
    rng = np.random.default_rng(0)
    centres = 5 * rng.standard_normal((3, 10))
    x_ND = np.concatenate([centre + rng.standard_normal((15, 10)) for centre in centres])
    y_N2 = tsne(x_ND, perplexity=8)
    nearest = np.argsort(((y_N2[:, None] - y_N2[None]) ** 2).sum(-1), axis=1)[:, 1]
    assert (nearest // 15 == np.arange(45) // 15).all()
    np.testing.assert_array_equal(y_N2, tsne(x_ND, perplexity=8))
    with pytest.raises(ValueError, match="four points"):
        tsne(x_ND[:3])


def test_principal_components_hold_all_the_variance():
    x_ND = np.random.default_rng(0).standard_normal((20, 5))
    points, shares = pca(x_ND, 5)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 0).all()
    distances = ((x_ND[:, None] - x_ND[None]) ** 2).sum(-1)
    np.testing.assert_allclose(((points[:, None] - points[None]) ** 2).sum(-1), distances, atol=1e-9)


def test_labels_step_aside():
    words = ["first", "second"]
    offsets = label_offsets(np.array([[100.0, 100.0], [101.0, 100.0]]), words, 9.0)
    assert offsets[0] != offsets[1]
    assert label_offsets(np.array([[0.0, 0.0], [500.0, 500.0]]), words, 9.0)[1] == offsets[0]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_picture_names_every_word_and_is_the_same_each_time(tmp_path, vectors, method):
    words = ["the", "king", "queen", "c++", "x"]
    first = picture(vectors, words, tmp_path / "a.svg", method).read_bytes()
    assert all(f">{word}<".encode() in first for word in words)
    assert picture(vectors, words, tmp_path / "b.svg", method).read_bytes() == first
    with pytest.raises(UserError, match=r"\.svg or \.png"):
        picture(vectors, words, tmp_path / "a.jpeg", method)


def test_dollar_signs_are_no_formulas(tmp_path):
    words = ["$x^{$", "a$", "$", "b", r"\frac{"]
    drawn = picture(WordVectors(words, np.random.default_rng(0).standard_normal((5, 3))), words, tmp_path / "d.svg")
    assert b">$x^{$<" in drawn.read_bytes()


def test_the_words_of_a_picture(vectors):
    assert chosen(vectors, [], 4) == WORDS[:4]
    assert chosen(vectors, ["x", "king", "x", "the", "c++"], 9) == ["x", "king", "the", "c++"]
    with pytest.raises(UserError, match="no vector"):
        chosen(vectors, ["x", "king", "the", "nowhere"], 9)
    with pytest.raises(UserError, match="4 to 2,000 words, got 3"):
        chosen(vectors, [], 3)


def test_the_pair_of_files_for_the_projector(tmp_path, vectors):
    odd = WordVectors(["a\tb", *WORDS[1:]], vectors.matrix_VD, vectors.counts)
    export(odd, odd.words, tmp_path)
    read = np.loadtxt(tmp_path / "vectors.tsv", delimiter="\t", dtype=np.float32)
    np.testing.assert_array_equal(read, vectors.matrix_VD)
    names = (tmp_path / "metadata.tsv").read_text().splitlines()
    assert names[:2] == ["word\tcount", "a b\t10"]
    assert len(names) == len(WORDS) + 1
    export(WordVectors(WORDS, vectors.matrix_VD), WORDS, tmp_path)
    assert (tmp_path / "metadata.tsv").read_text().splitlines() == WORDS
