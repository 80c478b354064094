"""Pretraining and continued pretraining: text and a tokenizer to a base model, or a base model to one that knows more."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.progress import say
from cairn.corpus import Corpus, write_shard
from cairn.models import ModelConfig, build_model, load, preset, weights_hash
from cairn.models.config import PRESETS
from cairn.tokenizers import Tokenizer
from cairn.training import forgetting
from cairn.training.causal import CausalLM
from cairn.training.causal_rows import ShardData
from cairn.training.initial import SCHEMES, initialize
from cairn.training.masked import MaskedConfig, MaskedData, MaskedLM
from cairn.training.mixture import parse_mixture
from cairn.training.objective import Data, Objective
from cairn.training.objectives import check_objective
from cairn.training.parallel import join
from cairn.training.prefetch import Prefetch
from cairn.training.shards import ShardSet, open_shards
from cairn.training.spans import SpanConfig, SpanData, SpanLM
from cairn.training.special_tokens import with_mask, with_sentinels
from cairn.training.stage import train_stage
from cairn.training.trainer import TrainConfig, train
from cairn.training.validation import objective_loss, validation_loss

OBJECTIVES = ("causal", "masked", "spans")
FORGETTING_DOCUMENTS = 50  # of each held-out set, before and after


@dataclass(frozen=True)
class PretrainConfig:
    preset: str = option("stone", "shape of a new model (ignored when one is continued)", choices=tuple(PRESETS))
    init: str = option("gpt2", "fresh weights of a new model (ignored when one is continued)", choices=SCHEMES)
    objective: str = option(
        "causal", "next token, masked tokens (an encoder), or spans (an encoder-decoder)", choices=OBJECTIVES
    )
    smoothing: float = option(0.0, "label smoothing: share of a target that goes to all tokens alike", minimum=0)
    rows: int = option(16, "rows a step", minimum=1)
    micro_rows: int = option(0, "rows that go through the model at once; 0 means all", minimum=0)
    context: int = option(256, "tokens a row", minimum=8)
    packed: bool = option(False, "rows of whole documents that do not see each other, not of running text")
    part: str = option("general", "which corpus to learn", choices=("general", "domain"))
    replay: float = option(0.0, "share of rows from the other corpus, against forgetting", minimum=0)
    echo: float = option(0.0, "share of rows that say a stretch of text again and again, to teach copying", minimum=0)
    echo_steps: int = option(0, "first steps in which all rows do, until copying has formed", minimum=0)
    valid_rows: int = option(64, "rows of held-out text an evaluation takes", minimum=1)
    masked: MaskedConfig = option(MaskedConfig(), "what the masked objective covers")
    spans: SpanConfig = option(SpanConfig(), "what the objective of spans takes out")
    train: TrainConfig = option(TrainConfig(), "the training loop")

    def __post_init__(self) -> None:
        if self.replay >= 1 or self.echo > 1 or self.smoothing >= 1:
            raise UserError("replay and smoothing must be below 1 and echo at most 1: they are shares")
        if self.objective != "causal" and (self.echo or self.echo_steps):
            raise UserError("echoes teach a causal model to copy: leave echo and echo_steps at 0")


@dataclass(frozen=True)
class Texts:
    """What is learned from and measured on: token shards with their shares, held-out ones, and a fingerprint of all."""

    train: list[ShardSet]
    shares: list[float]
    valid: list[tuple[str, ShardSet]]


@dataclass(frozen=True)
class Lesson:
    """A model and what it is to be trained on."""

    model: Any
    tokenizer: Tokenizer
    objective: Objective
    data: Data
    texts: Texts
    evaluate: Callable[[Any], dict[str, float]] | None


def pretrain(
    config: PretrainConfig,
    corpus: Path | str | None,
    out: Path | str,
    *,
    shards: str = "",
    tokenizer: Path | str | None = None,
    model: Path | str | None = None,
) -> dict[str, Any]:
    """Train a new model with the tokenizer of a directory, or go on with `model` (a model directory). Returns cairn.json.

    The text is a corpus directory, or `shards`: folders of `cairn corpus build` and their shares, "runs/a=0.7,runs/b=0.3".
    A model that goes on is measured before and after on what is held out: what it gained, what it forgot.
    """
    source = Source(config, corpus, shards, tokenizer, model)
    stage = "pretrain" if model is None else "continue"

    def build(run: Path):
        lesson = source.lesson(run)
        sets, before = [], []
        if model is not None and config.objective == "causal":
            held = lesson.texts.valid
            sets = [
                forgetting.held_out_shards(name, shard, lesson.tokenizer, FORGETTING_DOCUMENTS) for name, shard in held
            ]
            before = forgetting.measure(lesson.model, sets, lesson.tokenizer, lesson.data.context)
        about = {"corpus_tokens": sum(map(len, lesson.texts.train)), "echo_steps": config.echo_steps}
        with Prefetch(lesson.data) as data:
            result = train(
                lesson.model,
                lesson.objective,
                data,
                config.train,
                run,
                title="pretrain" if model is None else "continue",
                inputs=[source.inputs, source.parents],
                evaluate=lesson.evaluate,
                about=about,
            )
        figures: dict[str, Any] = {"corpus_tokens": about["corpus_tokens"]}
        if sets:
            after = forgetting.measure(lesson.model, sets, lesson.tokenizer, lesson.data.context)
            figures["forgetting"] = forgetting.to_record(forgetting.changes(sets, before, after))
        return lesson.model, lesson.tokenizer, result, figures

    return train_stage(
        stage,
        out,
        inputs=source.inputs,
        recipe=to_dict(config),
        parents=source.parents,
        settings=config.train,
        build=build,
    )


class Source:
    """Where model and text come from, as they were named."""

    def __init__(
        self,
        config: PretrainConfig,
        corpus: Path | str | None,
        shards: str,
        tokenizer: Path | str | None,
        model: Path | str | None,
    ):
        if (corpus is None) == (not shards):
            raise UserError("give a corpus directory or token shards (--shards), not both")
        if (tokenizer is not None and model is not None) or (tokenizer is None and model is None and not shards):
            raise UserError("give a tokenizer directory for a new model, or a model directory to go on with, not both")
        if shards and (config.replay or config.part != "general"):
            raise UserError("part and replay are for a corpus directory: name the shares in --shards")
        if model is not None and config.train.mup_width:
            raise UserError("mup_width is for a new model: one that goes on has its scales in its weights already")
        self.config, self.model = config, model
        self.mixture = parse_mixture(shards) if shards else []
        self.corpus = Corpus(corpus) if corpus is not None else None
        if tokenizer is None and model is None and self.mixture:
            tokenizer = Path(self.mixture[0][0]) / "tokenizer"  # `cairn corpus build` leaves the one it encoded with
            if not tokenizer.is_dir():
                raise UserError(
                    f"{self.mixture[0][0]} holds no tokenizer: name the one that made the shards (--tokenizer)"
                )
        words = Tokenizer.load(tokenizer if tokenizer is not None else model)  # type: ignore[arg-type]
        self.plain = words  # what the shards were made with
        self.tokenizer = {"causal": lambda t: t, "masked": with_mask, "spans": with_sentinels}[config.objective](words)
        self.parents = {str(Path(model).name): weights_hash(model)} if model is not None else {}
        self.inputs: dict[str, Any] = {"tokenizer": self.tokenizer.fingerprint()}
        if self.corpus is not None:
            self.inputs["corpus"] = self.corpus.fingerprint()
        else:
            opened = [(open_shards(folder, self.plain), weight) for folder, weight in self.mixture]
            self.inputs["shards"] = [[shard.fingerprint(), weight] for shard, weight in opened]

    def lesson(self, run: Path) -> Lesson:
        """Load or make the model and encode what is not encoded yet, below `run`."""
        config = self.config
        if self.model is not None:
            net, _ = load(self.model)
        else:
            shape = _fit(preset(config.preset), self.tokenizer, config.context)
            net = initialize(build_model(shape), config.init, config.train.seed, mup_width=config.train.mup_width)
        check_objective(config.objective, net.config)
        with join(config.train.parallel, config.train.device).first():
            texts = self._texts(run)
        context = min(config.context, net.config.max_positions)
        if context < config.context:
            say(f"rows of {context} tokens: the model has no more positions")
        objective, data = self._task(texts.train, texts.shares, context)
        evaluate = self._evaluation(texts, context, objective) if texts.valid else None
        return Lesson(net, self.tokenizer, objective, data, texts, evaluate)

    def _evaluation(self, texts: Texts, context: int, objective: Objective) -> Callable[[Any], dict[str, float]]:
        """The loss on what is held out of the first source."""
        config, valid = self.config, texts.valid[0][1]
        if config.objective == "causal":
            return lambda model: validation_loss(model, valid, context, config.valid_rows)
        held_out = self._task([valid], [1.0], context)[1]
        steps = max(1, config.valid_rows // config.rows)
        return lambda model: objective_loss(model, objective, held_out, steps)

    def _texts(self, run: Path) -> Texts:
        config = self.config
        if self.corpus is None:
            train = [open_shards(folder, self.plain) for folder, _ in self.mixture]
            total = sum(weight for _, weight in self.mixture)
            valid = []
            for folder, _ in self.mixture:
                if (Path(folder) / "tokens").is_dir() and any((Path(folder) / "tokens").glob("valid*.bin")):
                    valid.append((Path(folder).name, open_shards(folder, self.plain, side="valid")))
            return Texts(train, [weight / total for _, weight in self.mixture], valid)
        source = self.corpus
        other = "domain" if config.part == "general" else "general"

        def encode(part: str, side: str) -> ShardSet:
            texts = source.texts(f"{part}-{side}")
            return ShardSet([write_shard(run / "shards" / f"{part}-{side}", texts, self.plain, source.fingerprint())])

        train = [encode(part, "train") for part in ([config.part, other] if config.replay else [config.part])]
        valid = [(part, encode(part, "valid")) for part in (config.part, other)]
        return Texts(train, [1 - config.replay, config.replay] if config.replay else [1.0], valid)

    def _task(self, shards: list[ShardSet], shares: list[float], context: int) -> tuple[Objective, Data]:
        """The objective and rows of `shards` for it."""
        config = self.config
        common: dict[str, Any] = {
            "rows": config.rows,
            "context": context,
            "micro_rows": config.micro_rows,
            "shares": shares,
            "seed": config.train.seed,
            "device": config.train.device,
        }
        if config.objective == "masked":
            data = MaskedData(shards, self.tokenizer, masked=config.masked, packed=config.packed, **common)
            return MaskedLM(config.smoothing), data
        if config.objective == "spans":
            if config.packed:
                raise UserError("packed rows are for the causal and the masked objective: leave out --packed")
            return SpanLM(config.smoothing), SpanData(shards, self.tokenizer, spans=config.spans, **common)
        packing = {"packed": config.packed, "end_id": self.tokenizer.eos_id if config.packed else None}
        echoes = {"echo": config.echo, "echo_steps": config.echo_steps}
        return CausalLM(config.smoothing), ShardData(shards, **packing, **echoes, **common)


def _fit(shape: ModelConfig, tokenizer: Tokenizer, context: int) -> ModelConfig:
    """The preset with the tokenizer's vocabulary, rounded up to a multiple of 64 as matrix kernels like it."""
    vocab = -(-tokenizer.vocab_size // 64) * 64
    return dataclasses.replace(shape, vocab_size=vocab, max_positions=max(shape.max_positions, context))
