"""The recipe of a journey: every stage's settings in one object, which is also the command line and a TOML file."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from cairn.alignment import DPOConfig, SFTConfig
from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus import CorpusConfig
from cairn.corpus.vocabulary import VOCAB_SIZE
from cairn.training import TrainConfig
from cairn.training.pretrain import PretrainConfig


@dataclass(frozen=True)
class Recipe:
    """From text to assistant. `seed` and `device` apply to every training stage."""

    corpus: CorpusConfig = option(CorpusConfig(), "what is read")
    vocab_size: int = option(VOCAB_SIZE, "ids of the tokenizer", minimum=264)
    pretrain: PretrainConfig = option(PretrainConfig(), "the base model")
    continued: PretrainConfig = option(PretrainConfig(), "continued pretraining on the domain")
    sft: SFTConfig = option(SFTConfig(), "answering in chat form")
    dpo: DPOConfig = option(DPOConfig(), "preferring right answers")
    per_skill: int = option(200, "held-out questions a skill", minimum=1)
    grounded: int = option(200, "questions for the comparison with and without retrieval", minimum=1)
    seed: int = option(1, "seed of everything", minimum=0)
    device: str = option("auto", "where to train: auto, cpu, cuda or mps")

    def __post_init__(self) -> None:
        if self.continued.part != "domain":
            raise UserError("continued.part must be 'domain': the journey continues on the other corpus")
        for name in ("pretrain", "continued", "sft", "dpo"):
            stage = getattr(self, name)
            train = dataclasses.replace(stage.train, seed=self.seed, device=self.device)
            object.__setattr__(self, name, dataclasses.replace(stage, train=train))


def _recipe(preset: str, context: int, pretrain: dict, continued: dict, sft: dict, dpo: dict, **rest: Any) -> Recipe:
    """Stages differ in length, rate and batch; what they share is written once."""

    def train(values: dict) -> TrainConfig:
        return TrainConfig(**values.pop("train"))

    shape = {"preset": preset, "context": context}
    return Recipe(
        pretrain=PretrainConfig(train=train(pretrain), **shape, **pretrain),
        continued=PretrainConfig(train=train(continued), part="domain", **shape, **continued),
        sft=SFTConfig(train=train(sft), context=context, **sft),
        dpo=DPOConfig(train=train(dpo), **dpo),
        **rest,
    )


RECIPES = {
    # A million parameters, minutes on two cores: the default.
    "stone": _recipe(
        "stone",
        256,
        pretrain={"rows": 8, "echo": 0.1, "echo_steps": 750, "train": {"steps": 1300}},
        continued={
            "rows": 8,
            "replay": 0.25,
            "echo": 0.1,
            "train": {"steps": 150, "lr": 1.5e-3, "matrix_lr": 0.01, "warmup": 20},
        },
        sft={"items": 50000, "batch_tokens": 2048, "replay": 0.04, "train": {"steps": 1100}},
        dpo={"questions": 3000, "train": {"steps": 60, "lr": 5e-5, "matrix_lr": 1e-4, "warmup": 10, "log_every": 5}},
    ),
    # Everything in a minute on one core, for tests: it runs every stage and learns little more than to say yes or no.
    "pebble": _recipe(
        "pebble",
        128,
        pretrain={"rows": 4, "echo_steps": 5, "train": {"steps": 30, "checkpoint_every": 10, "log_every": 5}},
        continued={"rows": 4, "replay": 0.25, "train": {"steps": 15, "checkpoint_every": 5, "log_every": 5}},
        sft={"items": 3000, "batch_tokens": 512, "train": {"steps": 500, "checkpoint_every": 60, "log_every": 20}},
        dpo={
            "questions": 500,
            "samples": 4,
            "pairs_per_step": 4,
            "train": {"steps": 6, "checkpoint_every": 2, "log_every": 2},
        },
        corpus=CorpusConfig(general_bytes=120_000, domain_bytes=60_000, valid_bytes=8_000),
        vocab_size=512,
        per_skill=4,
        grounded=8,
    ),
    # GPT-2 small, for a GPU; bring a corpus of your own with --corpus.data.
    "gpt2-124m": _recipe(
        "gpt2-124m",
        1024,
        pretrain={
            "rows": 480,
            "micro_rows": 16,
            "train": {
                "steps": 20000,
                "lr": 6e-4,
                "weight_decay": 0.1,
                "warmup": 700,
                "compile": True,
                "schedule": "cosine",
            },
        },
        continued={
            "rows": 480,
            "micro_rows": 16,
            "replay": 0.25,
            "train": {"steps": 1000, "lr": 2e-4, "matrix_lr": 0.005},
        },
        sft={"items": 200000, "batch_tokens": 32768, "train": {"steps": 4000, "lr": 1e-4, "matrix_lr": 0.005}},
        dpo={"questions": 20000, "train": {"steps": 300, "lr": 1e-5, "matrix_lr": 2e-4}},
        corpus=CorpusConfig(domain_bytes=1 << 34, valid_bytes=5_000_000),
        vocab_size=50257,
    ),
}
