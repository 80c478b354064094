import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.corpus import Document
from cairn.corpus.skills import Item, with_passage
from cairn.inference import Engine
from cairn.models import Transformer, preset, save
from cairn.retrieval import BM25, CALCULATOR_SCHEMA, TOOLS, Retriever, answer, calculator, chunk, compare, ground, words
from cairn.tokenizers import train_tokenizer

torch.set_num_threads(1)

MODULE = """# urllib.parse

Parse (absolute and relative) URLs.

urlparse(url, scheme)
Parse a URL into 6 components.

The result is a named 6-tuple.

unquote(string)
Replace %xx escapes by their single-character equivalent.

class ParseResult
Parsed result.
"""


# --- chunking


def test_chunk_titles_and_entries() -> None:
    passages = chunk(Document("doc/urllib.parse", MODULE), size=110)
    assert [p.id for p in passages] == [f"doc/urllib.parse#{n}" for n in range(3)]
    assert {p.title for p in passages} == {"urllib.parse"}
    assert passages[1].text.startswith("urlparse(url, scheme)\nParse")
    assert passages[1].text.endswith("6-tuple.")
    assert passages[2].text.startswith("unquote(string)\nReplace")
    assert "class ParseResult\nParsed" in passages[2].text
    assert passages[0].render() == "urllib.parse\nParse (absolute and relative) URLs."


def test_chunk_long_entry_is_cut_at_the_coarsest_place() -> None:
    text = "f(x)\n" + "one two three\n" * 4 + "\nlast paragraph"
    pieces = [p.text for p in chunk(Document("d", text), size=40)]
    assert pieces[0] == "f(x)\none two three\none two three"  # between lines, the heading kept with its text
    assert pieces[-1] == "last paragraph"  # between paragraphs
    assert chunk(Document("d", text), size=8)[1].text == "one two"  # between words


def test_chunk_without_heading_takes_the_id() -> None:
    (passage,) = chunk(Document("notes.txt", "only one line"))
    assert (passage.id, passage.title, passage.text) == ("notes.txt#0", "notes.txt", "only one line")
    assert chunk(Document("empty", " \n\n ")) == []


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab(). #\n\tä", max_size=300), st.integers(1, 60))
def test_chunk_loses_nothing_and_cuts_no_word(text: str, size: int) -> None:
    document = Document("d", "x\n\n" + text)
    passages = chunk(document, size)
    assert " ".join(p.text for p in passages).split() == document.text.split()
    for p in passages:
        assert len(p.text) <= size or not re.search(r"\s", p.text)


# --- search


def test_words_of_names() -> None:
    assert words("os.path.getsize()") == ["os.path.getsize", "os", "path", "getsize"]
    assert words("__init__ ÉTÉ 3.14.") == ["__init__", "init", "été", "3.14", "3", "14"]
    assert words("... --- ()") == []


def test_search_order_and_absence() -> None:
    index = BM25(["red apple", "green apple apple", "blue sky", "", "grey stone"])
    assert [n for n, _ in index.search("apple", 5)] == [1, 0]
    assert [n for n, _ in index.search("sky", 1)] == [2]
    assert index.search("ocean", 3) == []
    assert index.search("", 3) == []
    assert index.search("apple", 0) == []
    assert BM25([]).search("apple", 3) == []
    # A word of half of the texts has the score 0 and is found all the same.
    assert BM25(["red apple", "green sky"]).search("apple", 2) == [(0, 0.0)]
    tied = BM25(["one cat", "one dog", "two cat", "two cow", "x y", "z w", "v u"])
    assert [n for n, _ in tied.search("cat", 1)] == [0]  # the earlier of two equal ones


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), max_size=25),
    st.lists(st.sampled_from("abcxyz")),
    st.integers(1, 6),
)
def test_search_is_the_sorted_scores(texts: list[list[str]], query: list[str], k: int) -> None:
    index = BM25(texts)
    scores = index.scores(query)
    best = sorted((-score, n) for n, score in enumerate(scores) if {*texts[n]} & {*query})[:k]
    assert index.search(query, k) == [(n, -score) for score, n in best]


