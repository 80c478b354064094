"""Filters and cleaning: what each changes, that it changes it once, and that no text makes it fail."""

import bz2
import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cairn.core.config import from_dict, to_dict
from cairn.core.errors import UserError
from cairn.corpus import Document
from cairn.corpus.documents import Tally
from cairn.corpus.filters import C4, PII, STEPS, Decontaminate, FineWebQuality, Language, Normalize, Toxicity
from cairn.corpus.filters import benchmarks as benchmark_files
from cairn.corpus.filters.gopher import repeated_ngrams
from cairn.corpus.filters.language import identify
from cairn.corpus.filters.normalize import repair_mojibake
from cairn.corpus.filters.toxicity import hash_word, toxicity, weights
from cairn.corpus.filters.words import _CAREFUL, _SIMPLE, Memo, _careful, sentences, words

BENCHMARKS = Path(__file__).parents[2] / "shared" / "data" / "benchmarks"
PROSE = (
    "The river bends to the north here, and a path follows it for two miles. Nobody has counted the stones that walkers "
    "have left beside it. Each of them was carried with some care, to be a sign for those who come after in the fog."
)
# Surrogates, controls, broken and joined scripts: what files really hold.
WILD = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=["Cs"]),
        st.sampled_from("Ãâ€™©¢Â \u00a0\u200b\u200d\r\n\t\0\x85\u2028.@:+-[{0123456789eE数字é\u0301คำ"),
    ),
    max_size=120,
)


