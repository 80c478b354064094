"""Everything that is measured of a model after a stage, as one JSON-able record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cairn.corpus import Corpus
from cairn.corpus.skills import Item
from cairn.evaluation.perplexity import BitsPerByte, bits_per_byte
from cairn.evaluation.skills import overall, score_skills
from cairn.inference import Engine
from cairn.inference.tools import Tool
from cairn.models import Transformer
from cairn.tokenizers import Tokenizer


def bits_record(bits: BitsPerByte) -> dict[str, Any]:
    record = asdict(bits)
    return {"bits_per_byte": record.pop("value")} | record


def evaluate_model(
    model: Transformer,
    tokenizer: Tokenizer,
    corpus: Corpus,
    tests: Mapping[str, Sequence[Item]],
    tools: Mapping[str, Tool],
) -> dict[str, Any]:
    """{general, domain: bits per byte; skills: scores; mean; samples: the first answers of each skill}.

    A tokenizer without a chat template is scored on bits per byte alone.
    """
    result: dict[str, Any] = {
        kind: bits_record(bits_per_byte(model, tokenizer, corpus.texts(f"{kind}-valid")))
        for kind in ("general", "domain")
    }
    result |= {"skills": {}, "mean": None, "samples": []}
    if tokenizer.chat_template is None:
        return result
    scores, answers = score_skills(Engine(model, tokenizer), tests, tools)
    result["skills"] = {name: asdict(score) for name, score in scores.items()}
    result["mean"] = asdict(overall(scores)) if scores else None
    result["samples"] = [
        {"skill": name, "prompt": a.item.question, "answer": a.item.answer, "output": a.output, "correct": a.correct}
        for name, answered in answers.items()
        for a in answered[:2]
    ]
    return result
