"""The tokenizer against Hugging Face's `tokenizers` and `transformers`, on the same files."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from cairn.tokenizers import Tokenizer, bpe, fast, pretokenize, train_tokenizer
from cairn.tokenizers.chat import SPECIAL_TOKENS

SHARED = Path(__file__).parents[3] / "shared" / "data"


def hugging_face_trained(texts, vocab_size, pattern):
    oracle = tokenizers.Tokenizer(models.BPE())
    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    oracle.decoder = decoders.ByteLevel()
    oracle.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return oracle


@pytest.mark.parametrize("pattern", [pretokenize.QWEN2, pretokenize.GPT2])
def test_training_learns_the_same_vocabulary(corpus, pattern):
    texts = list(corpus.texts("general-train"))
    ours = train_tokenizer(texts, 1000, pattern=pattern)
    oracle = hugging_face_trained(texts, 1000, pattern)
    assert ours.vocab | ours.special == oracle.get_vocab()


def learned(chunks, first_byte_id, merges):
    counter = fast.ChunkCounter(4)
    for chunk, count in chunks.items():
        counter.add(np.frombuffer(chunk, np.uint8), 0, np.array([len(chunk)]), np.array([count]))
    order = sorted(range(256), key=lambda b: bpe.BYTE_TO_CHAR[b])
    return [((a, b), new) for a, b, new in fast.learn_merges(counter, first_byte_id, merges, order).tolist()]


def test_fast_training_equals_the_definition(text):
    chunks = {}
    for chunk in pretokenize.split(text, pretokenize.QWEN2):
        chunks[chunk.encode()] = chunks.get(chunk.encode(), 0) + 1
    assert learned(chunks, 8, 120) == bpe.train_reference(chunks, 8, 120)


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=12).map(lambda b: bytes(x % 4 + 97 for x in b)), st.integers(1, 5), max_size=8
    )
)
@settings(max_examples=60, deadline=None)
def test_fast_training_equals_the_definition_on_repetitive_words(chunks):
    assert learned(chunks, 0, 30) == bpe.train_reference(chunks, 0, 30)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, corpus):
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(corpus.texts("general-train"), 1500).save(directory)
    return Tokenizer.load(directory), transformers.AutoTokenizer.from_pretrained(directory)


# Lone surrogates are no text for `tokenizers`, which is written in Rust.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_ids_and_text_are_the_same(saved, text):
    ours, oracle = saved
    expected = oracle.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert ours.encode(text, allow_special=True) == expected
    assert ours.decode(expected) == text


def test_real_text_is_the_same(saved, corpus):
    ours, oracle = saved
    for text in [*corpus.texts("general-valid"), *corpus.texts("domain-valid"), "^" * 5000, " \n\t" * 999]:
        assert ours.encode(text) == oracle(text)["input_ids"]


def test_chat_template_is_the_same(saved):
    ours, oracle = saved
    call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "2 * 3"}}}
    talks = [
        [{"role": "user", "content": "Hello"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi\nyou"},
            {"role": "assistant", "content": "Hey"},
        ],
        [
            {"role": "user", "content": "Calculate 2 * 3"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "6"},
        ],
    ]
    for talk in talks:
        for prompt in (False, True):
            expected = oracle.apply_chat_template(talk, tokenize=False, add_generation_prompt=prompt)
            assert ours.render_chat(talk, add_generation_prompt=prompt) == expected
            ids = oracle.apply_chat_template(talk, add_generation_prompt=prompt, return_dict=True)["input_ids"]
            assert ours.encode_chat(talk, add_generation_prompt=prompt) == ids


@pytest.mark.skipif(not SHARED.exists(), reason="GPT-2's vocabulary is not here")
def test_gpt2_vocabulary(tmp_path):
    oracle = tokenizers.ByteLevelBPETokenizer(
        str(SHARED / "tokenizers/gpt2-encoder.json"), str(SHARED / "tokenizers/gpt2-vocab.bpe")
    )
    oracle.add_special_tokens(["<|endoftext|>"])
    oracle.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    text = (SHARED / "text/wikitext2-valid.txt").read_text(encoding="utf-8")[:200_000]
    assert ours.encode(text) == oracle.encode(text).ids
