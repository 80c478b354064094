"""Unigram, SentencePiece's BPE, WordPiece and the teaching models by themselves: kernels against their plain twins, damaged
files, refusals. Against the reference libraries: tests/parity/test_pieces_parity.py."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.tokenizers import unigram_plain as plain
from cairn.tokenizers.charsmap import Charsmap, Rules, compile_rules
from cairn.tokenizers.fragments import count_fragments, cut, required_characters
from cairn.tokenizers.levels import Characters, WordModel, Words, train_characters, train_words
from cairn.tokenizers.modelfile import (
    BPE,
    UNIGRAM,
    ModelFile,
    Piece,
    PieceType,
    read_model,
    read_model_file,
    write_model,
)
from cairn.tokenizers.normalize import SentencePieceNormalizer, nmt_nfkc, nmt_nfkc_rules
from cairn.tokenizers.sentencepiece import SentencePieceBPE, read
from cairn.tokenizers.sentencepiece_training import SentencePieceBPEConfig, train_sentencepiece_bpe
from cairn.tokenizers.unigram import Unigram
from cairn.tokenizers.unigram_training import Training, UnigramConfig, train_unigram
from cairn.tokenizers.wordpiece import WordPiece, train_wordpiece

IDENTITY = SentencePieceNormalizer(b"", collapse_spaces=False)
IDENTITY_PLAIN = SentencePieceNormalizer(dummy_prefix=False, collapse_spaces=False)
UNKNOWN = Piece("<unk>", 0.0, PieceType.UNKNOWN)
LETTERS = st.text(st.sampled_from("ab c=é漢😀"), max_size=40)


def vocabulary(rng, size, letters="ab =é漢▁"):
    """Random pieces with random scores; some characters have none."""
    texts = sorted(
        {"".join(rng.choice(letters) for _ in range(rng.randrange(1, 6))).replace(" ", "▁") for _ in range(size)}
    )
    return [UNKNOWN, *(Piece(text, float(np.float32(-rng.random() * 9))) for text in texts)]


# --- normalisation


def test_compiled_rules_take_the_longest_key():
    root, after_a = Rules(), Rules()
    after_a.edges = {"b": (None, "2"), "é": (None, "")}
    root.edges = {"a": (after_a, "1"), "😀": (None, ":)"), "c": (after_a, None)}
    rules = Charsmap(compile_rules(root))
    assert rules.replace("a ab aé cb c 😀x") == "1 2  2 c :)x"
    assert rules.parts("abx") == [(2, "2"), (1, "x")]


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_alignment_gives_the_same_text_and_places_within_it(text):
    normalizer = SentencePieceNormalizer(nmt_nfkc_rules())
    normalized, places = normalizer.aligned(text)
    assert normalized == normalizer(text)
    assert len(places) == len(normalized) + 1
    assert places == sorted(places)
    assert places[-1] <= len(text)


def test_compiled_rules_are_nmt_nfkc_on_every_character():
    rules = Charsmap(nmt_nfkc_rules())
    for point in [*range(1, 0xD800), *range(0xE000, 0x30000)]:
        assert rules.replace(chr(point)) == nmt_nfkc(chr(point)), hex(point)
    for text in ("Cafe\u0301", "각", "ﾊﾟ", "\u2460A\u030a"):
        assert rules.replace(text) == nmt_nfkc(text)


# --- unigram


@pytest.mark.parametrize("exact", ["sentencepiece", "tokenizers"])
def test_kernel_segments_as_the_definition(exact):
    rng = random.Random(exact)
    for trial in range(20):
        bytes_ = [Piece(f"<0x{b:02X}>", 0.0, PieceType.BYTE) for b in range(256)] if trial % 2 else []
        pieces = [*vocabulary(rng, 30), *bytes_]
        pieces[3] = Piece(pieces[3].text, 0.0, PieceType.USER_DEFINED)
        pieces[5] = Piece(pieces[5].text, pieces[5].score, PieceType.UNUSED)
        model = Unigram(pieces, IDENTITY, byte_fallback=bool(bytes_), exact=exact)
        for _ in range(50):
            text = "".join(rng.choice("ab =é漢😀") for _ in range(rng.randrange(30)))
            expected = [token for token, _, _ in model.spelled(text)]
            assert model.id_arrays([text])[0].tolist() == expected
            assert [token for token, _, _ in model.encode_spans(text)] == model.encode(text)


def test_batches_are_the_texts_one_by_one(text):
    texts = [*text.split("\n"), "", " ", "😀" * 9, text, "  e\u0301 ", "\u0301"] * 3
    for model in (train_unigram([text], 330), train_sentencepiece_bpe([text], 330)):
        for threads, more in ((1, []), (2, ["a\0 b"])):
            texts += more
            found = model.encode_batch(texts, threads)
            assert [ids.tolist() for ids in found] == [model.encode(t) for t in texts]
            assert all(ids.dtype == np.int32 for ids in found)


def test_float32_sums_are_made_relative_again():
    model = Unigram([UNKNOWN, Piece("a", -9.3), Piece("aa", -18.7), Piece("▁", -3.0)], IDENTITY, exact="sentencepiece")
    text = "a" * 30_000  # the sum goes far beyond RESET
    assert model.id_arrays([text])[0].tolist() == [token for token, _, _ in model.segment(text)]


def test_nbest_lists_all_segmentations_in_order():
    scores = {"a": -1.0, "b": -2.0, "ab": -2.5, "ba": -2.2, "aba": -6.0}
    model = Unigram([UNKNOWN, *(Piece(t, s) for t, s in scores.items())], SentencePieceNormalizer(dummy_prefix=False))
    expected = sorted((plain.score(path, scores) for path in plain.segmentations("abab", scores)), reverse=True)
    found = model.nbest("abab", 100)
    assert [score for _, score in found] == pytest.approx(expected)
    assert len({tuple(ids) for ids, _ in found}) == len(found)
    assert [score for _, score in model.nbest("abab", 2)] == pytest.approx(expected[:2])
    assert found[0][0] == model.encode("abab")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_samples_follow_the_probabilities(alpha):
    scores = {"a": -1.0, "b": -2.0, "ab": -2.5, "ba": -2.2}
    pieces = [UNKNOWN, *(Piece(t, s) for t, s in scores.items())]
    model = Unigram(pieces, SentencePieceNormalizer(dummy_prefix=False))
    rng = random.Random(1)
    drawn = Counter(tuple(pieces[i].text for i in model.sample("aba", alpha, rng)) for _ in range(4000))
    weights = {tuple(p): math.exp(alpha * plain.score(p, scores)) for p in plain.segmentations("aba", scores)}
    for path, weight in weights.items():
        assert drawn[path] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.035)
    assert model.encode("aba") in [list(model.sample("aba", 50.0, rng)) for _ in range(3)]


FRAGMENTS = {" banana": 4, "ananas": 1, " nab": 3, "a": 7, "bb": 2, "nanananananananananananananananananananan": 1}


def training(**changes):
    words = [text for text, count in FRAGMENTS.items() for _ in range(count)]
    fragments = count_fragments(words, SentencePieceNormalizer(dummy_prefix=False, collapse_spaces=False))
    assert dict(zip(fragments.texts(), fragments.counts.tolist())) == FRAGMENTS
    return Training(fragments, sorted(fragments.characters), UnigramConfig(**changes))


def test_seeds_are_the_repeated_substrings():
    made = training(longest=6)
    found = dict(zip(made.texts(), np.exp(made.scores)))
    expected = {text: count * len(text) for text, count in plain.seeds(FRAGMENTS, 6).items()}
    expected |= Counter("".join(text * count for text, count in FRAGMENTS.items()))
    assert found == pytest.approx({text: weight / sum(expected.values()) for text, weight in expected.items()})


def test_sums_over_the_lattices_are_those_over_all_segmentations():
    runs = {" banana": 4, "ananas": 1, " nab": 3, "bb": 2, "nanananannnn": 1}
    fragments = count_fragments([t for t, n in runs.items() for _ in range(n)], IDENTITY_PLAIN)
    made = Training(fragments, sorted(fragments.characters), UnigramConfig(longest=4))
    scores = dict(zip(made.texts(), made.scores))
    expected, likelihood = plain.expect(runs, scores)
    found = np.zeros(len(made.scores))
    lattices = (made.starts, made.pieces, made.lengths)
    value = made.kernels.expect(made.runs, 0, len(made.runs), *lattices, made.scores, np.exp(made.scores), found)
    assert value == pytest.approx(likelihood)
    assert dict(zip(made.texts(), found)) == pytest.approx(expected)
    best = np.zeros(len(made.scores))
    made.kernels.count_best(made.runs, 0, len(made.runs), *lattices, made.scores, best)
    reference = plain.count_best(runs, scores)
    assert sum(best * made.scores) == pytest.approx(sum(n * scores[p] for p, n in reference.items()))
    losses = np.zeros(len(best))
    made.kernels.losses(0, len(best), made.places, made.sizes, *lattices, made.scores, best, losses)
    counts = dict(zip(made.texts(), best))
    for text, loss in zip(made.texts(), losses):
        if len(text) > 1:
            assert loss == pytest.approx(plain.loss(text, scores, counts))


def test_long_runs_give_the_same_sums_by_logarithms():
    """A run of 29 characters is summed by products; the same sums come from `_expect_log`, which longer ones take."""
    fragments = count_fragments(["na" * 14 + "n", "nan", "ann", "an"], IDENTITY_PLAIN)
    made = Training(fragments, sorted(fragments.characters), UnigramConfig(longest=5))
    lattices = (made.starts, made.pieces, made.lengths)
    begin, end, count = made.runs[0]
    found = np.zeros((2, len(made.scores)))
    value = made.kernels.expect(made.runs, 0, 1, *lattices, made.scores, np.exp(made.scores), found[0])
    alpha, beta = np.empty(end - begin + 1), np.empty(end - begin + 1)
    logs = made.kernels._expect_log(begin, end - begin, count, *lattices, made.scores, found[1], alpha, beta)
    assert (end - begin, count) == (29, 1)
    assert logs == pytest.approx(value)
    assert found[0] == pytest.approx(found[1])


def test_em_raises_the_likelihood_and_pruning_reaches_the_size(text):
    fragments = count_fragments([text], SentencePieceNormalizer())
    made = Training(fragments, sorted(fragments.characters), UnigramConfig())
    values = []
    for _ in range(3):
        made.step()
        values.append(made.likelihood)
    assert values[0] < values[1] < values[2]
    before = made.alive
    made.prune(10)
    assert 10 <= made.alive <= max(10, 0.75 * before)


def test_training_is_the_same_on_every_number_of_threads(text):
    models = [train_unigram([text], 330, config=UnigramConfig(threads=n)) for n in (1, 2)]
    assert models[0].pieces == models[1].pieces
    assert len(models[0].pieces) == 330
    line = "The cairn marks 数字 the trail 🪨."
    assert models[0].decode_bytes(models[0].encode(line)).decode() == line


def test_training_refuses_what_cannot_be(text):
    with pytest.raises(UserError, match="take at least 3"):
        train_unigram([text], 270)
    with pytest.raises(UserError, match="holds only"):
        train_unigram(["ab ab"], 5000)
    with pytest.raises(UserError, match="no text"):
        train_unigram(["  "], 5000)
    with pytest.raises(UserError, match="take at least"):
        train_sentencepiece_bpe([text], 270)
    with pytest.raises(UserError, match="holds only"):
        train_sentencepiece_bpe(["ab ab"], 5000)


def test_a_text_cannot_teach_a_special_token():
    model = train_unigram(["<unk> <s> <unk> and <s> then"] * 9, 268, config=UnigramConfig(coverage=1.0))
    assert not any("unk" in piece.text for piece in model.pieces if piece.type == PieceType.NORMAL)
    assert model.unknown_id not in model.encode("<unk> <s>")
    assert 1 not in model.encode("<unk> <s>")


# --- fragments


@given(st.lists(st.text(st.sampled_from("ab Ωж漢カー1_.\u0301\0"), max_size=12), max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_kernel_counts_the_fragments_that_cut_makes(texts, repeat):
    texts = texts * (20 if repeat else 1)
    expected = Counter(fragment for text in texts for fragment in cut(text))
    if not expected:
        return
    found = count_fragments(texts, IDENTITY_PLAIN)
    assert dict(zip(found.texts(), found.counts.tolist())) == expected
    assert found.characters == Counter("".join(texts).replace("\0", ""))


def test_many_fragments_make_the_table_grow():
    words = [f" {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(17_000)]
    found = count_fragments(["".join(words)], IDENTITY_PLAIN)
    assert dict(zip(found.texts(), found.counts.tolist())) == Counter(words)


def test_scripts_part_and_marks_do_not():
    assert cut(" fooбар漢字かなカナー1.5") == [" foo", "бар", "漢字かなカナー", "1.5"]
    assert cut("e\u0301x") == ["e\u0301x"]


def test_coverage_keeps_the_most_frequent():
    assert required_characters({"a": 90, "b": 9, "c": 1}, 0.99) == {"a": 90, "b": 9}
    assert required_characters({"a": 90, "b": 9, "c": 1}, 1.0) == {"a": 90, "b": 9, "c": 1}


# --- SentencePiece BPE


def test_merging_kernel_is_the_definition():
    rng = random.Random(5)
    for trial in range(20):
        pieces = vocabulary(rng, 40, "ab=▁漢")
        if trial % 2:
            pieces[4] = Piece(pieces[4].text, 0.0, PieceType.USER_DEFINED)
        if trial % 3 == 0:  # equal scores: the leftmost pair goes first
            pieces = [Piece(p.text, float(round(p.score)), p.type) for p in pieces]
        model = SentencePieceBPE(pieces, IDENTITY)
        for _ in range(50):
            text = "".join(rng.choice("ab= 漢😀") for _ in range(rng.randrange(40)))
            assert model.id_arrays([text])[0].tolist() == [token for token, _, _ in model.spelled(text)]


def test_hostile_text_is_no_trouble():
    model = train_sentencepiece_bpe(["aaaa bbbb abab"] * 5, 11, config=SentencePieceBPEConfig(byte_fallback=False))
    for text in ("a" * 200_000, "ab" * 100_000, " " * 100_000, "\0" * 1000):
        assert "".join(model.pieces[i].text for i in model.encode(text)).count("a") == text.count("a")


# --- the model file


def small_model(kind=UNIGRAM):
    pieces = [UNKNOWN, Piece("<s>", 0.0, PieceType.CONTROL), Piece("▁a", -1.5), Piece("b", -2.0), Piece("a", -2.5)]
    return ModelFile(kind, tuple(pieces), SentencePieceNormalizer(nmt_nfkc_rules()))


def test_model_file_round_trip(tmp_path):
    for kind in (UNIGRAM, BPE):
        model = small_model(kind)
        assert read_model(write_model(model)) == model
        (tmp_path / "m.model").write_bytes(write_model(model))
        assert read(tmp_path / "m.model").pieces == model.pieces


SMALL = write_model(ModelFile(UNIGRAM, small_model().pieces, SentencePieceNormalizer(b"")))
ROOT = Rules()
ROOT.edges = {"c": (None, "b"), "é": (None, "e")}
DAMAGEABLE = compile_rules(ROOT)
RULES = write_model(ModelFile(UNIGRAM, small_model().pieces, SentencePieceNormalizer(DAMAGEABLE)))


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_is_refused_or_read(data):
    content = bytearray(data.draw(st.sampled_from([SMALL, RULES])))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if action == "set":
            content[place] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del content[place : place + data.draw(st.integers(1, 8))]
        elif action == "insert":
            content[place:place] = data.draw(st.binary(max_size=6))
        else:
            content += content[place : place + 20]
        if not content:
            break
    try:
        file = read_model(bytes(content))
        model = Unigram.from_model(file) if file.kind == UNIGRAM else SentencePieceBPE.from_model(file)
        model.encode_spans("a b\u0301 c")
    except UserError:
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff" * 12, "does not end"),
        (b"\x0a\xff\xff\xff\xff\x0f", "does not fit the file"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x01", "wire type 0"),
        (b"", "0 unknown tokens"),
        (b"\x0a\x02\x0a\x00", "without text"),
        (b"\x0a\x04\x0a\x02\xff\xfe", "not UTF-8"),
        (b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f", "score nan"),
        (b"\x0a\x05\x0a\x01a\x18\x09", "unknown type 9"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content, words):
    with pytest.raises(UserError, match=words):
        read_model(content)


def test_other_models_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_model_file(tmp_path / "none.model")
    with pytest.raises(UserError, match="there twice"):
        write_model(ModelFile(UNIGRAM, (UNKNOWN, Piece("a"), Piece("a")), IDENTITY))
    with pytest.raises(UserError, match="byte pieces"):
        write_model(ModelFile(UNIGRAM, (UNKNOWN, Piece("<0x00>", 0.0, PieceType.BYTE)), IDENTITY))
    with pytest.raises(UserError, match="not supported"):
        read_model(SMALL + b"\x12\x02\x18\x04")  # a character model


def test_tokenizer_json_that_is_not_understood_is_refused(text):
    model = train_unigram([text], 330)
    data = model.to_json()
    assert Unigram.from_json(data).pieces[0] == model.pieces[0]
    with pytest.raises(UserError, match="'NFC'"):
        Unigram.from_json(data | {"normalizer": {"type": "NFC"}})
    with pytest.raises(UserError, match="pre_tokenizer"):
        Unigram.from_json(data | {"pre_tokenizer": {"type": "ByteLevel"}})
    with pytest.raises(UserError, match=r"model\.dropout"):
        Unigram.from_json(data | {"model": data["model"] | {"dropout": 0.1}})


# --- WordPiece and the teaching models


def test_wordpiece_takes_the_longest_piece_or_the_whole_word_as_unknown():
    texts = ["[PAD]", "[UNK]", "un", "##aff", "##able", "unaff", "##a"]
    model = WordPiece({text: i for i, text in enumerate(texts)})
    assert model.encode("unaffable UNAFF, unx " + "a" * 101) == [5, 4, 5, 1, 1, 1]
    assert model.encode_spans("  Ünaffable") == [(5, 2, 7), (4, 7, 11)]
    assert b"".join(model.token_bytes(i) for i in [5, 4]) == b" unaffable"


def test_wordpiece_vocabulary_file(tmp_path, text):
    model = train_wordpiece([text], 120)
    assert train_wordpiece([text], 120).vocab == model.vocab
    assert len(model.vocab) == 120
    model.save_vocabulary(tmp_path / "vocab.txt")
    assert WordPiece.load_vocabulary(tmp_path / "vocab.txt").vocab == model.vocab
    (tmp_path / "twice.txt").write_text("[UNK]\na\na\n")
    with pytest.raises(UserError, match="'a' is there twice"):
        WordPiece.load_vocabulary(tmp_path / "twice.txt")
    with pytest.raises(UserError, match=r"no \[UNK\]"):
        WordPiece({"a": 0})
    with pytest.raises(UserError, match="take at least"):
        train_wordpiece([text], 20)


def test_levels(text):
    characters, words = train_characters([text]), train_words([text], 20)
    ids = characters.encode("The trail ⛰")
    assert b"".join(map(characters.token_bytes, ids)).decode() == "The trail <unk>"
    assert characters.encode_spans("Tе")[1] == (0, 1, 2)  # a Cyrillic e is not in the text
    assert len(words.vocab) == 20
    assert words.vocab["<unk>"] == 0
    assert words.encode_spans("first, stone")[:2] == [(words.vocab["first"], 0, 5), (words.vocab[","], 5, 6)]
    assert Words.from_json(words.to_json()).vocab == words.vocab
    assert type(WordModel.from_json(characters.to_json())) is Characters
    with pytest.raises(UserError, match="only those that cairn writes"):
        WordModel.from_json(words.to_json() | {"pre_tokenizer": {"type": "Whitespace"}})
    with pytest.raises(UserError, match="no text"):
        train_words([" "])
