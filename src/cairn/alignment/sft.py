"""Supervised fine-tuning: a base model learns to answer, from conversations in chat form.

Only what the assistant says carries loss (its end of turn included, so that it learns to stop); the loss is the sum over
those tokens of the whole batch divided by their number (numerics: the definition of TRL's SFTTrainer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.corpus import Corpus
from cairn.corpus.skills import Item, Skills
from cairn.models import check_decoder, load, weights_hash
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.chat import Message
from cairn.training import CausalLM, ExampleData, TrainConfig, train
from cairn.training.stage import train_stage

REPLAY_TOKENS = 64  # a piece of plain text, about as long as a conversation


@dataclass(frozen=True)
class SFTConfig:
    items: int = option(30000, "questions to learn from", minimum=1)
    batch_tokens: int = option(4096, "padded tokens a step, about", minimum=16)
    context: int = option(256, "longest conversation in tokens; longer ones are left out and counted", minimum=16)
    multi_turn: float = option(0.1, "share of conversations with two questions", minimum=0)
    replay: float = option(
        0.0, "pieces of plain text for each conversation, against forgetting how to write", minimum=0
    )
    train: TrainConfig = option(TrainConfig(), "the training loop")


def skills_of(corpus: Corpus) -> Skills:
    documents = [d for part in ("general-train", "general-valid") for d in corpus.documents(part)]
    return Skills(corpus.names(), documents)


def conversations(items: Sequence[Item], multi_turn: float, seed: int) -> list[list[Message]]:
    """One conversation an item, now and then two items in one."""
    rng = np.random.default_rng([seed, 13])
    out: list[list[Message]] = []
    for item in items:
        if out and rng.random() < multi_turn and len(out[-1]) <= 4:
            out[-1] = out[-1] + item.conversation()
        else:
            out.append(item.conversation())
    return out


def encode(tokenizer: Tokenizer, talks: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[bool]]]:
    """Ids and loss masks of conversations."""
    return [tokenizer.encode_chat_masked(talk) for talk in talks]


def replay(tokenizer: Tokenizer, corpus: Corpus, count: int, seed: int) -> list[tuple[list[int], list[bool]]]:
    """`count` pieces of REPLAY_TOKENS tokens from both corpora, all of which carry loss."""
    rng = np.random.default_rng([seed, 19])
    texts = [text for part in ("general-train", "domain-train") for text in corpus.texts(part)]
    sizes = np.array([len(text) for text in texts], dtype=np.float64)
    pieces = []
    for which in rng.choice(len(texts), size=count, p=sizes / sizes.sum()):
        text = texts[int(which)]
        start = int(rng.integers(max(1, len(text) - 8 * REPLAY_TOKENS)))
        # A token is rarely longer than 8 characters; the first one, perhaps half a word, is only context.
        ids = tokenizer.encode(text[start : start + 8 * REPLAY_TOKENS])[: REPLAY_TOKENS + 1]
        pieces.append((ids, [True] * len(ids)))
    return pieces


def sft(config: SFTConfig, model: Path | str, corpus: Path | str, out: Path | str) -> dict[str, Any]:
    """Fine-tune a model directory on the skills of a corpus. Returns the new directory's cairn.json."""
    source = Corpus(corpus)
    parents = {Path(model).name: weights_hash(model)}
    inputs = {"corpus": source.fingerprint()}

    def build(run: Path):
        net, tokenizer = load(model)
        check_decoder(net)
        items = skills_of(source).training(config.items, config.train.seed)
        examples = encode(tokenizer, conversations(items, config.multi_turn, config.train.seed))
        examples += replay(tokenizer, source, round(config.replay * len(examples)), config.train.seed)
        data = ExampleData(
            examples,
            batch_tokens=config.batch_tokens,
            context=min(config.context, net.config.max_positions),
            seed=config.train.seed,
            device=config.train.device,
        )
        if data.dropped > len(examples) // 2:
            raise UserError(
                f"{data.dropped} of {len(examples)} conversations are longer than {config.context} tokens: raise --context"
            )
        result = train(net, CausalLM(), data, config.train, run, title="sft", inputs=[inputs, parents])
        return net, tokenizer, result, {"conversations": len(data.examples), "too_long": data.dropped}

    return train_stage(
        "sft", out, inputs=inputs, recipe=to_dict(config), parents=parents, settings=config.train, build=build
    )