def run(step, text, **meta) -> tuple[Any, Tally]:
    tally = Tally()
    return step(Document("d", text, meta), tally), tally


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Every step at its defaults; decontamination with a small benchmark."""
    file = tmp_path_factory.mktemp("benchmarks") / "small.txt"
    file.write_text(f"{PROSE}\n", encoding="utf-8")
    return [Decontaminate(benchmarks=(str(file),)) if n == "decontaminate" else cls() for n, cls in STEPS.items()]


@given(WILD)
@settings(max_examples=200, deadline=None)
@example("\ud83d\ude00 \udfff")
@example("")
@example("0" * 500 + "@" * 500 + "." * 500)
def test_no_text_makes_a_step_fail_and_verdicts_repeat(steps, text):
    for step in steps:
        document, tally = run(step, text)
        assert (document, tally) == run(pickle.loads(pickle.dumps(step)), text)
        assert sum(tally.dropped.values()) == (document is None)
        assert all(rule.startswith(step.name + "/") for rule in tally.dropped | tally.changed)
        assert all(times > 0 for times in tally.changed.values())
        if document and document.text != text:
            assert tally.changed  # what was changed was counted


def test_settings_are_read_back():
    for name, cls in STEPS.items():
        assert cls.name == name
        assert from_dict(cls, json.loads(json.dumps(to_dict(cls())))) == cls()


HOSTILE = ("^", "a.", "(", "1-", "@", "é", "a@", "GB82", "\u0301", "1:", "[1]", "a-", "\n-")


@pytest.mark.parametrize("hostile", [*(unit * 100_000 for unit in HOSTILE), " " * 300_000 + "x", "\n" * 300_000 + "x"])
def test_hostile_text_takes_linear_time(steps, hostile):
    for step in steps:  # a quadratic pattern would take hours here, and the suite's time limit ends it
        step(Document("d", hostile), Tally())


# --- words


def test_words_and_sentences():
    assert words("Don't pay $3,500.50... (well-known) end.Next foo_bar") == (
        "Don", "'t", "pay", "$", "3,500.50", "...", "(", "well", "-", "known", ")", "end", ".", "Next", "foo_bar",
    )  # fmt: skip
    assert words("数字42 नमस्ते ครับ") == ("数", "字", "42", "नमस्ते", "ค", "รั", "บ")
    assert sentences("J. Smith and Dr. No met at 3.15 p.m. sharp. Why? Nobody... knows! 走吧。好") == [
        "J. Smith and Dr. No met at 3.15 p.m. sharp.", "Why?", "Nobody... knows!", "走吧。", "好",
    ]  # fmt: skip


def test_the_fast_words_are_the_careful_ones():
    """Each character that is left to the fast pattern, alone and inside a word."""
    for code in range(0x110000):
        text = f"a{chr(code)}b {chr(code)} 1.{chr(code)} {chr(code)}'s"
        if not _CAREFUL.search(text):
            assert _SIMPLE.findall(text) == _careful().findall(text), hex(code)


@given(WILD)
@settings(max_examples=200, deadline=None)
def test_words_leave_out_nothing_but_white_space(text):
    assert "".join(words(text)) == "".join(text.split())
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_memory_of_words_is_bounded():
    memo = Memo(len)
    memo.LIMIT = 3
    assert [memo[w] for w in ("a", "bb", "ccc", "dddd", "a")] == [1, 2, 3, 4, 1]
    assert len(memo) == 2


# --- normalisation


@pytest.mark.parametrize(
    ("text", "expected", "rules"),
    [
        ("cafÃ© and naÃ¯ve\nclean line", "café and naïve\nclean line", {"mojibake-line": 1}),
        ("donâ€™t", "don’t", {"mojibake-line": 1}),
        ("zeroâ€‹width", "zerowidth", {"mojibake-line": 1, "invisible-character": 1}),
        ("e\u0301", "é", {"unicode-form": 1}),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", {"line-ending": 3}),
        ("a\0b\x1b[c", "ab[c", {"control-character": 2}),
        ("a\u200bb\ufeff\u202ec", "abc", {"invisible-character": 3}),
        ("family 👩\u200d👧 stays", "family 👩\u200d👧 stays", {}),
        ("a  \n\tb\t\n", "a\n\tb", {"trailing-space": 2, "blank-lines": 1}),
        ("a\n\n\n\n\n\nb\n\n\nc", "a\n\n\nb\n\n\nc", {"blank-lines": 1}),
        ("\ud83d\ude00 \ud800", "😀 \ufffd", {"surrogate": 3}),
        ("    indented: stays\n\tso", "    indented: stays\n\tso", {}),
        ("Ein Übermaß an Ärger, à la carte, 5 € für œuvre", "Ein Übermaß an Ärger, à la carte, 5 € für œuvre", {}),
    ],
)
def test_normalize(text, expected, rules):
    document, tally = run(Normalize(), text)
    assert document.text == expected
    assert tally.changed == {f"normalize/{rule}": times for rule, times in rules.items()}


def test_normalize_settings():
    assert run(Normalize(form="NFKC"), "ﬁne ｗｉｄｅ")[0].text == "fine wide"
    assert run(Normalize(mojibake=False), "cafÃ©")[0].text == "cafÃ©"
    assert run(Normalize(invisible=False), "a\u200bb")[0].text == "a\u200bb"
    assert run(Normalize(), " \r\n\t\0\n ")[1].dropped == {"normalize/empty": 1}
    untouched = Document("d", PROSE)
    assert Normalize()(untouched, Tally()) is untouched


@given(WILD, st.sampled_from(("NFC", "NFKC")))
@settings(max_examples=200, deadline=None)
def test_normalizing_twice_is_normalizing_once(text, form):
    step = Normalize(form=form)
    once, _ = step.normalize(text)
    assert step.normalize(once) == (once, {})
    once.encode("utf-8")


MANGLED = st.text(alphabet="abcé’“”—ü ñ€ßЖдעΩ数", max_size=30).map(
    lambda text: text.encode("utf-8").decode("latin-1" if len(text) % 2 else "cp1252", "replace")
)


@given(st.lists(MANGLED | WILD.filter(lambda text: "\n" not in text), max_size=4).map("\n".join))
@settings(max_examples=150, deadline=None)
def test_the_quick_look_for_mojibake_misses_nothing(text):
    import ftfy

    assert repair_mojibake(text)[0] == "\n".join(map(ftfy.fix_encoding, text.split("\n")))


# --- language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", PROSE),
        (
            "de",
            "Alle Menschen sind frei und gleich an Würde und Rechten geboren und sollen einander brüderlich begegnen.",
        ),
        (
            "fr",
            "Tous les êtres humains naissent libres et égaux en dignité et en droits, et doivent agir avec fraternité.",
        ),
        ("es", "Todos los seres humanos nacen libres e iguales en dignidad y derechos, dotados de razón y conciencia."),
        ("ru", "Все люди рождаются свободными и равными в своем достоинстве и правах и наделены разумом и совестью."),
        ("ja", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"),
        ("ar", "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق وقد وهبوا عقلا وضميرا."),
    ],
)
def test_language_is_told(language, text):
    assert identify(text)[0] == language
    document, _ = run(Language(), text, url="u")
    assert document.meta["language"] == language
    assert document.meta["url"] == "u"
    assert 0.65 < float(document.meta["language_score"]) <= 1
    kept, tally = run(Language(languages=("en",)), text)
    assert (kept is not None) == (language == "en")
    assert not kept or not tally.dropped


def test_language_of_what_is_too_short_or_no_language():
    assert run(Language(), "12:30 -- 45 %")[1].dropped == {"language/no-letters": 1}
    assert run(Language(), "ok")[1].dropped == {"language/uncertain": 1}
    # A long page that begins with a menu in another language: start, middle and end are looked at.
    assert identify("Startseite Über uns Kontakt Impressum Datenschutz " * 3 + PROSE * 100)[0] == "en"
    with pytest.raises(UserError, match="'english' is not among"):
        Language(languages=("english",))


# --- C4, FineWeb, Gopher: what the parity tests do not see


def test_c4_again_changes_nothing():
    page = "\n".join([PROSE, "no end", "Please enable JavaScript now.", PROSE, "   " + PROSE])
    once, tally = run(C4(), page)
    assert once.text == f"{PROSE}\n{PROSE}\n{PROSE}"
    assert tally.changed == {"c4/line-without-end-punctuation": 1, "c4/line-about-javascript": 1}
    assert run(C4(), once.text) == (once, Tally())
    dropped, tally = run(C4(), page + "\nA line with {braces}.")
    assert dropped is None
    assert not tally.changed  # the lines of a dropped document are not counted as cut


def test_c4_bad_words(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("Fnord\ntwo words\n悪い\n", encoding="utf-8")
    step = C4(bad_words=str(file))
    for bad in ("A FNORD!", "Has two words.", "それは悪いです。"):
        assert run(step, f"{PROSE}\n{PROSE}\n{bad} is it.")[1].dropped == {"c4/bad-words": 1}
    assert run(step, f"{PROSE}\n{PROSE}\nFnords have two wordsmiths.")[0]
    with pytest.raises(UserError, match="cannot be read"):
        C4(bad_words=str(tmp_path / "none"))
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(UserError, match="holds no word"):
        C4(bad_words=str(tmp_path / "blank.txt"))


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_repeated_ngrams_are_those_of_the_definition(ids, spread):
    ids = [i * spread**9 for i in ids]  # large numbers, so that keys have to be counted through on the way
    for n, keys, places in repeated_ngrams(np.array(ids, dtype=np.int64), 10):
        ngrams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
        assert places.tolist() == [i for i, ngram in enumerate(ngrams) if ngrams.count(ngram) > 1]
        same = {(a, b) for a in range(len(places)) for b in range(a) if keys[a] == keys[b]}
        assert same == {(a, b) for a in range(len(places)) for b in range(a) if ngrams[places[a]] == ngrams[places[b]]}


def test_fineweb_keeps_prose_and_drops_menus():
    assert run(FineWebQuality(), PROSE)[0]
    assert run(FineWebQuality(), "Home\nShop\nCart\nLog in\n")[1].dropped == {"fineweb-quality/too-few-ended-lines": 1}


# --- personal data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.co.uk, or", "write to <email>, or"),
        ("<mailto:a@b-c.org>", "<mailto:<email>>"),
        ("user:secret@host.net", "user:<email>"),
        ("@name and foo@localhost and a@b", "@name and foo@localhost and a@b"),
        (
            "8.8.8.8 but 10.1.2.3, 127.0.0.1, 1.2.3.4.5 and v1.2.3.4",
            "<ip> but 10.1.2.3, 127.0.0.1, 1.2.3.4.5 and v1.2.3.4",
        ),
        ("[2a00:1450:4001:82b::200e]:80, fe80::1, std::add, 2001:db8::1", "[<ip>]:80, fe80::1, std::add, 2001:db8::1"),
        ("call +49 30 901820 or +1 (212) 555-0187.", "call <phone> or <phone>."),
        ("(415) 555-2671, 415-555-2671, 415.555.2671", "<phone>, <phone>, <phone>"),
        ("1-800-555-0199", "<phone>"),
        ("2023-01-05 12:30, 4155552671, 1234-5678", "2023-01-05 12:30, 4155552671, 1234-5678"),
        ("card 4111 1111 1111 1111, 378282246310005", "card <card>, <card>"),
        ("no card 4111 1111 1111 1112, 1234567812345670", "no card 4111 1111 1111 1112, 1234567812345670"),
        ("IBAN GB82 WEST 1234 5698 7654 32 AND", "IBAN <iban> AND"),
        ("DE89370400440532013000", "<iban>"),
        ("DE89370400440532013001 GB82WEST1234569876543", "DE89370400440532013001 GB82WEST1234569876543"),
        ("SSN 123-45-6789, 000-12-3456, 123-45-67890", "SSN <ssn>, 000-12-3456, 123-45-67890"),
        ("sha 4111111111111111a, x4111111111111111", "sha 4111111111111111a, x4111111111111111"),
        ("weights = x@w.T + b", "weights = x@w.T + b"),
    ],
)
def test_pii(text, expected):
    document, tally = run(PII(), text)
    assert document.text == expected
    assert sum(tally.changed.values()) == sum(
        expected.count(f"<{kind}>") - text.count(f"<{kind}>") for kind in PII().kinds
    )


def test_pii_settings():
    text = "a@b.com 8.8.8.8"
    assert PII(kinds=("ip",), placeholder="[{kind} removed]").redact(text)[0] == "a@b.com [ip removed]"
    assert PII(kinds=()).redact(text)[0] == text
    with pytest.raises(UserError, match="'mail' is unknown"):
        PII(kinds=("mail",))
    with pytest.raises(UserError, match="would itself be taken"):
        PII(placeholder="{kind}@example.com")


PII_PIECES = (
    "a b.com @ . 8.8.8.8 +49 301 2345678 4111111111111111 GB82 WEST12345698765432 - ( ) <email> a@b.com 1:: x@".split()
)


@given(st.lists(st.tuples(st.sampled_from(PII_PIECES), st.sampled_from((" ", "  ", "\n"))), max_size=9))
@settings(max_examples=200, deadline=None)
def test_replacing_personal_data_twice_is_replacing_it_once(pieces):
    text = "".join(map("".join, pieces))
    once, counts = PII().redact(text)
    assert PII().redact(once) == (once, {})
    assert (once == text) == (not counts)


# --- toxicity


def test_toxicity(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("fnord 2\nBlarg\n\n", encoding="utf-8")
    score, hits = toxicity("Fnord fnord blarg and seven plain words to count.", weights(str(own)))
    assert hits == 3
    assert score == pytest.approx(1000 * (2 + 2 + 1) / 10)
    assert toxicity(PROSE, weights())[1] == 0
    step = Toxicity(words=str(own))
    assert run(step, "fnord blarg fnord " + PROSE)[1].dropped == {"toxicity/listed-words": 1}
    assert run(step, "fnord blarg " + PROSE)[0]  # fewer than min_hits
    assert run(step, "fnord blarg fnord " + PROSE * 20)[0]  # a small share
    without, wrong = tmp_path / "without.txt", tmp_path / "wrong.txt"
    listed = bytes.fromhex("7368697474696e67").decode()  # so that it need not be read here
    without.write_text(f"{listed} 0\n")
    assert weights()[listed] == weights(str(own))[listed] == 1
    assert weights(str(without))[listed] == 0
    wrong.write_text("fine 0.5\ntwo words\n")
    with pytest.raises(UserError, match=r"wrong.txt:2 must be a word"):
        Toxicity(words=str(wrong))
    with pytest.raises(UserError, match="cannot be read"):
        Toxicity(words=str(tmp_path / "none"))


def test_the_list_holds_hashes_of_lower_case_words():
    assert hash_word("Word") == hash_word("word") != hash_word("words")
    assert weights()["Cairn"] == 0


# --- decontamination

QUESTION = "A robe takes two bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"


def write_benchmarks(folder):
    (folder / "math.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "It takes 3 bolts."}) + "\n\n")
    with gzip.open(folder / "sums.json.gz", "wt") as handle:
        json.dump({"data": [{"ctx": "Short one."}, {"choices": {"text": [f"{PROSE} Truly."]}}]}, handle)
    lines = b"A man is sitting on a roof, and he starts pulling up the old roofing by hand.\n3\n"
    (folder / "lines.txt.bz2").write_bytes(bz2.compress(lines))
    (folder / "table.csv").write_text(
        '\ufeffQuestion,Answer\n"What happens to you, if you eat\nwatermelon seeds?",They pass through your body unharmed\n'
    )
    return tuple(str(folder / name) for name in ("math.jsonl", "sums.json.gz", "lines.txt.bz2", "table.csv"))


def test_decontaminate(tmp_path):
    step = Decontaminate(benchmarks=write_benchmarks(tmp_path))
    clean = "Nothing of the kind is to be found in this text, which goes on about the weather. " * 10
    assert run(step, clean)[0].text == clean
    for file, text in (
        ("math.jsonl", QUESTION.upper().replace(".", " --")),  # case and punctuation do not hide it
        ("math.jsonl", "white fiber how many bolts in total does it take? It takes 3 bolts"),  # question and answer
        ("sums.json.gz", PROSE[40:200]),
        ("lines.txt.bz2", "a man is sitting on a roof and he starts pulling up the"),
        ("table.csv", "What happens to you if you eat watermelon seeds? They pass through your body."),
    ):
        document, tally = run(step, f"{clean}\n{text}.{clean}")
        assert document is None
        assert tally.dropped == {f"decontaminate/{file}": 1}
    scrambled = " ".join(reversed(QUESTION.split()[:13]))
    assert run(step, f"{clean} {scrambled} {clean}")[0]
    twelve = " ".join(QUESTION.split()[:12])
    assert run(step, f"{clean} {twelve} and so forth {clean}")[0]


def test_decontaminate_cuts_out_and_lets_pass(tmp_path):
    files = write_benchmarks(tmp_path)
    before, after = ("Before it stands this, again and again. " * 20).strip(), ("Afterwards comes that. " * 30).strip()
    text = f"{before} {QUESTION} {after}"
    document, tally = run(Decontaminate(benchmarks=files, action="cut", margin=0), text)
    assert document.text == f"{before}\n\n? {after}"
    assert tally.changed == {"decontaminate/math.jsonl": 1}
    document, _ = run(Decontaminate(benchmarks=files, action="cut"), text)
    first, second = document.text.split("\n\n")
    assert before.startswith(first)
    assert after.endswith(second)
    assert len(before) - len(first) in range(198, 204)  # GPT-3's 200 characters, and the space
    assert run(Decontaminate(benchmarks=files, action="cut"), f"short {QUESTION}")[1].dropped
    share = len(QUESTION.split()) / len(text.split())
    assert run(Decontaminate(benchmarks=files, max_share=share + 0.01), text)[0].text == text
    assert run(Decontaminate(benchmarks=files, max_share=share - 0.01), text)[0] is None
    assert run(Decontaminate(benchmarks=files[:1], fields=("answer",), ngram=4), text)[0]
    assert not run(Decontaminate(benchmarks=files[:1], fields=("question",)), text)[0]


def test_the_index_is_a_function_of_the_files_and_kept(tmp_path, monkeypatch):
    files = write_benchmarks(tmp_path)
    cache = tmp_path / "cache"
    fresh = benchmark_files.benchmark_index(files, 13)
    assert fresh.names == ("math.jsonl", "sums.json.gz", "lines.txt.bz2", "table.csv")
    assert fresh.items.tolist() == [1, 1, 2, 1]
    assert fresh.short.tolist() == [0, 0, 1, 0]
    assert len(fresh.hashes) == sum(words - 12 for words in (22 + 4, 2 + 46 + 1, 17, 9 + 6))
    kept = benchmark_files.benchmark_index(files, 13, (), str(cache))
    (file,) = cache.iterdir()
    stamp = file.stat().st_mtime_ns

    def again():
        benchmark_files.benchmark_index.cache_clear()
        return benchmark_files.benchmark_index(files, 13, (), str(cache))

    for index in (kept, again()):
        for a, b in zip(vars(fresh).values(), vars(index).values()):
            assert np.array_equal(a, b)
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(file.read_bytes()[:100])  # damaged: made anew
    assert np.array_equal(again().hashes, fresh.hashes)
    assert file.stat().st_size > 100
    Path(files[0]).write_text(json.dumps({"question": PROSE}))  # another content, another file
    assert len(again().hashes) != len(fresh.hashes)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": "b"}\n{broken\n', "a.jsonl:2 cannot be read"),
        ("a.json", b"[", "a.json cannot be read"),
        ("a.txt", b"\xff\xfe", "a.txt cannot be read"),
        ("a.txt.gz", b"not gzip", "a.txt.gz cannot be read"),
        ("a.txt", b"", "holds no text"),
        ("a.parquet", b"", "are read"),
        ("a.json", b"[" * 100_000, "a.json cannot be read"),
    ],
)
def test_benchmark_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Decontaminate(benchmarks=(str(tmp_path / name),)).index()


def test_decontaminate_refuses_what_cannot_work(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        Decontaminate(benchmarks=(str(tmp_path / "none.txt"),))
    with pytest.raises(UserError, match="is empty"):
        run(Decontaminate(), PROSE)


@pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmark files are not beside the project")
def test_every_long_item_of_real_benchmarks_is_found():
    names = ("gsm8k_test.jsonl", "ARC-Challenge-Dev.jsonl", "TruthfulQA.csv", "HumanEval.jsonl.gz")
    step = Decontaminate(benchmarks=tuple(str(BENCHMARKS / name) for name in names))
    assert step.index().items.tolist() == [1319, 294, 817, 164]
    for line in (BENCHMARKS / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()[::20]:
        row = json.loads(line)
        if len(row["question"].split()) > 13:
            assert run(step, f"{PROSE}\n{row['question']}\n{PROSE}")[1].dropped == {"decontaminate/gsm8k_test.jsonl": 1}
    plays = BENCHMARKS.parent / "text" / "tinyshakespeare.txt"
    text = plays.read_text(encoding="utf-8")
    assert all(run(step, text[i : i + 20_000])[0] for i in range(0, len(text), 20_000))
