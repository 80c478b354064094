"""Comparing, picturing, training and converting tokenizers: figures that can be counted by hand, and any text at all."""

import io
import json
import re
import sys
import unicodedata
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.tokenizers import Tokenizer, bpe, pictures
from cairn.tokenizers.byte_level import ByteLevelBPE
from cairn.tokenizers.compare import Figures, Layout, Sample, _spans, compare, excerpt, script_of
from cairn.tokenizers.pretokenize import NAMED, QWEN2, pattern_named
from cairn.tokenizers.sentences import SENTENCES
from cairn.tokenizers.training import KINDS, train_kind

SVG = "{http://www.w3.org/2000/svg}"
ANY_TEXT = st.text(max_size=60)
# Every kind of trouble: right to left, joined emoji, marks, controls, directions, what XML must escape, half a pair.
HARD = 'a <b> & "c"\tא\u202eب ni\u0303o 👩\u200d👧 \x00\x1b[31m\x7f\x85 हिन्दी\r\n\ufffe\ud83d'


def merging(*words, normalizer=None):
    """A byte-level BPE that knows exactly these words (written in ASCII), and every single byte."""
    vocab = {bpe.BYTE_TO_CHAR[b]: b for b in range(256)}
    merges = []
    for word in words:
        chars = word.replace(" ", bpe.BYTE_TO_CHAR[32])
        for end in range(2, len(chars) + 1):
            if chars[:end] not in vocab:
                merges.append((chars[: end - 1], chars[end - 1]))
                vocab[chars[:end]] = len(vocab)
    return Tokenizer(ByteLevelBPE(vocab, merges, pattern=QWEN2, normalizer=normalizer))


# --- measurements


def test_figures_that_can_be_counted_by_hand():
    result = compare({"it": merging("hi", " you")}, [Sample(None, "hi there you!")])["it"]
    # hi | ' ' t h e r e | ' you' | !      the space before "there" is no part of the word, that of ' you' does no harm
    assert result.total == Figures(bytes=13, characters=13, tokens=9, words=3, word_tokens=7, whole_words=2)
    assert result.total.to_dict()["fertility"] == pytest.approx(7 / 3)
    assert result.total.to_dict()["bytes_per_token"] == pytest.approx(13 / 9)
    assert result.total.to_dict()["whole_share"] == pytest.approx(2 / 3)
    assert (result.exact, result.documents) == (1, 1)


@given(ANY_TEXT)
@settings(max_examples=150, deadline=None)
def test_spans_by_length_are_those_the_model_gives(tokenizer, text):
    layout = Layout.of(text, None)
    _, spans = _spans(tokenizer, [tokenizer.token_bytes(i) for i in tokenizer.encode(text)], layout)
    # A token that holds a part of a character: the model says the whole character.
    starts = np.searchsorted(layout.places, spans[:, 0], "right") - 1
    ends = np.searchsorted(layout.places, spans[:, 1], "left")
    expected = [(a, b) for _, a, b in tokenizer.encode_spans(layout.text)]
    assert list(zip(starts.tolist(), ends.tolist())) == expected


@given(ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_groups_add_up_to_the_whole(tokenizer, text):
    result = compare({"it": tokenizer}, [Sample(None, text)])["it"]
    for name in Figures.__dataclass_fields__:
        assert sum(getattr(f, name) for f in result.groups.values()) == getattr(result.total, name)
    assert result.total.characters == len(Layout.of(text, None).text)
    assert result.total.tokens == len(tokenizer.encode(text))
    assert result.total.whole_words <= result.total.words
    assert result.exact == 1


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain", "Latin"),
        ("été", "Latin"),
        ("2 + 2", None),
        ("Чай (tea) вкусный", "Cyrillic"),
        ("हिन्दी", "Devanagari"),
        ("ไทย", "Thai"),
        ("漢字とかな", "Japanese"),
        ("汉字", "Han"),
        ("한국어", "Hangul"),
        ("ꦗꦮ", "other"),
    ],
)
def test_script_of_a_line(text, script):
    assert script_of(text) == script


def test_lines_are_counted_by_script_and_lines_without_letters_go_with_their_neighbours():
    groups = compare({"it": merging()}, [Sample(None, "--\nhello you\n1 2\nпривет\n!\n")])["it"].groups
    assert list(groups) == ["Latin", "Cyrillic"]
    assert (groups["Latin"].characters, groups["Latin"].words) == (len("--\nhello you\n1 2\n"), 4)
    assert (groups["Cyrillic"].characters, groups["Cyrillic"].fertility) == (len("привет\n!\n"), 12.0)