def test_index_survives_saving(tmp_path) -> None:
    texts = [f"text {n} of os.path.join and word{n % 7}" for n in range(40)]
    index = BM25(texts, k1=1.2, b=0.5)
    index.save(tmp_path / "index")
    again = BM25.load(tmp_path / "index")
    for query in ("join", "word3 os.path", "text 7"):
        assert np.array_equal(again.scores(query), index.scores(query))
    BM25([]).save(tmp_path / "empty")
    assert len(BM25.load(tmp_path / "empty")) == 0


def test_damaged_index_is_a_mistake_in_one_line(tmp_path) -> None:
    path = tmp_path / "index"
    with pytest.raises(UserError, match="does not exist"):
        BM25.load(path)

    def damaged(change) -> str:
        BM25(["one two", "two three"]).save(path)
        change()
        with pytest.raises(UserError) as caught:
            BM25.load(path)
        return str(caught.value)

    arrays = path / "bm25.safetensors"

    def edit(key: str, value: object) -> None:
        head = json.loads((path / "bm25.json").read_text())
        (path / "bm25.json").write_text(json.dumps(head | {key: value}))

    def replace_array(name: str, value: np.ndarray) -> None:
        from safetensors.numpy import load_file, save_file

        save_file(load_file(arrays) | {name: value}, arrays)

    assert "truncated" in damaged(lambda: arrays.write_bytes(arrays.read_bytes()[:-8]))
    assert "does not exist" in damaged(arrays.unlink)
    assert "distinct" in damaged(lambda: edit("terms", ["one", "one", "two"]))
    assert "three numbers" in damaged(lambda: edit("parameters", [1.5, "b", 0.25]))
    assert "offsets" in damaged(lambda: edit("terms", ["one", "two", "three", "four"]))
    assert "outside" in damaged(lambda: replace_array("postings", np.array([0, 0, 1, 2])))
    assert "counts" in damaged(lambda: replace_array("counts", np.array([1, 1, 0, 1])))
    assert "64-bit" in damaged(lambda: replace_array("lengths", np.array([2.0, 2.0])))


# --- calculator


@st.composite
def expressions(draw, depth: int = 4) -> str:
    if depth == 0 or draw(st.booleans()):
        value = draw(st.one_of(st.integers(0, 9999), st.floats(0.001, 1e4).map(lambda x: round(x, 3))))
        return f"{draw(st.sampled_from(['', '-']))}{value}"
    operator = draw(st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]))
    left = draw(expressions(depth=depth - 1))
    if operator == "**":  # small exponents on a base in parentheses: Python itself would compute 9 ** 9 ** 9 to the end
        text = f"({left}) ** {draw(st.integers(-3, 6))}"
    else:
        text = f"{left} {operator} {draw(expressions(depth=depth - 1))}"
    return f"({text})" if draw(st.booleans()) else text


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_calculator_is_pythons_arithmetic(expression: str) -> None:
    if len(expression) > 200:
        return
    try:
        expected = eval(expression, {"__builtins__": {}})
    except (ZeroDivisionError, OverflowError) as error:
        expected = error
    try:
        result, refusal = calculator(expression), ""
    except ValueError as error:
        result, refusal = "", str(error)
    if isinstance(expected, Exception):
        assert "zero" in refusal or "large" in refusal
    elif "**" not in expression or not refusal:  # without powers no number can pass the bounds
        assert result == str(expected) if isinstance(expected, int) else float(result) == expected
    else:
        assert re.search("too large|real number", refusal)


