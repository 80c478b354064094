"""Mixture of experts: a router sends each token to a few of many small feed-forward layers.

Switch Transformer (Fedus et al. 2021: one expert a token), Mixtral (Jiang et al. 2024: the best few, their weights made to
sum to 1), DeepSeek-V2 and V3 (2024: experts that every token goes to besides, experts in groups, and a bias on the scores
that balances the load without a loss).

Shapes: N tokens of the batch, D width, E experts, C experts chosen for a token, S tokens of a sequence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cairn.core.config import option
from cairn.models.config import Experts, ModelConfig
from cairn.models.feedforward import FeedForward, GatedFeedForward
from cairn.models.linear import Linear


@dataclass(frozen=True)
class RouterTraining:
    """What a router is trained with. None of it enters a forward pass outside of training."""

    balance: float = option(0.01, "weight of the load-balancing loss", minimum=0)
    z: float = option(0.0, "weight of the loss that keeps the router's logits small (Zoph et al. 2022)", minimum=0)
    jitter: float = option(0.0, "the router's input is multiplied by 1 - this to 1 + this at random", minimum=0)
    capacity: float = option(0.0, "times its even share of a sequence that an expert takes; 0 is no bound", minimum=0)


class Choice(NamedTuple):
    """What a router says. scores: softmax or sigmoid of the logits; weight: the factors on the chosen experts' outputs."""

    logits_NE: torch.Tensor
    scores_NE: torch.Tensor
    chosen_NC: torch.Tensor
    weight_NC: torch.Tensor


class Routing(NamedTuple):
    """What became of the tokens of one forward pass: how many each expert computed, and how many choices were beyond an
    expert's capacity. `choice` carries the gradients of the losses below; it is None outside of training."""

    counts_E: torch.Tensor
    dropped: int
    choice: Choice | None

    def __deepcopy__(self, memo: dict) -> "Routing":
        return Routing(self.counts_E.clone(), self.dropped, None)  # a copy of the model is no part of the pass


class Router(Linear):
    """Scores of the experts for each token, and which of them it goes to."""

    correction: torch.Tensor | None

    def __init__(self, dim: int, experts: Experts):
        super().__init__(dim, experts.count, bias=False)
        self.settings = experts
        self.register_buffer("correction", torch.zeros(experts.count) if experts.bias_correction else None)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Router":
        # The correction moves between devices but stays in float32: it is built up from steps too small for bfloat16.
        exact = self.correction
        super()._apply(fn, recurse)
        if exact is not None and self.correction is not None and self.correction.dtype != exact.dtype:
            self.correction = exact.to(self.correction.device)
        return self

    def forward(self, x_ND: torch.Tensor) -> Choice:  # type: ignore[override]
        settings = self.settings
        logits_NE = self._logits(x_ND)
        scores_NE = logits_NE.float()
        scores_NE = scores_NE.softmax(-1) if settings.router == "softmax" else scores_NE.sigmoid()
        ranked_NE = scores_NE if self.correction is None else scores_NE + self.correction
        if settings.groups > 1:
            ranked_NE = self._within_best_groups(ranked_NE)
        chosen_NC = ranked_NE.topk(settings.per_token, dim=-1).indices
        weight_NC = scores_NE.gather(1, chosen_NC)
        if settings.normalize:
            weight_NC = weight_NC / (weight_NC.sum(-1, keepdim=True) + 1e-20)
        return Choice(logits_NE, scores_NE, chosen_NC, weight_NC * settings.scale)

    def _logits(self, x_ND: torch.Tensor) -> torch.Tensor:
        if not self.settings.router_float32:
            return super().forward(x_ND)
        with torch.autocast(x_ND.device.type, enabled=False):
            if self.weight.dtype == torch.float32:
                return super().forward(x_ND.float())
            return F.linear(x_ND.float(), self.weight.float())

    def _within_best_groups(self, ranked_NE: torch.Tensor) -> torch.Tensor:
        """Scores outside the `groups_kept` best groups become -inf. A group counts as much as its best expert
        (DeepSeek-V2) or, with a bias correction, as its best two together (DeepSeek-V3)."""
        groups_NGM = ranked_NE.unflatten(1, (self.settings.groups, -1))
        best = min(2, groups_NGM.shape[-1]) if self.correction is not None else 1
        value_NG = groups_NGM.topk(best, dim=-1).values.sum(-1)
        kept = value_NG.topk(self.settings.groups_kept, dim=-1).indices
        outside_NG = torch.ones_like(value_NG, dtype=torch.bool).scatter(1, kept, False)
        return groups_NGM.masked_fill(outside_NG[..., None], float("-inf")).flatten(1)


