"""Published vocabularies against the libraries they were made for: every id equal."""

import os
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from cairn.core.errors import UserError
from cairn.tokenizers import Tokenizer, pretokenize, train_tokenizer, unicode
from cairn.tokenizers import tiktoken as ranks

SHARED = Path(__file__).parents[3] / "shared" / "data"
VOCABULARIES = SHARED / "tokenizers"
EXAMPLES = int(os.environ.get("CAIRN_EXAMPLES", 100))  # 100,000 were run before release
needs_data = pytest.mark.skipif(not SHARED.exists(), reason="the published vocabularies are not here")

# Characters of every class that a pattern asks for, and what patterns treat specially; one draw each, so that a hundred
# thousand strings are minutes.
SPECIAL = [
    *" '\n\rsStTlLvVeErRdDmMaAbB1239.,!/ſ\t\x00\x1c\u0085\u200b\ufeff🪨👩\u200d👧é中の한ع",
    "'s",
    "'LL",
    " \n",
    "\r\n",
]
CLASSES = unicode.class_of_all()
MEMBERS = [[chr(c) for c in np.flatnonzero(kind == CLASSES).tolist() if not 0xD800 <= c <= 0xDFFF] for kind in range(8)]
CHARACTERS = SPECIAL * 40 + [c for kind in MEMBERS for c in kind[:: len(kind) // 250 + 1]]
TEXTS = st.lists(st.sampled_from(CHARACTERS), max_size=30).map("".join) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=20
)


def published(name):
    """tiktoken's own encoding, with the ranks read from disk instead of the network."""
    table = tiktoken.load.load_tiktoken_bpe(str(VOCABULARIES / f"{name}.tiktoken"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: table)
        return tiktoken.Encoding(**getattr(openai_public, name)())


@pytest.fixture(scope="module", params=["cl100k_base", "o200k_base"])
def pair(request):
    return Tokenizer.load(VOCABULARIES / f"{request.param}.tiktoken"), published(request.param)


@needs_data
@given(TEXTS)
@example("'ſ 'S\n \r\n  x\u0301A\u0301 ")
@settings(max_examples=EXAMPLES, deadline=None)
def test_ids_equal_tiktoken(pair, text):
    ours, oracle = pair
    expected = oracle.encode_ordinary(text)
    assert ours.encode(text) == expected
    assert ours.model.encode_bytes(text.encode()).tolist() == expected
    assert ours.decode(expected) == text


@needs_data
@given(st.text(st.characters(), max_size=20))
@settings(max_examples=100, deadline=None)
def test_lone_surrogates_equal_tiktoken(pair, text):
    ours, oracle = pair
    assert ours.encode(text) == oracle.encode_ordinary(text)


@needs_data
@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_come_back(pair, data):
    ours, _ = pair
    assert ours.decode_bytes(ours.model.encode_bytes(data).tolist()) == data


@needs_data
def test_real_and_hostile_text_equal_tiktoken(pair):
    ours, oracle = pair
    texts = [p.read_text(encoding="utf-8")[:300_000] for p in sorted((SHARED / "text").glob("*.txt"))]
    texts += ["^" * 20_000, " " * 5000 + "x", "\n \n" * 3000, "ab" * 9000, "a" * 4000, "😀" * 2000]
    assert [ids.tolist() for ids in ours.encode_batch(texts)] == [oracle.encode_ordinary(t) for t in texts]
    assert ours.encode_batch(texts, threads=2)[0].tolist() == oracle.encode_ordinary(texts[0])


@needs_data
def test_special_tokens_equal_tiktoken(pair):
    ours, oracle = pair
    text = "one<|endoftext|>two <|endofprompt|><|endof"
    assert ours.encode(text) == oracle.encode_ordinary(text)
    assert ours.encode(text, allow_special=True) == oracle.encode(text, allowed_special="all")
    assert ours.vocab_size == oracle.max_token_value + 1


@needs_data
def test_export_of_tiktoken_ranks_loads_in_tokenizers(tmp_path):
    ours = Tokenizer.load(VOCABULARIES / "cl100k_base.tiktoken")
    ours.save(tmp_path)
    oracle = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = (SHARED / "text/wikitext2-valid.txt").read_text(encoding="utf-8")[:200_000] + "  \n'ſ 1234 \n "
    expected = ours.encode(text)
    assert oracle.encode(text, add_special_tokens=False).ids == expected
    assert Tokenizer.load(tmp_path).encode(text) == expected
    assert oracle.decode(expected) == text


@pytest.fixture(scope="module")
def gpt2():
    ours = Tokenizer.load(VOCABULARIES / "gpt2-encoder.json")
    oracle = tokenizers.ByteLevelBPETokenizer(
        str(VOCABULARIES / "gpt2-encoder.json"), str(VOCABULARIES / "gpt2-vocab.bpe")
    )
    # Its post-processor trims spaces from the offsets; without one they are given whole.
    bare = tokenizers.Tokenizer.from_str(oracle.to_str())
    bare.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    return ours, bare


@needs_data
@given(TEXTS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_gpt2_ids_equal_tokenizers(gpt2, text):
    ours, oracle = gpt2
    encoding = oracle.encode(text)
    assert ours.encode(text) == encoding.ids
    assert ours.model.encode_bytes(text.encode()).tolist() == encoding.ids


@needs_data
@given(TEXTS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_gpt2_spans_equal_tokenizers(gpt2, text):
    ours, oracle = gpt2
    assert [(start, end) for _, start, end in ours.encode_spans(text)] == oracle.encode(text).offsets


@given(TEXTS)
@settings(max_examples=EXAMPLES, deadline=None)
@pytest.mark.parametrize("name", ["GPT2", "LLAMA3", "QWEN2", "CL100K", "O200K"])
def test_scanners_equal_their_patterns(name, text):
    pattern = getattr(pretokenize, name)
    chunks = []
    for data, start, ends in pretokenize.chunk_ends(text.encode(), pattern):
        for end in ends.tolist():
            chunks.append(data[start:end].tobytes().decode())
            start = end
    assert chunks == pretokenize.split(text, pattern)


@given(TEXTS)
@settings(max_examples=EXAMPLES, deadline=None)
@pytest.mark.parametrize("name", ["GPT2", "LLAMA3", "QWEN2", "CL100K", "O200K"])
def test_patterns_cut_as_in_tokenizers(name, text):
    pattern = getattr(pretokenize, name)
    oracle = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    assert pretokenize.split(text, pattern) == [chunk for chunk, _ in oracle.pre_tokenize_str(text)]


def test_the_unicode_table_is_that_of_both_engines():
    """Unicode 16.0 in Oniguruma (tokenizers) and in Rust's regex (tiktoken), character by character."""
    codes = [*range(0xD800), *range(0xE000, 0x110000)]
    everything = "".join(map(chr, codes))
    single = {bytes([b]): b for b in range(256)}
    for category in ("L", "Lu", "Lt", "Ll", "Lm", "Lo", "M", "N"):
        expected = unicode.members(category).tolist()
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(rf"\p{{{category}}}"), "removed")
        left = {ord(c) for chunk, _ in split.pre_tokenize_str(everything) for c in chunk}
        assert [c for c in codes if c not in left] == expected
        rust = tiktoken.Encoding("t", pat_str=rf"\p{{{category}}}", mergeable_ranks=single, special_tokens={})
        assert sorted(map(ord, bytes(rust.encode_ordinary(everything)).decode())) == expected


def test_ranks_written_for_tiktoken(tmp_path, text):
    ours = train_tokenizer([text], 400, special=())
    ambiguous = ranks.save(ours, tmp_path / "mine.tiktoken")
    table = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "mine.tiktoken"))
    oracle = tiktoken.Encoding("mine", pat_str=ours.model.pattern, mergeable_ranks=table, special_tokens={})
    again = ranks.load(tmp_path / "mine.tiktoken", pattern=ours.model.pattern)
    assert ambiguous >= 0
    assert again.encode(text) == oracle.encode_ordinary(text)
    # This text's own merges are the ones its vocabulary implies, so the ids differ only in how they are numbered.
    assert [again.token_bytes(i) for i in again.encode(text)] == [ours.token_bytes(i) for i in ours.encode(text)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"!!! 1\n", "base64"),
        (b"YQ== x\n", "base64"),
        (b"YQ== 1\nYQ== 2\n", "twice"),
        (b"YQ== -1\n", "impossible rank"),
        (b"YQ== 1\n", "256 are needed"),
    ],
)
def test_damaged_rank_files(tmp_path, content, message):
    path = tmp_path / "cl100k_base.tiktoken"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Tokenizer.load(path)
