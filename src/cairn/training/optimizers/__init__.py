"""Optimizers: what a step does with the gradients. `build_optimizer` makes the one that a configuration names."""

from cairn.training.optimizers.adafactor import Adafactor
from cairn.training.optimizers.adamw8bit import AdamW8bit
from cairn.training.optimizers.build import OPTIMIZERS, Optimizer, build_optimizer
from cairn.training.optimizers.muon import Muon, orthogonalize

__all__ = ["OPTIMIZERS", "Adafactor", "AdamW8bit", "Muon", "Optimizer", "build_optimizer", "orthogonalize"]
