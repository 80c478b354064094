"""One trainer for every objective."""

from cairn.training.causal import CausalLM, TokenBatch, make_batch, target_logprobs
from cairn.training.causal_rows import ShardData
from cairn.training.examples import ExampleData
from cairn.training.objective import Data, Objective, Part
from cairn.training.trainer import TrainConfig, TrainResult, remove_checkpoints, train

__all__ = [
    "CausalLM",
    "Data",
    "ExampleData",
    "Objective",
    "Part",
    "ShardData",
    "TokenBatch",
    "TrainConfig",
    "TrainResult",
    "make_batch",
    "remove_checkpoints",
    "target_logprobs",
    "train",
]