class MixtureOfExperts(nn.Module):
    """The weighted sum of each token's experts, and of the shared experts.

    Tokens are sorted by expert once, so that each expert computes its tokens in one matrix product and none besides.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        experts = config.experts
        assert experts is not None
        kind = GatedFeedForward if config.gated else FeedForward
        self.router = Router(config.dim, experts)
        self.experts = nn.ModuleList(
            kind(config.dim, experts.inner, config.activation, config.ffn_bias) for _ in range(experts.count)
        )
        self.shared = None
        if experts.shared:
            self.shared = kind(config.dim, experts.inner * experts.shared, config.activation, config.ffn_bias)
        self.router_training = RouterTraining()
        self.last_routing: Routing | None = None

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_ND = x_BTD.flatten(0, -2)
        choice, chosen_NC = self._choose(x_ND, x_BTD.shape[-2])
        count = len(self.experts)
        counts_E = torch.bincount(chosen_NC.flatten(), minlength=count)[:count]
        out_ND = self._dispatch(x_ND, chosen_NC, choice.weight_NC, counts_E.tolist())
        learns = self.training and torch.is_grad_enabled()
        dropped = chosen_NC.numel() - int(counts_E.sum())
        self.last_routing = Routing(counts_E, dropped, choice if learns else None)
        if self.shared is not None:
            out_ND = out_ND + self.shared(x_ND)
        return out_ND.view_as(x_BTD)

    def _choose(self, x_ND: torch.Tensor, sequence: int) -> tuple[Choice, torch.Tensor]:
        """The router's choice, and the experts that are to compute: their count stands for none."""
        rule = self.router_training
        if not self.training:
            choice = self.router(x_ND)
            return choice, choice.chosen_NC
        if rule.jitter:
            x_ND = x_ND * torch.empty_like(x_ND).uniform_(1 - rule.jitter, 1 + rule.jitter)
        choice = self.router(x_ND)
        if not rule.capacity:
            return choice, choice.chosen_NC
        chosen_BSC = choice.chosen_NC.unflatten(0, (-1, sequence))
        bound = max(1, int(rule.capacity * sequence * chosen_BSC.shape[-1] / len(self.experts)))
        kept_BSC = within_capacity(chosen_BSC, len(self.experts), bound)
        return choice, chosen_BSC.masked_fill(~kept_BSC, len(self.experts)).flatten(0, 1)

    def _dispatch(
        self, x_ND: torch.Tensor, chosen_NC: torch.Tensor, weight_NC: torch.Tensor, counts: list[int]
    ) -> torch.Tensor:
        order = chosen_NC.flatten().argsort(stable=True)[: sum(counts)]
        token = order // chosen_NC.shape[1]
        pieces = x_ND.index_select(0, token).split(counts)
        done = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces) if len(piece)])
        weighted = done * weight_NC.flatten()[order, None]
        return torch.zeros_like(x_ND).index_add(0, token, weighted.to(x_ND.dtype))


def within_capacity(chosen_BSC: torch.Tensor, experts: int, bound: int) -> torch.Tensor:
    """Which choices find room where an expert takes `bound` tokens of a sequence at most, first come first served: bool,
    shaped like the choices. A token without room passes by the layer on the residual stream alone (Switch)."""
    taken_BSCE = F.one_hot(chosen_BSC.flatten(1), experts)  # choices of a token in their order, then the next token's
    before_BSC = (taken_BSCE.cumsum(1) * taken_BSCE).sum(-1).view_as(chosen_BSC)
    return before_BSC <= bound


# --- balance


def load_balancing_loss(choices: Sequence[Choice], real_N: torch.Tensor | None = None) -> torch.Tensor:
    """E * sum over experts of (share of tokens that chose it) * (its mean probability), over all layers' choices.

    At its smallest, C, when all experts are equally likely (Fedus et al. 2021, equations 4 to 6; equal to `transformers`'
    for Mixtral). Shares carry no gradient: the probabilities of busy experts are what is pushed down. Scores of a sigmoid
    are made to sum to 1, as in DeepSeek-V3. real_N: False at padding.
    """
    experts = choices[0].scores_NE.shape[1]
    chosen_E = probable_E = choices[0].scores_NE.new_zeros(experts)
    rows = 0.0
    for choice in choices:
        real = torch.ones(len(choice.chosen_NC), device=chosen_E.device) if real_N is None else real_N.flatten().float()
        probability_NE = choice.scores_NE / choice.scores_NE.sum(-1, keepdim=True)
        chosen_E = chosen_E.index_add(0, choice.chosen_NC.flatten(), real.repeat_interleave(choice.chosen_NC.shape[1]))
        probable_E = probable_E + (probability_NE * real[:, None]).sum(0)
        rows = rows + real.sum()
    return experts * (chosen_E / rows * (probable_E / rows)).sum()


def router_z_loss(logits_NE: torch.Tensor) -> torch.Tensor:
    """Mean of logsumexp(logits)^2: large logits of a router lose their differences to rounding (Zoph et al. 2022)."""
    return (logits_NE.float().logsumexp(-1) ** 2).mean()


def mixtures(model: nn.Module) -> Iterator[MixtureOfExperts]:
    """The model's mixtures of experts, first layer first."""
    return (module for module in model.modules() if isinstance(module, MixtureOfExperts))


def auxiliary_loss(model: nn.Module) -> torch.Tensor | None:
    """The routers' losses of the last forward pass in training, to be added to the mean loss of a token. None for a model
    without experts or a pass that kept no gradients."""
    found = [(m.router_training, m.last_routing.choice) for m in mixtures(model) if m.last_routing is not None]
    choices = [choice for _, choice in found if choice is not None]
    if not choices:
        return None
    rule = found[0][0]
    loss = rule.balance * load_balancing_loss(choices)
    return loss + rule.z * router_z_loss(torch.cat([c.logits_NE for c in choices])) if rule.z else loss


@torch.no_grad()
def update_correction(mixture: MixtureOfExperts, counts_E: torch.Tensor, speed: float = 0.001) -> None:
    """DeepSeek-V3's balancing without a loss, once a step: the bias of an expert that got more than the mean of tokens falls
    by `speed`, that of one that got fewer rises. counts_E: tokens of the whole step."""
    assert mixture.router.correction is not None, "the router has no bias correction"
    counts_E = counts_E.float()
    mixture.router.correction += speed * (counts_E.mean() - counts_E).sign()
