"""The optimizers of a model as one: which parameters each of them updates, their rates, and their state by name."""

from collections import defaultdict
from typing import Any, Protocol

import torch
from torch import nn

from cairn.core.errors import UserError
from cairn.planning.settings import OPTIMIZERS
from cairn.training.mup import rate_factor, width_ratio
from cairn.training.optimizers.adafactor import Adafactor
from cairn.training.optimizers.adamw8bit import AdamW8bit, block_length
from cairn.training.optimizers.groups import Member, Role, members
from cairn.training.optimizers.muon import Muon


class Rates(Protocol):
    """The part of `TrainConfig` that optimizers are made from."""

    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def matrix_lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def mup_width(self) -> int: ...


class Optimizer:
    """One or two optimizers, each for some of the parameters, that step together.

    names: of all parameters in them. The rates they have at first are the peaks that `set_rate` takes a share of.
    """

    def __init__(self, optimizers: list[torch.optim.Optimizer], names: dict[torch.Tensor, str]):
        self.optimizers, self.names = optimizers, names
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def set_rate(self, factor: float) -> None:
        """The rate of the next step, as a share of the peak."""
        for optimizer, peaks in zip(self.optimizers, self._peaks):
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * factor

    def step(self) -> None:
        """Update the weights by their gradients, and drop the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All state by name, "blocks.0.attention.q.weight/momentum", for a checkpoint without pickle; before the first step
        that which it starts from, to read a checkpoint into.

        No copies: they change with the next step. DTensors for parameters that are DTensors; counts of steps are plain.
        """
        return {
            f"{self.names[parameter]}/{key}": value
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            for key, value in _state(optimizer, parameter).items()
        }

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `state_tensors` gave, of the same optimizer; a parameter without any begins anew."""
        states: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            parameter, key = name.rsplit("/", 1)
            states[parameter][key] = tensor
        for optimizer in self.optimizers:
            optimizer.state.clear()
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    loaded = states.pop(self.names[parameter], None)
                    if loaded is not None:
                        # A count of steps may stand on another device than its parameter.
                        state = _initial_state(optimizer, parameter)
                        optimizer.state[parameter] = {k: t.to(state[k].device) for k, t in loaded.items()}
        if states:
            raise ValueError(f"the state of {min(states)} belongs to no parameter of this optimizer")


def _state(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    if not optimizer.state[parameter]:
        optimizer.state[parameter].update(_initial_state(optimizer, parameter))
    return optimizer.state[parameter]


def _initial_state(optimizer: Any, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the first step would make itself; torch's optimizers have no method for it."""
    with torch.no_grad():
        if isinstance(optimizer, torch.optim.AdamW):
            count = torch.zeros((), device=parameter.device if optimizer.defaults["fused"] else "cpu")
            return {"step": count} | {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        if isinstance(optimizer, torch.optim.SGD):
            return {"momentum_buffer": torch.zeros_like(parameter)} if optimizer.defaults["momentum"] else {}
        return optimizer.initial_state(parameter)


def build_optimizer(model: nn.Module, config: Rates) -> Optimizer:
    """The optimizer that a configuration names, over the parameters of `model` that take gradients.

    muon: matrices by Muon at matrix_lr, everything else by AdamW at lr. The others update everything at lr. Decay is for
    matrices alone. With mup_width the rates are those of that width, see `mup`.
    """
    if config.optimizer not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {config.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
    found = members(model)
    if not found:
        raise UserError("the model has no parameters to train: all of them are frozen")
    groups = _Groups(model, config)
    made: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        matrices, found = _split(found, lambda member: member.role is Role.MATRIX and member.parameter.ndim == 2)
        if matrices:
            made.append(Muon(groups.of(matrices, "muon", config.matrix_lr), momentum=config.momentum))
    if config.optimizer == "adamw8bit":
        large, found = _split(found, lambda member: block_length(member.parameter) > 0)
        if large:
            made.append(AdamW8bit(groups.of(large, "adamw8bit", config.lr), betas=(0.9, config.beta2)))
    if found and config.optimizer == "sgd":
        nesterov = config.momentum > 0
        made.append(torch.optim.SGD(groups.of(found, "sgd", config.lr), momentum=config.momentum, nesterov=nesterov))
    elif found and config.optimizer == "adafactor":
        made.append(Adafactor(groups.of(found, "adafactor", config.lr)))
    elif found:
        # One kernel for all of an update; on Apple's GPUs it is newer than the rest of torch there.
        fused = all(member.parameter.device.type in ("cpu", "cuda") for member in found)
        made.append(torch.optim.AdamW(groups.of(found, "adamw", config.lr), betas=(0.9, config.beta2), fused=fused))
    return Optimizer(made, {member.parameter: member.name for member in members(model)})


class _Groups:
    """Parameters in the groups that torch's optimizers take: one for each rate, decay and mesh of processes."""

    def __init__(self, model: nn.Module, config: Rates):
        self.decay = config.weight_decay
        self.ratio = width_ratio(model, config.mup_width) if config.mup_width else None

    def of(self, found: list[Member], kind: str, lr: float) -> list[dict[str, Any]]:
        groups: dict[tuple, list[torch.Tensor]] = defaultdict(list)
        for member in found:
            factor = rate_factor(member.role, kind, self.ratio) if self.ratio else 1.0
            # lr * decay is what a step takes off a weight, and does not depend on the width.
            decay = self.decay / factor if member.role.decays else 0.0
            # One fused kernel does not take plain tensors together with DTensors.
            groups[lr * factor, decay, getattr(member.parameter, "device_mesh", None)].append(member.parameter)
        return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay, _), params in groups.items()]


def _split(found: list[Member], wanted) -> tuple[list[Member], list[Member]]:
    return [m for m in found if wanted(m)], [m for m in found if not wanted(m)]
