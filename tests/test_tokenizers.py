"""Byte-level BPE beside its oracles: growth, threads, files that lie, and what must not be loaded."""

import copy
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import batching
from cairn.core.errors import UserError
from cairn.tokenizers import StreamDecoder, Tokenizer, fast, pretokenize, train_tokenizer

WORDS = st.lists(st.text("abcé \n'1", max_size=30), max_size=60)


@given(WORDS)
@settings(max_examples=60, deadline=None)
def test_chunks_are_counted_in_a_table_that_grows(texts):
    counter = fast.ChunkCounter(1)
    expected: Counter[bytes] = Counter()
    for text in texts:
        counter.add_text(text, pretokenize.LLAMA3)
        expected.update(chunk.encode() for chunk in pretokenize.split(text, pretokenize.LLAMA3))
    assert dict(counter.items()) == expected


def test_counters_add_up_and_come_back_from_disk(text, tmp_path):
    one, two = fast.ChunkCounter(), fast.ChunkCounter(2)
    one.add_text(text, pretokenize.GPT2)
    two.add_text(text[:500], pretokenize.GPT2)
    two.add_text(text[:50] * 1000, pretokenize.GPT2)
    with open(tmp_path / "c.npz", "wb") as file:
        two.save(file)
    expected = Counter(dict(one.items()))
    expected.update(dict(two.items()))
    one.add_saved(tmp_path / "c.npz")
    assert dict(one.items()) == expected


def test_counts_beyond_32_bits():
    counter = fast.ChunkCounter()
    for _ in range(3):
        counter.add(np.frombuffer(b"ab", np.uint8), 0, np.array([2]), np.array([1 << 40]))
    assert dict(counter.items()) == {b"ab": 3 << 40}
    order = list(range(256))
    assert fast.learn_merges(counter, 0, 1, order).tolist() == [[ord("a"), ord("b"), 256]]


def test_threads_change_nothing(text, monkeypatch):
    monkeypatch.setattr(batching, "BATCH_CHARACTERS", 500)
    texts = [text[i : i + 97] for i in range(0, len(text), 97)]
    one, two = train_tokenizer(texts, 500), train_tokenizer(texts, 500, threads=2)
    assert one.fingerprint() == two.fingerprint()
    assert [ids.tolist() for ids in one.encode_batch(texts, threads=2)] == [one.encode(t) for t in texts]


def test_a_full_cache_starts_anew(tokenizer, monkeypatch):
    monkeypatch.setattr(fast._Cache, "ENTRIES", 8)
    fresh = Tokenizer(copy.copy(tokenizer.model), tokenizer.special)
    fresh.model.__dict__.pop("_table", None)
    text = " ".join(f"word{i}" for i in range(500)) + "x" * 1000
    ids = fresh.model.encode_bytes(text.encode()).tolist()
    plain = [
        i for chunk in pretokenize.split(text, fresh.model.pattern) for i in fresh.model._encode_chunk_plainly(chunk)
    ]
    assert ids == plain


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_streaming_gives_whole_characters_that_join_to_the_text(tokenizer, text):
    ids = tokenizer.encode(text)
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.push(i) for i in ids] + [decoder.finish()]
    expected = pretokenize.to_bytes(text).decode()
    assert "".join(pieces) == expected == tokenizer.decode(ids)
    if "\ufffd" not in expected:
        assert not any("\ufffd" in piece for piece in pieces)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_spans_cover_the_text(tokenizer, text):
    text = pretokenize.to_bytes(text).decode()
    spans = tokenizer.encode_spans(text)
    assert [i for i, _, _ in spans] == tokenizer.encode(text)
    covered = sorted({c for _, start, end in spans for c in range(start, end)})
    assert covered == list(range(len(text)))


def test_importing_cairn_does_not_load_numba():
    code = (
        "import sys, cairn, cairn.tokenizers, cairn.corpus, cairn.corpus.dedup, cairn.corpus.filters, cairn.cli.main\n"
        "t = cairn.tokenizers.Tokenizer\nassert 'numba' not in sys.modules, 'numba was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_special_tokens_given_twice_and_sizes_too_small(text):
    with pytest.raises(UserError, match="given twice"):
        train_tokenizer([text], 400, special=("<a>", "<b>", "<a>"))
    with pytest.raises(UserError, match="too small"):
        train_tokenizer([text], 200)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tokenizer.save(folder)
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def change(data, path, value):
    data = copy.deepcopy(data)
    *parents, last = path
    inner = data
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return data


HOSTILE = {
    "negative id": (("model", "vocab", "a"), -1, "whole numbers"),
    "id as text": (("model", "vocab", "a"), "7", "whole numbers"),
    "same id twice": (("model", "vocab", "a"), 40, "same id"),
    "merges of unknown tokens": (("model", "merges"), [["zz", "qq"]], "do not fit together"),
    "merges that are no pairs": (("model", "merges"), [["a", "b", "c"]], "form it should"),
    "no vocabulary": (("model", "vocab"), None, "form it should"),
    "no byte": (("model", "vocab"), {"a": 0}, "256 are needed"),
    "letter that is no byte": (("model", "vocab", "語"), 100_000, "stands for no byte"),
    "broken pattern": (("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"), "(", "not a regular expression"),
    "endless pattern": (("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"), "a" * 5000, "at most"),
    "other normalizer": (("normalizer",), {"type": "Lowercase"}, "Lowercase"),
    "dropout": (("model", "dropout"), 0.1, "dropout"),
    "unknown step": (("pre_tokenizer", "pretokenizers", 0, "type"), "Magic", "Magic"),
    "post-processor": (("post_processor",), {"type": "Magic"}, "Magic"),
    "special token without text": (("added_tokens", 0, "content"), "", "no text"),
    "special token twice": (("added_tokens", 1, "content"), "<|endoftext|>", "given twice"),
    "special tokens of one id": (("added_tokens", 1, "id"), 0, "same id"),
    "special token with a word's id": (("added_tokens", 1, "id"), 50, "has the id 50 of"),
    "whole words only": (("added_tokens", 1, "single_word"), True, "whole words"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_tokenizer_files_that_cannot_be_right(saved, tmp_path, kind):
    path, value, message = HOSTILE[kind]
    (tmp_path / "tokenizer.json").write_text(json.dumps(change(saved, path, value)), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        Tokenizer.load(tmp_path)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_change_of_a_file_is_refused_or_read(saved, tmp_path_factory, data):
    paths = [
        ("model",),
        ("model", "type"),
        ("model", "merges"),
        ("model", "vocab"),
        ("model", "ignore_merges"),
        ("added_tokens",),
        ("added_tokens", 0),
        ("added_tokens", 0, "id"),
        ("normalizer",),
        ("pre_tokenizer",),
        ("pre_tokenizer", "pretokenizers"),
        ("pre_tokenizer", "pretokenizers", 1),
        ("post_processor",),
    ]
    broken = change(saved, data.draw(st.sampled_from(paths)), data.draw(JSON))
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(broken), encoding="utf-8")
    try:
        loaded = Tokenizer.load(folder)
    except UserError:
        return
    assert loaded.decode(loaded.encode("stones on the trail")) == "stones on the trail"


def test_gpt2_files_with_missing_or_broken_merges(tmp_path, saved):
    (tmp_path / "vocab.json").write_text(json.dumps(saved["model"]["vocab"]), encoding="utf-8")
    with pytest.raises(UserError, match="merges are missing"):
        Tokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a pair"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        Tokenizer.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path / "empty")
