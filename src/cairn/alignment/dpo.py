"""Direct preference optimisation (Rafailov et al. 2023), the sigmoid loss as TRL's DPOTrainer defines it.

r = log p_policy(answer) - log p_reference(answer), summed over the answer's tokens; D = r_chosen - r_rejected;
loss = -log sigmoid(beta D), the mean over pairs: ln 2 at the first step, when policy and reference are the same model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cairn.alignment.preferences import Pair, balance, read_pairs, sample_pairs, select, split, write_pairs
from cairn.alignment.sft import skills_of
from cairn.core.compute import pick_device
from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.stats import wilson
from cairn.corpus import Corpus
from cairn.inference import Engine
from cairn.models import Transformer, load, weights_hash
from cairn.training import Part, TokenBatch, TrainConfig, make_batch, target_logprobs, train
from cairn.training.stage import train_stage


@dataclass(frozen=True)
class DPOConfig:
    questions: int = option(6000, "questions that the model answers for the pairs", minimum=1)
    samples: int = option(4, "answers to each", minimum=2)
    temperature: float = option(1.5, "how freely the answers are drawn", minimum=0.01)
    beta: float = option(0.3, "how strongly the policy is held to the reference", minimum=0.0001)
    nll: float = option(1.0, "weight of the chosen answer's mean cross-entropy beside the loss (RPO)", minimum=0)
    pairs_per_step: int = option(32, "pairs a step", minimum=1)
    train: TrainConfig = option(TrainConfig(), "the training loop")


@dataclass(frozen=True)
class PairBatch:
    """Chosen answers in the first half of the rows, rejected ones in the second; reference_2P their log-probabilities."""

    tokens: TokenBatch
    reference_2P: torch.Tensor

    @property
    def pairs(self) -> int:
        return len(self.reference_2P) // 2


def pair_tokens(pairs: Sequence[Pair], device: torch.device) -> TokenBatch:
    """Rows prompt + chosen, then rows prompt + rejected; only the answers' tokens are counted."""
    rows = [p.prompt + p.chosen for p in pairs] + [p.prompt + p.rejected for p in pairs]
    prompts = [len(p.prompt) for p in pairs] * 2
    masks = [[False] * n + [True] * (len(row) - n) for row, n in zip(rows, prompts)]
    return make_batch(rows, masks, device)


def answer_logprobs(model: Transformer, tokens: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability of each row's answer, and its number of tokens."""
    logprobs_N, row_N = target_logprobs(model, tokens)
    rows = tokens.inputs_BT.shape[0]
    zeros = torch.zeros(rows, device=logprobs_N.device)
    return zeros.index_add(0, row_N, logprobs_N), zeros.index_add(0, row_N, torch.ones_like(logprobs_N))


class DPO:
    """The objective; its loss is summed over pairs."""

    def __init__(self, beta: float, nll: float = 0.0):
        self.beta, self.nll = beta, nll

    def loss(self, model: Transformer, batch: PairBatch) -> tuple[torch.Tensor, dict[str, float]]:
        policy_2P, lengths_2P = answer_logprobs(model, batch.tokens)
        reward_2P = policy_2P - batch.reference_2P
        chosen, rejected = reward_2P.chunk(2)
        margin_P = chosen - rejected
        losses_P = -F.logsigmoid(self.beta * margin_P)
        nll_P = -(policy_2P / lengths_2P).chunk(2)[0]
        total = (losses_P + self.nll * nll_P).sum()
        metrics = {
            "loss": total.item(),
            "preference_loss": losses_P.sum().item(),
            "accuracy": (margin_P > 0).float().sum().item(),
            "margin": self.beta * margin_P.sum().item(),
            "chosen_reward": self.beta * chosen.sum().item(),
        }
        return total, metrics


class PairData:
    """Pairs in a new order each epoch, with the reference's log-probabilities computed once."""

    def __init__(self, pairs: Sequence[Pair], reference: Transformer, per_step: int, seed: int, device: str):
        self.pairs, self.seed = list(pairs), seed
        self.per_step = min(per_step, len(self.pairs))
        self.context = max(len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in self.pairs)
        self.device = pick_device(device)
        self.reference_2N = reference_logprobs(reference.to(self.device), self.pairs)

    def batch(self, step: int, part: Part = Part()) -> list[PairBatch]:
        per_epoch = len(self.pairs) // self.per_step
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 17, epoch]).permutation(len(self.pairs))
        chosen = part.share(order[place * self.per_step : (place + 1) * self.per_step].tolist())
        tokens = pair_tokens([self.pairs[i] for i in chosen], self.device)
        picks = [*chosen, *(i + len(self.pairs) for i in chosen)]
        return [PairBatch(tokens, self.reference_2N[picks])]

    def weight(self, batch: PairBatch) -> float:
        return float(batch.pairs)

    def tokens(self, batch: PairBatch) -> int:
        return batch.tokens.inputs_BT.numel()