def test_words_of_scripts_without_spaces_are_not_counted():
    result = compare({"it": merging()}, [Sample(None, "你好世界 カタカナー ไทย ok it's")])["it"]
    assert result.total.words == 2
    assert compare({"it": merging()}, [Sample("x", "你好")])["it"].total.fertility is None


def test_what_is_unknown_is_not_a_word_kept_whole():
    from cairn.tokenizers.modelfile import Piece, PieceType
    from cairn.tokenizers.normalize import SentencePieceNormalizer
    from cairn.tokenizers.unigram import Unigram

    pieces = [Piece("<unk>", 0.0, PieceType.UNKNOWN), Piece("▁hi", -1.0), Piece("▁", -2.0)]
    tokenizer = Tokenizer(Unigram(pieces, SentencePieceNormalizer()))
    result = compare({"it": tokenizer}, [Sample(None, "hi чай")])["it"]
    assert (result.total.words, result.total.whole_words, result.total.unknown) == (2, 1, 1)
    assert result.exact == 0


def test_a_tokenizer_that_composes_characters_is_measured_on_composed_text():
    text = unicodedata.normalize("NFD", "café noir")
    result = compare({"it": merging("noir", normalizer="NFC")}, [Sample(None, text)])["it"]
    assert (result.total.words, result.total.word_tokens, result.total.whole_words) == (2, 6, 1)
    assert result.exact == 0  # it does not come back as it was


def test_what_a_language_pays():
    result = compare({"it": merging("hello")}, [Sample("en", "hello"), Sample("ru", "привет")])["it"]
    assert result.relative("en", parallel=True) == {"en": 1.0, "ru": 12.0}
    mixed = compare({"it": merging()}, [Sample(None, "ab\nпривет\n你好")])["it"]
    assert mixed.relative("Latin", parallel=False) == {"Latin": 1.0, "Cyrillic": 6.0, "Han": None}
    assert mixed.relative("Greek", parallel=False) == {"Latin": None, "Cyrillic": None, "Han": None}


def test_the_built_in_sentences_are_fifteen_languages_in_normal_form():
    assert len(SENTENCES) == 15
    for language, text in SENTENCES.items():
        assert unicodedata.is_normalized("NFC", text), language
        assert 25 < len(text) < 160
    scripts = {script_of(text) for text in SENTENCES.values()}
    assert scripts >= {
        "Latin",
        "Cyrillic",
        "Greek",
        "Arabic",
        "Devanagari",
        "Bengali",
        "Tamil",
        "Thai",
        "Han",
        "Japanese",
    }


def test_an_excerpt_ends_between_words():
    assert excerpt("one two three", 9) == "one two"
    assert excerpt("one two", 7) == "one two"
    assert excerpt("一二三四", 2) == "一二"


# --- pictures


