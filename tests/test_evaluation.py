"""Bits per byte by its definition, exact match that cannot be talked into success."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cairn.corpus.skills import Item
from cairn.evaluation import answer_items, bits_per_byte, overall, score_skills
from cairn.evaluation.perplexity import windows
from cairn.models import Transformer, preset


@given(st.lists(st.integers(0, 99), max_size=60), st.integers(1, 20))
def test_windows_score_every_token_once_with_the_most_context(ids, size):
    scored = []
    for row, count in windows(ids, -1, size):
        assert 1 <= count < len(row) <= size + 1
        scored += row[-count:]
    assert scored == ids
    rows = windows(ids, -1, size)
    assert all(len(row) == min(size, len(ids)) + 1 for row, _ in rows)  # the last one is filled up


def test_bits_per_byte_is_the_sum_over_the_definition(tokenizer):
    """Against a plain loop: each document alone, first token after bos, windows of 16."""
    model = Transformer(preset("pebble")).initialize(3).eval()
    texts = ["Stone upon stone. " * 9, "é", "def add(first, second):\n    return first"]
    total = 0.0
    for text in texts:
        ids = [tokenizer.bos_id, *tokenizer.encode(text)]
        for start in range(1, len(ids), 16):
            end = min(start + 16, len(ids))
            row = ids[max(0, end - 17) : end]
            with torch.no_grad():
                logprobs = model(torch.tensor([row[:-1]]))[0].log_softmax(-1)
            for position in range(start, end):
                at = position - (end - len(row))
                total -= float(logprobs[at - 1, ids[position]])
    expected = total / math.log(2) / sum(len(t.encode()) for t in texts)
    result = bits_per_byte(model, tokenizer, texts, context=16, batch_tokens=40)
    assert abs(result.value - expected) < 1e-5
    assert (result.documents, result.bytes) == (3, sum(len(t.encode()) for t in texts))
    assert result.low <= result.value <= result.high


class Canned:
    """An engine that answers from a table."""

    def __init__(self, answers):
        self.answers = answers

    def chat(self, conversations, params):
        class Output:
            def __init__(self, text):
                self.text = text

        return [Output(self.answers[(talk[0]["content"], len(talk))]) for talk in conversations]


CALL = '<|call|>{"name": "calculator", "arguments": {"expression": "2 * 3"}}'


@pytest.mark.parametrize(
    ("replies", "correct"),
    [
        ({("q", 1): CALL, ("q", 3): "6"}, True),
        ({("q", 1): "6"}, False),  # guessed, the tool was not used
        ({("q", 1): CALL, ("q", 3): "7"}, False),
        ({("q", 1): CALL, ("q", 3): CALL}, False),
    ],
)
def test_a_calculation_counts_only_with_the_tool(replies, correct):
    item = Item("calculator", "q", "6", expression="2 * 3")
    (answered,) = answer_items(Canned(replies), [item], {"calculator": lambda expression: "6"})
    assert answered.correct is correct


def test_scores_compare_the_whole_answer():
    items = [Item("x", "a", "red", choices=2), Item("x", "b", "blue", choices=4), Item("x", "c", "red", choices=4)]
    replies = {("a", 1): "red", ("b", 1): "blue stone", ("c", 1): " red "}
    scores, answers = score_skills(Canned(replies), {"x": items, "none": []}, {})
    assert [a.correct for a in answers["x"]] == [True, False, True]
    assert list(scores) == ["x"]
    assert scores["x"].score == pytest.approx(2 / 3)
    assert scores["x"].chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert overall(scores).score == pytest.approx(2 / 3)