def test_calculator_writes_whole_numbers_whole() -> None:
    asked = ("7/2", "6/2", " 2 ** 100 ", "-(3 - 5)", "1e3", "0.1 + 0.2", "-7 // 2", "2**3**2", "-2**2")
    values = ["3.5", "3", str(2**100), "2", "1000", "0.30000000000000004", "-4", "512", "-4"]
    assert [calculator(e) for e in asked] == values


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "not an arithmetic expression"),
        ("2 +", "not an arithmetic expression"),
        ("1 / (2 - 2)", "division by zero"),
        ("5 % 0", "division by zero"),
        ("9**9**9", "exponents"),
        ("99**999", "too large"),
        ("2.0**999*2.0**999", "too large"),
        ("(10**100)**2", "too large"),
        ("(-8)**0.5", "not a real number"),
        ("__import__('os')", "unexpected '_'"),
        ("2^3", r"unexpected '\^'"),
        ("1,000", "unexpected ','"),
        ("e", "only numbers"),
        ("1 == 1", "unexpected '='"),
        ("1" * 201, "201 characters"),
        ("(" * 100 + "1" + ")" * 99, "not an arithmetic expression"),
        ("-" * 60 + "1", "inside each other"),
        ("1e999", "too large"),
        (17, "must be text"),
    ],
)
def test_calculator_refuses(expression, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        calculator(expression)


def test_calculator_schema_names_its_parameters() -> None:
    function = CALCULATOR_SCHEMA["function"]
    assert TOOLS[function["name"]] is calculator
    assert list(function["parameters"]["properties"]) == function["parameters"]["required"] == ["expression"]


# --- retrieval and answers

NOTES = [Document(f"notes/{n}", f"Something else that stands in note {n}.") for n in range(4)]
OTHER = "# textwrap\n\ndedent(text)\nRemove leading whitespace.\n\nfill(text, width)\nWrap text with unquote marks.\n"


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    return Retriever.of([Document("doc/textwrap", OTHER), Document("doc/urllib.parse", MODULE), *NOTES], size=80)


@pytest.fixture(scope="module")
def model_and_tokenizer():
    tokenizer = train_tokenizer([MODULE * 3, OTHER * 3], 400)
    return Transformer(replace(preset("pebble"), vocab_size=tokenizer.vocab_size)).initialize(1), tokenizer


def test_explaining_passage_comes_before_a_mention(retriever) -> None:
    hits = retriever.search("In which module is unquote?", 2)
    assert [h.passage.title for h in hits] == ["urllib.parse", "textwrap"]
    assert hits[0].score > hits[1].score
    assert retriever.search("Where is the sea?", 3) == []


def test_ground_fits_the_budget(retriever, model_and_tokenizer) -> None:
    _, tokenizer = model_and_tokenizer
    question = "Where is unquote defined?"

    def grounded(budget: int, k: int = 1):
        return ground(retriever, question, k, budget_tokens=budget, tokenizer=tokenizer)

    best = retriever.search(question, 1)[0].passage.render()
    assert grounded(500).message == with_passage(question, best)
    assert len(grounded(500, k=2).hits) == 2
    whole = len(tokenizer.encode(with_passage(question, best)))
    assert len(grounded(whole, k=2).hits) == 1  # the second does not fit and is left out
    bare = len(tokenizer.encode(question))
    for budget in range(bare, whole):
        message = grounded(budget).message
        assert len(tokenizer.encode(message)) <= budget
        kept = message.removesuffix(question).split()
        assert kept == best.split()[: len(kept)]  # a beginning of the passage, cut between words
    assert len(grounded(whole - 1).message.split()) >= len(with_passage(question, best).split()) - 3
    assert grounded(bare).message == question
    assert grounded(bare).hits == []
    with pytest.raises(UserError, match="shorten it"):
        grounded(bare - 1)


class Parrot(Engine):
    """Answers with the first word it is shown: right when the right passage stands before the question."""

    def chat(self, conversations, params=None):
        outputs = []
        for messages in conversations:
            request = self.submit(self.chat_prompt(messages), params)
            self.cancel(request)
            request.text = " " + messages[-1]["content"].split()[0]
            outputs.append(request)
        return outputs


def test_compare_counts_right_answers_and_right_sources(retriever, model_and_tokenizer) -> None:
    engine = Parrot(*model_and_tokenizer)
    items = [
        Item("module", "Where is unquote defined?", "urllib.parse", key="doc/urllib.parse"),
        Item("module", "Where is dedent defined?", "textwrap", key="doc/textwrap"),
        Item("module", "Where is fill defined?", "urllib.parse", key="doc/urllib.parse"),  # found in the wrong source
        Item("module", "Where is ocean?", "Where", key="doc/urllib.parse"),  # finds nothing
    ]
    result = compare(engine, retriever, items, shown=2)
    assert (result.without.score, result.without.n) == (0.25, 4)
    assert result.grounded.score == 0.75
    assert result.grounded.low < 0.75 < result.grounded.high
    assert result.without.chance == result.grounded.chance == 0.5  # two of four answers are the same
    assert result.recall.score == 0.5
    assert 0 < result.recall.chance < 1
    plain = result.to_dict()
    assert set(plain) == {"without", "with", "recall", "passages", "examples"}
    assert plain["passages"] == len(retriever.passages)
    assert [e["with"] for e in plain["examples"]] == ["urllib.parse", "textwrap"]
    assert plain["examples"][0]["title"] == "urllib.parse"
    assert "unquote" in plain["examples"][0]["passage"]
    with pytest.raises(UserError, match="no questions"):
        compare(engine, retriever, [])


def test_answers_are_the_engines_own(retriever, model_and_tokenizer) -> None:
    engine = Engine(*model_and_tokenizer, slots=4)
    (one,) = answer(engine, retriever, ["Where is unquote defined?"], max_tokens=8)
    message = with_passage(one.question, one.hits[0].passage.render())
    (expected,) = engine.chat([[{"role": "user", "content": message}]], engine_params(8))
    assert one.grounded == expected.text.strip()


def engine_params(max_tokens: int):
    from cairn.inference import SamplingParams

    return SamplingParams(max_tokens=max_tokens)


# --- command line


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_and_tokenizer):
    root = tmp_path_factory.mktemp("rag")
    save(root / "model", *model_and_tokenizer)
    corpus = root / "corpus"
    corpus.mkdir()
    for part, documents in {
        "general-train": [{"id": "doc/urllib.parse", "text": MODULE}, *map(vars, NOTES)],
        "general-valid": [{"id": "doc/textwrap", "text": OTHER}],
    }.items():
        (corpus / f"{part}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    (corpus / "corpus.json").write_text("{}")
    return root


def test_command_answers_lines_of_standard_input(folders, capsys, monkeypatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("Where is unquote defined?\n\nWhere is dedent defined?\n"))
    out = folders / "answers.json"
    words = [
        "rag",
        str(folders / "model"),
        "--corpus",
        str(folders / "corpus"),
        "--max-tokens",
        "4",
        "--json",
        str(out),
    ]
    assert main(words) == 0
    rows = json.loads(out.read_text())
    assert [row["passages"][0]["title"] for row in rows] == ["urllib.parse", "textwrap"]  # both parts are searched
    shown = capsys.readouterr().out
    assert "[1] urllib.parse" in shown
    assert "without retrieval" in shown
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_command_mistakes_are_one_line(folders, capsys) -> None:
    model, corpus = str(folders / "model"), str(folders / "corpus")
    for command, says in (
        (["rag", model, "--corpus", model, "--question", "x"], "not a corpus directory"),
        (["rag", model, "--corpus", corpus, "--question", " "], "--question is empty"),
        (["rag", model, "--corpus", corpus, "--question", "x", "--passages", "0"], "--passages must be at least 1"),
        (["rag", corpus, "--corpus", corpus, "--question", "x"], "not a model directory"),
        (["rag", model, "--corpus", corpus, "--question", "word " * 5000], "shorten it"),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
