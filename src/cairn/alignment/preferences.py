"""Preference pairs from a model's own outputs: of several answers to a question, one that is right over one that is wrong."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cairn.core.files import hash_unit, write_text
from cairn.core.progress import Display
from cairn.corpus.skills import Item
from cairn.inference import Engine, SamplingParams
from cairn.tokenizers import Tokenizer

MAX_TOKENS = 48
HELD_OUT = 0.2  # share of questions whose pairs are kept for the test


@dataclass(frozen=True)
class Pair:
    """prompt, chosen and rejected are token ids; both answers end with their end-of-turn token.

    right: the share of the model's answers to this question that were right.
    """

    skill: str
    question: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    right: float = 1.0


def right_reply(tokenizer: Tokenizer, item: Item) -> list[int]:
    """What the assistant's next turn must be, as ids with its end: the answer, or the call of the calculator."""
    talk = item.conversation()
    prompt = tokenizer.encode_chat(talk[:1], add_generation_prompt=True)
    return tokenizer.encode_chat(talk[:2])[len(prompt) :]


def sample_pairs(engine: Engine, items: Sequence[Item], *, samples: int, temperature: float, seed: int) -> list[Pair]:
    """At most one pair a question, in the order of the questions.

    `samples` answers are drawn for each. The first right one is preferred to the first wrong one; where none is right, the
    answer that would have been is. Repeatable: every draw has a seed of its own.
    """
    tokenizer = engine.tokenizer
    pairs: list[Pair] = []
    group = max(1, 256 // samples)
    with Display("pairs", len(items), "questions") as display:
        for start in range(0, len(items), group):
            chunk = items[start : start + group]
            prompts = [engine.chat_prompt(item.messages()) for item in chunk]
            params = [
                SamplingParams(max_tokens=MAX_TOKENS, temperature=temperature, seed=_seed(seed, start + i, s))
                for i in range(len(chunk))
                for s in range(samples)
            ]
            outputs = engine.generate([p for p in prompts for _ in range(samples)], params)
            for i, (item, prompt) in enumerate(zip(chunk, prompts)):
                reply_ids = right_reply(tokenizer, item)
                right = tokenizer.decode(reply_ids).strip()
                replies = [o.output_ids for o in outputs[i * samples : (i + 1) * samples] if o.finish_reason == "stop"]
                marked = [(tokenizer.decode(ids).strip() == right, ids) for ids in replies]
                right_ones = [reply for correct, reply in marked if correct]
                wrong_ones = [reply for correct, reply in marked if not correct]
                if wrong_ones:
                    chosen = right_ones[0] if right_ones else reply_ids
                    share = len(right_ones) / len(replies)
                    pairs.append(Pair(item.skill, item.question, prompt, chosen, wrong_ones[0], share))
            display.update(min(start + group, len(items)), f"{len(pairs)} pairs")
    return pairs


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def select(pairs: Sequence[Pair], least: int) -> list[Pair]:
    """The pairs of questions that the model mostly answers right; if these are fewer than `least`, of those it sometimes
    does; else all.

    Where most answers are right, a wrong one is a slip, of which one can learn. Where most are wrong the right one was
    luck, and preferring it teaches to guess (docs/experiments.md).
    """
    for bound in (0.5, 0.01):
        chosen = [p for p in pairs if p.right >= bound]
        if len(chosen) >= least:
            return chosen
    return list(pairs)


def balance(pairs: Sequence[Pair], largest_share: float = 0.25) -> list[Pair]:
    """No skill gives more than `largest_share` of the pairs: the hard skill would otherwise be all that is learned."""
    limit = max(1, round(largest_share * len(pairs)))
    taken: defaultdict[str, int] = defaultdict(int)
    out = []
    for pair in pairs:
        if taken[pair.skill] < limit:
            taken[pair.skill] += 1
            out.append(pair)
    return out


def split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """(for training, held out), by a hash of the question."""
    held = [p for p in pairs if hash_unit(p.question, "preference") < HELD_OUT]
    return [p for p in pairs if hash_unit(p.question, "preference") >= HELD_OUT], held


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    write_text(path, "".join(json.dumps(asdict(p)) + "\n" for p in pairs))


def read_pairs(path: Path) -> list[Pair]:
    return [Pair(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