@given(ANY_TEXT | st.just(HARD))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_drawn(tokenizer, text):
    row = pictures.pieces(tokenizer, text)
    assert b"".join(piece.data for piece in row) == Layout.of(text, None).data
    drawing = ElementTree.fromstring(pictures.svg([("na<me\x1b", row)], width=30))
    titles = [title.text for title in drawing.iter(f"{SVG}title")]
    assert titles == [f"id {piece.token}: {piece.data.hex(' ').upper()}" for piece in row]
    printed = pictures.plain(row)
    assert not [c for c in printed if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\n"]
    assert not set(printed) & set("\u202e\u2066\u200b")
    assert pictures.colored(row).plain.replace("\n", "") == "".join(piece.shown for piece in row)


def test_boxes_stand_side_by_side_and_within_the_width(tokenizer):
    row = pictures.pieces(tokenizer, "The trail\nmarks 数字 " * 20)
    drawing = ElementTree.fromstring(pictures.svg([("one", row)], width=40))
    boxes = [box for box in drawing.iter(f"{SVG}rect") if "x" in box.attrib]
    assert len(boxes) == len(row)
    right = {}
    for box in boxes:
        y, x, width = (float(box.attrib[key]) for key in ("y", "x", "width"))
        assert x == pytest.approx(right.get(y, pictures.MARGIN), abs=0.11)
        assert x + width <= pictures.MARGIN + 40 * pictures.COLUMN + 0.11
        right[y] = x + width
    assert max(right) < float(drawing.attrib["height"])


def test_a_line_end_closes_the_line_and_a_long_piece_has_its_own():
    row = [
        pictures.Piece(i, b"", shown, "↵" in shown) for i, shown in enumerate(["ab", "c↵", "d" * 9, "ef", "gh", "i"])
    ]
    assert [[p.shown for p in line] for line in pictures.wrap(row, 4)] == [["ab", "c↵"], ["d" * 9], ["ef", "gh"], ["i"]]


def test_plain_pieces_are_separated():
    tokenizer = merging("ab")
    assert pictures.plain(pictures.pieces(tokenizer, "ab é\nx")) == "ab|·|\\xC3|\\xA9|↵|\nx|"


# --- command line


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizer.save(folder / "small")
    merging("qxz").save(folder / "bytes")
    return [str(folder / "small"), str(folder / "bytes")]


def cairn(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_compare_shows_the_effect_without_any_text(capsys, tmp_path, paths):
    svg, out = tmp_path / "pieces.svg", tmp_path / "out.json"
    code, printed, _ = cairn(
        capsys, "tokenizer", "compare", "--tokenizers", *paths, "--svg", svg, "--json", out, "--price", 2, 3
    )
    assert code == 0
    result = json.loads(out.read_text())
    assert result["parallel"]
    assert result["reference"] == "English"
    small, plain = result["tokenizers"]
    assert (small["name"], plain["name"]) == ("small", "bytes")
    for language, figures in plain["groups"].items():  # a token a byte
        assert figures["tokens"] == len(SENTENCES[language].encode())
        assert figures["relative"] == pytest.approx(figures["tokens"] / plain["groups"]["English"]["tokens"])
        assert re.search(rf"{language} .*{figures['relative']:.2f}x", printed)
    assert plain["usd"] == pytest.approx(3e-6 * plain["total"]["tokens"])
    assert small["usd_per_million_tokens"] == 2
    assert "The|" in printed or "T|h|e|" in printed
    assert ElementTree.parse(svg).getroot().find(f".//{SVG}title") is not None


def test_compare_by_script_from_folders_files_and_standard_input(capsys, tmp_path, paths, monkeypatch):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello you\n")
    (tmp_path / "notes").write_text("привет\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc\n")))
    words = [tmp_path / "texts", tmp_path / "notes", "-", "--tokenizers", paths[1], "--pieces", 30]
    code, printed, _ = cairn(capsys, "tokenizer", "compare", *words, "--json", tmp_path / "out.json")
    assert code == 0
    record = json.loads((tmp_path / "out.json").read_text())["tokenizers"][0]
    assert record["groups"]["Latin"]["words"] == 3
    assert record["groups"]["Cyrillic"]["relative"] == pytest.approx(12 / ((5 + 3 + 3) / 3))
    assert record["usd"] is None
    assert "h|e|l|l|o|" in printed


