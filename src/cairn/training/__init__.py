"""One trainer for every objective."""

from cairn.training.causal import CausalLM, ExampleData, ShardData, TokenBatch, make_batch, target_logprobs
from cairn.training.trainer import TrainConfig, TrainResult, remove_checkpoints, train

__all__ = [
    "CausalLM",
    "ExampleData",
    "ShardData",
    "TokenBatch",
    "TrainConfig",
    "TrainResult",
    "make_batch",
    "remove_checkpoints",
    "target_logprobs",
    "train",
]
