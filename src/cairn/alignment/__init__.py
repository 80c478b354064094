"""From a base model to an assistant: supervised fine-tuning, then preferences."""

from cairn.alignment.dpo import DPO, DPOConfig, dpo, preference_accuracy
from cairn.alignment.preferences import Pair, sample_pairs
from cairn.alignment.sft import SFTConfig, conversations, sft, skills_of

__all__ = [
    "DPO",
    "DPOConfig",
    "Pair",
    "SFTConfig",
    "conversations",
    "dpo",
    "preference_accuracy",
    "sample_pairs",
    "sft",
    "skills_of",
]
