"""Looking into a model: activations, attention heads, the logit lens, and what each stage of training changed."""

from cairn.interpretability.attention import InductionScores, induction_scores, patterns, summarize_heads
from cairn.interpretability.changes import Change, compare, linear_cka
from cairn.interpretability.inspect import TEXT, inspect_models
from cairn.interpretability.lens import Lens, lens_logits, logit_lens
from cairn.interpretability.trace import trace

__all__ = [
    "TEXT",
    "Change",
    "InductionScores",
    "Lens",
    "compare",
    "induction_scores",
    "inspect_models",
    "lens_logits",
    "linear_cka",
    "logit_lens",
    "patterns",
    "summarize_heads",
    "trace",
]
