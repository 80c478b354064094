"""Pretraining and continued pretraining: a corpus and a tokenizer to a base model, or a base model to one that knows more."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.corpus import Corpus, write_shard
from cairn.models import ModelConfig, Transformer, check_decoder, load, preset, weights_hash
from cairn.models.config import PRESETS
from cairn.tokenizers import Tokenizer
from cairn.training.causal import CausalLM, ShardData
from cairn.training.stage import train_stage
from cairn.training.trainer import TrainConfig, train


@dataclass(frozen=True)
class PretrainConfig:
    preset: str = option("stone", "shape of a new model (ignored when one is continued)", choices=tuple(PRESETS))
    rows: int = option(16, "rows a step", minimum=1)
    micro_rows: int = option(0, "rows that go through the model at once; 0 means all", minimum=0)
    context: int = option(256, "tokens a row", minimum=8)
    part: str = option("general", "which corpus to learn", choices=("general", "domain"))
    replay: float = option(0.0, "share of rows from the other corpus, against forgetting", minimum=0)
    echo: float = option(0.0, "share of rows that say a stretch of text again and again, to teach copying", minimum=0)
    echo_steps: int = option(0, "first steps in which all rows do, until copying has formed", minimum=0)
    train: TrainConfig = option(TrainConfig(), "the training loop")

    def __post_init__(self) -> None:
        if self.replay >= 1 or self.echo > 1:
            raise UserError("replay must be below 1 and echo at most 1: they are shares of the rows")


def pretrain(
    config: PretrainConfig,
    corpus: Path | str,
    out: Path | str,
    *,
    tokenizer: Path | str | None = None,
    model: Path | str | None = None,
) -> dict[str, Any]:
    """Train a new model with the tokenizer of a directory, or go on with `model` (a model directory). Returns cairn.json."""
    if (tokenizer is None) == (model is None):
        raise UserError("give a tokenizer directory to start a new model, or a model directory to go on with, not both")
    source = Corpus(corpus)
    words = Tokenizer.load(tokenizer if tokenizer is not None else model)  # type: ignore[arg-type]
    parents = {str(Path(model).name): weights_hash(model)} if model is not None else {}
    inputs = {"corpus": source.fingerprint(), "tokenizer": words.fingerprint()}

    def build(run: Path):
        if model is not None:
            net, _ = load(model)
            check_decoder(net)
        else:
            net = Transformer(_fit(preset(config.preset), words, config.context)).initialize(config.train.seed)
        other = "domain" if config.part == "general" else "general"
        parts = [config.part] + ([other] if config.replay else [])
        shards = [
            write_shard(run / "shards" / f"{p}-train", source.texts(f"{p}-train"), words, source.fingerprint())
            for p in parts
        ]
        data = ShardData(
            shards,
            rows=config.rows,
            context=min(config.context, net.config.max_positions),
            micro_rows=config.micro_rows,
            shares=[1 - config.replay, config.replay] if config.replay else [1.0],
            echo=config.echo,
            echo_steps=config.echo_steps,
            seed=config.train.seed,
            device=config.train.device,
        )
        title = "pretrain" if model is None else "continue"
        result = train(net, CausalLM(), data, config.train, run, title=title, inputs=[inputs, parents])
        return net, words, result, {"corpus_tokens": len(shards[0])}

    stage = "pretrain" if model is None else "continue"
    return train_stage(stage, out, inputs=inputs, recipe=to_dict(config), parents=parents, build=build)


def _fit(shape: ModelConfig, tokenizer: Tokenizer, context: int) -> ModelConfig:
    """The preset with the tokenizer's vocabulary, rounded up to a multiple of 64 as matrix kernels like it."""
    vocab = -(-tokenizer.vocab_size // 64) * 64
    return dataclasses.replace(shape, vocab_size=vocab, max_positions=max(shape.max_positions, context))
