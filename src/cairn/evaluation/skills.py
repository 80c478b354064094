"""Exact match per skill: ask every held-out question, compare the whole answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cairn.core.stats import Score, mean_score, wilson
from cairn.corpus.skills import Item, chance_level
from cairn.inference import Engine, SamplingParams, converse
from cairn.inference.tools import Tool

MAX_ANSWER = 48  # tokens; the longest right answer is a tool call of about 40


@dataclass(frozen=True)
class Answered:
    """An item and what the model said in the end."""

    item: Item
    output: str
    correct: bool


def answer_items(engine: Engine, items: Sequence[Item], tools: Mapping[str, Tool]) -> list[Answered]:
    """Greedy answers; a tool the model calls is run, and a calculation counts only when the tool was really used."""
    params = SamplingParams(max_tokens=MAX_ANSWER)
    replies = converse(engine, [item.messages() for item in items], params, tools, rounds=1)
    answered = []
    for item, messages in zip(items, replies):
        output = messages[-1].get("content") or ""
        used = any(m["role"] == "tool" for m in messages)
        correct = output.strip() == item.answer and (used or not item.expression)
        answered.append(Answered(item, output, correct))
    return answered


def score_skills(
    engine: Engine, tests: Mapping[str, Sequence[Item]], tools: Mapping[str, Tool]
) -> tuple[dict[str, Score], dict[str, list[Answered]]]:
    """Scores by skill and all answers. An empty test is left out."""
    answers = {name: answer_items(engine, items, tools) for name, items in tests.items() if items}
    scores = {
        name: wilson(sum(a.correct for a in answered), len(answered), chance_level(tests[name]))
        for name, answered in answers.items()
    }
    return scores, answers


def overall(scores: Mapping[str, Score]) -> Score:
    """The mean over skills, each weighing the same."""
    return mean_score(list(scores.values()))