@torch.no_grad()
def reference_logprobs(model: Transformer, pairs: Sequence[Pair], group: int = 128) -> torch.Tensor:
    """Log-probabilities of all chosen answers, then of all rejected ones (2 N,)."""
    device = next(model.parameters()).device
    halves: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for start in range(0, len(pairs), group):
        chosen, rejected = answer_logprobs(model, pair_tokens(pairs[start : start + group], device))[0].chunk(2)
        halves[0].append(chosen)
        halves[1].append(rejected)
    return torch.cat([*halves[0], *halves[1]]) if pairs else torch.zeros(0)


def preference_accuracy(policy: Transformer, reference_2N: torch.Tensor, pairs: Sequence[Pair]) -> Any:
    """Share of pairs whose chosen answer gained more than the rejected one, as a Score; chance is one half."""
    chosen, rejected = (reference_logprobs(policy, pairs) - reference_2N.to(next(policy.parameters()).device)).chunk(2)
    return wilson(int((chosen > rejected).sum()), len(pairs), 0.5)


def dpo(config: DPOConfig, model: Path | str, corpus: Path | str, out: Path | str) -> dict[str, Any]:
    """Draw pairs from a model directory's own answers and prefer the right ones. Returns the new directory's cairn.json."""
    source = Corpus(corpus)
    parents = {Path(model).name: weights_hash(model)}
    inputs = {"corpus": source.fingerprint()}

    def build(run: Path):
        net, tokenizer = load(model)
        pairs = _pairs(config, net, tokenizer, source, run / "pairs.jsonl")
        training, held = split(select(pairs, least=8 * config.pairs_per_step))
        training = balance(training)
        if len(training) < 2 or not held:
            raise UserError(
                f"only {len(training)} preference pairs came out of {config.questions} questions: the model is nearly "
                "always right; raise --questions or --temperature"
            )
        data = PairData(training, net, config.pairs_per_step, config.train.seed, config.train.device)
        reference_2N = reference_logprobs(net, held)
        result = train(
            net, DPO(config.beta, config.nll), data, config.train, run, title="dpo", inputs=[inputs, parents]
        )
        accuracy = preference_accuracy(net, reference_2N, held)
        figures = {"pairs": len(training), "held_out_pairs": len(held), "preference_accuracy": vars(accuracy)}
        return net, tokenizer, result, figures

    return train_stage(
        "dpo", out, inputs=inputs, recipe=to_dict(config), parents=parents, settings=config.train, build=build
    )


def _pairs(config: DPOConfig, net: Transformer, tokenizer: Any, source: Corpus, path: Path) -> list[Pair]:
    """Read the pairs of an interrupted run, or draw them. The seed differs from SFT's: these are new questions."""
    if path.exists():
        return read_pairs(path)
    items = [i for i in skills_of(source).training(config.questions, config.train.seed + 1) if i.skill != "smalltalk"]
    engine = Engine(net, tokenizer)
    pairs = sample_pairs(engine, items, samples=config.samples, temperature=config.temperature, seed=config.train.seed)
    write_pairs(path, pairs)
    return pairs