def test_compare_takes_labelled_texts_as_the_same_content(capsys, tmp_path, paths):
    (tmp_path / "en.txt").write_text("qxz")
    (tmp_path / "hi.txt").write_text("नमस्ते")
    words = [f"Hindi={tmp_path / 'hi.txt'}", f"English={tmp_path / 'en.txt'}", "--tokenizers", paths[1]]
    code, printed, _ = cairn(capsys, "tokenizer", "compare", *words)
    assert code == 0
    assert re.search(r"Hindi .* 18 +18\.00x", printed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text.txt", "A=text.txt"], "label"),
        (["missing.txt"], "does not exist"),
        (["binary"], "not UTF-8"),
        (["empty.dat"], "no text"),
        (["text.txt", "--reference", "Klingon"], "Klingon"),
        (["text.txt", "--price", "1", "2", "3"], "--price"),
        (["text.txt", "--price", "-1"], "--price"),
        (["text.txt", "--pieces", "-1"], "--pieces"),
    ],
)
def test_compare_says_mistakes_in_one_line(capsys, tmp_path, paths, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.dat").write_text("")
    code, _, err = cairn(capsys, "tokenizer", "compare", *words, "--tokenizers", *paths)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_compare_marks_figures_that_are_flattered_by_lost_text(capsys, tmp_path):
    train_kind("characters", ["hello"], 100).save(tmp_path / "it")
    (tmp_path / "text").write_text("hello\nпривет\n你好\n")
    code, printed, _ = cairn(capsys, "tokenizer", "compare", tmp_path / "text", "--tokenizers", tmp_path / "it")
    assert code == 0
    assert re.search(r"Latin .* 5\.00 /word  1\.00x ", printed)
    assert re.search(r"Cyrillic .* 6\.00 /word  1\.20x \?", printed)
    assert re.search(r"Han .* 1\.00 /character \?", printed)
    assert "text is lost" in printed


# --- training


def test_every_pattern_has_a_name_and_any_other_is_a_regular_expression():
    assert pattern_named("gpt2") == NAMED["gpt2"]
    assert pattern_named(r"\w+|\W") == r"\w+|\W"
    with pytest.raises(UserError, match="regular expression"):
        pattern_named("(")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_saves_and_loads(tmp_path, corpus, text, kind):
    tokenizer = train_kind(kind, corpus.texts("general-train"), 700)
    assert tokenizer.vocab_size <= 700
    tokenizer.save(tmp_path / "it")
    again = Tokenizer.load(tmp_path / "it")
    for line in text.splitlines()[:4]:
        assert again.encode(line) == tokenizer.encode(line)
    assert again.special == tokenizer.special
    assert again.bos_id == again.special["<|endoftext|>"]
    chat = again.encode_chat([{"role": "user", "content": "stone"}], add_generation_prompt=True)
    assert chat[0] == again.special["<|user|>"]
    assert chat[-1] == again.special["<|assistant|>"]


def test_train_on_a_folder(capsys, tmp_path, text):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(text)
    words = [
        "tokenizer",
        "--data",
        tmp_path / "texts",
        "--out",
        tmp_path / "it",
        "--vocab-size",
        300,
        "--pattern",
        "o200k",
    ]
    assert cairn(capsys, *words)[0] == 0
    trained = Tokenizer.load(tmp_path / "it")
    assert trained.vocab_size == 300
    assert isinstance(trained.model, ByteLevelBPE)
    assert trained.model.pattern == NAMED["o200k"]
    code, _, err = cairn(capsys, *words)
    assert code == 2
    assert "exists already" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "unigram", "--pattern", "gpt2"], "--pattern"),
        (["--vocab-size", "200"], "too small"),
        (["--kind", "unigram", "--vocab-size", "5"], "too small"),
        (["--threads", "-1"], "--threads"),
        (["--pattern", "["], "regular expression"),
    ],
)
def test_training_says_mistakes_in_one_line(capsys, tmp_path, text, words, message):
    (tmp_path / "a.txt").write_text(text)
    code, _, err = cairn(capsys, "tokenizer", "--data", tmp_path / "a.txt", "--out", tmp_path / "it", *words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not (tmp_path / "it").exists()


# --- converting


def test_convert_to_ranks_and_back(capsys, tmp_path, paths, tokenizer):
    ranks = tmp_path / "ours.tiktoken"
    code, printed, _ = cairn(capsys, "tokenizer", "convert", paths[0], ranks, "--to", "tiktoken")
    assert code == 0
    assert "load it with: qwen2" in printed
    assert "<|endoftext|>" in printed
    assert "of 15 sample texts are cut alike" in printed
    code, _, err = cairn(capsys, "tokenizer", "convert", ranks, tmp_path / "back", "--to", "tokenizer.json")
    assert code == 2
    assert "split pattern" in err  # the file does not say how it splits
    words = ["--to", "tokenizer.json", "--pattern", "qwen2", "--special", "<|end|>=900", "a=b=901"]
    assert cairn(capsys, "tokenizer", "convert", ranks, tmp_path / "back", *words)[0] == 0
    back = Tokenizer.load(tmp_path / "back")
    assert back.special == {"<|end|>": 900, "a=b": 901}
    assert {back.token_bytes(i) for i in back.vocab.values()} == set(tokenizer.model.id_of)


def test_convert_to_sentencepiece(capsys, tmp_path, corpus):
    train_kind("unigram", corpus.texts("general-train"), 700).save(tmp_path / "it")
    code, printed, _ = cairn(
        capsys, "tokenizer", "convert", tmp_path / "it", tmp_path / "it.model", "--to", "sentencepiece"
    )
    assert code == 0
    assert "15 of 15" in printed
    assert "<|endoftext|>" in printed  # what a .model file has no place for
    assert Tokenizer.load(tmp_path / "it.model").vocab


def test_convert_never_overwrites_and_says_what_cannot_be(capsys, tmp_path, paths):
    (tmp_path / "mine").mkdir()
    for out, form, message in (
        (tmp_path / "mine", "tokenizer.json", "exists already"),
        (tmp_path / "x.model", "sentencepiece", "byte-level-bpe"),
    ):
        code, _, err = cairn(capsys, "tokenizer", "convert", paths[0], out, "--to", form)
        assert code == 2
        assert message in err
    assert not list((tmp_path / "mine").iterdir())
    words = [paths[0], tmp_path / "x", "--to", "tokenizer.json", "--pattern", "gpt2"]
    assert "rank files" in cairn(capsys, "tokenizer", "convert", *words)[2]
    (tmp_path / "r.tiktoken").write_text("IQ== 0\n")
    words = [tmp_path / "r.tiktoken", tmp_path / "x", "--to", "tokenizer.json", "--pattern", "gpt2", "--special", "end"]
    assert "TEXT=ID" in cairn(capsys, "tokenizer", "convert", *words)[2]
