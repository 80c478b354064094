"""Sources, split, shards and skills."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from cairn.core.errors import UserError
from cairn.corpus import Corpus, CorpusConfig, Quarantine, TokenShard, build_corpus, write_shard
from cairn.corpus.skills import DECLINE, SCORED, Skills, chance_level
from cairn.corpus.sources import read_folder


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    (root / "sub").mkdir(parents=True)
    for i in range(30):
        (root / "sub" / f"{i}.txt").write_text(f"Document number {i}. " + "It says something about stones. " * 20)
    (root / "a.md").write_text("# Title\n\n" + "Words and more words. " * 10)
    (root / "b.py").write_text("print('hello')\n" * 10)
    (root / "c.jsonl").write_text('{"text": "first line of text"}\n{"broken\n{"other": 1}\n\n{"text": "second"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["row one", None, "row three"]}), root / "d.parquet")
    (root / "bad.parquet").write_bytes(b"not parquet")
    (root / "binary.txt").write_bytes(b"\x00\x01\x02" * 100)
    (root / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    (root / "empty.txt").write_text("  \n")
    (root / "photo.jpg").write_bytes(b"\xff\xd8")
    return root


def test_every_record_is_read_or_counted(folder):
    quarantine = Quarantine()
    documents = list(read_folder(folder, quarantine))
    assert len(documents) == 30 + 1 + 1 + 2 + 2
    assert len({d.id for d in documents}) == len(documents)
    assert dict(quarantine.counts) == {
        "line is not JSON": 1,
        "no text field": 2,
        "not a readable Parquet file": 1,
        "binary file": 1,
        "invalid UTF-8": 1,
        "empty": 1,
        "file type .jpg is not read": 1,
    }
    assert {"where": "c.jsonl@31", "reason": "line is not JSON"} in quarantine.examples


def test_split_shares_no_document(folder, tmp_path):
    corpus = build_corpus(CorpusConfig(data=str(folder), domain=str(folder), valid_share=0.3), tmp_path / "c")
    train, valid = ([d.id for d in corpus.documents(f"general-{p}")] for p in ("train", "valid"))
    assert train
    assert valid
    assert not set(train) & set(valid)
    assert not set(valid) & {d.id for d in corpus.documents("domain-train")}  # one document, one side
    assert corpus.info["quarantine"]["counts"]["binary file"] >= 1
    again = build_corpus(CorpusConfig(data=str(folder), domain=str(folder), valid_share=0.3), tmp_path / "c2")
    assert again.fingerprint() == corpus.fingerprint()


def test_a_text_under_two_names_stays_on_one_side(tmp_path):
    """A folder, and the folder above it as domain: the names differ, the texts do not."""
    inner = tmp_path / "all" / "part"
    inner.mkdir(parents=True)
    for number in range(40):
        (inner / f"{number}.txt").write_text(f"Text number {number}. " * 20, encoding="utf-8")
    config = CorpusConfig(data=str(inner), domain=str(tmp_path / "all"), valid_share=0.3)
    corpus = build_corpus(config, tmp_path / "c")
    held = set(corpus.texts("general-valid")) | set(corpus.texts("domain-valid"))
    assert held
    assert not held & (set(corpus.texts("general-train")) | set(corpus.texts("domain-train")))


def test_library_split_shares_no_module(corpus):
    def modules(part):
        return {d.id.partition("/")[2] for d in corpus.documents(part) if not d.id.startswith("reference/")}

    assert not (modules("general-train") | modules("domain-train")) & (
        modules("general-valid") | modules("domain-valid")
    )


@pytest.mark.parametrize(
    "make", [lambda p: p.mkdir(), lambda p: None, lambda p: (p.mkdir(), (p / "x.bin").write_bytes(b"1"))]
)
def test_nothing_to_read_is_one_error_and_leaves_nothing(tmp_path, make):
    make(tmp_path / "in")
    with pytest.raises(UserError):
        build_corpus(CorpusConfig(data=str(tmp_path / "in")), tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "c.partial").exists()
    with pytest.raises(UserError, match="cairn corpus --out"):
        Corpus(tmp_path / "c")


def test_shard_holds_every_document(tmp_path, corpus, tokenizer):
    texts = list(corpus.texts("general-valid"))
    shard = write_shard(tmp_path / "s", texts, tokenizer, "here")
    starts = [0, *shard.ends[:-1]]
    assert len(shard.ends) == len(texts)
    for text, start, end in zip(texts, starts, shard.ends):
        ids = shard.tokens[start:end].tolist()
        assert ids[0] == tokenizer.bos_id
        assert tokenizer.decode(ids[1:]) == text
    with open(tmp_path / "s.bin", "ab") as handle:
        handle.write(b"12")
    with pytest.raises(UserError, match="make it again"):
        TokenShard(tmp_path / "s")
    assert np.array_equal(write_shard(tmp_path / "s", texts, tokenizer, "here").tokens, shard.tokens)


@pytest.fixture(scope="module")
def skills(corpus):
    return Skills(corpus.names(), [*corpus.documents("general-train"), *corpus.documents("general-valid")])


def test_no_test_question_is_ever_trained_on(skills):
    training = {i.question for seed in (1, 2) for i in skills.training(4000, seed)}
    test = skills.test(60, 2)
    assert set(test) == set(SCORED)
    for name, items in test.items():
        questions = {i.question for i in items}
        assert len(questions) == len(items) > 0, name
        assert not questions & training, name
    assert {n.name for n in skills.test_names}.isdisjoint(n.name for n in skills.train_names)


def test_answers_are_right(skills):
    """Each answer is worked out again from the question alone."""
    for item in skills.training(3000, 5):
        q = item.question
        tail = q.partition(": ")[2]
        if item.skill == "ends":
            assert item.answer == tail.split()[0 if "first" in q.partition(":")[0] else -1]
        elif item.skill == "counting":
            assert item.answer == str(len(tail.split()))
        elif item.skill == "reversing":
            assert item.answer.split() == tail.split()[::-1]
        elif item.skill == "repeating":
            assert item.answer == tail
        elif item.skill == "membership":
            assert item.answer == ("yes" if q.split()[1] in tail.split() else "no")
        elif item.skill == "largest":
            assert int(item.answer) == max(map(int, tail.split(", ")))
        elif item.skill == "addition":
            a, b = q.removeprefix("What is ").rstrip("?").split(" + ")
            assert int(item.answer) == int(a) + int(b)
        elif item.skill == "calculator":
            assert int(item.answer) == eval(item.expression)
            assert item.expression in q
        elif item.skill == "reading":
            passage, question = q.split("\n\n")
            _, description, value = item.answer.split()
            assert passage.count(item.answer) == 1
            assert description in question.rstrip("?").split()
            assert value not in question
        elif item.skill == "grounded":
            assert q.startswith(item.answer + "\n")
        elif item.skill == "declining":
            assert item.answer in (DECLINE, "Yes, I can help with that.")


def test_chance_levels(skills):
    test = skills.test(80, 3)
    assert chance_level(test["declining"]) == 0.5
    assert 0.25 <= chance_level(test["reading"]) <= 0.5
    assert chance_level(test["calculator"]) < 0.2
    declined = sum(i.answer == DECLINE for i in test["declining"]) / len(test["declining"])
    assert 0.3 < declined < 0.7  # or a model that always declines would look good


def test_conversation_of_a_calculation(skills):
    item = skills.test(1, 2)["calculator"][0]
    roles = [m["role"] for m in item.conversation()]
    assert roles == ["user", "assistant", "tool", "assistant"]
    call = item.conversation()[1]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"expression": item.expression}
