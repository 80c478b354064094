"""Filters and cleaning: each a step that changes or drops one document, with the published rules at their thresholds.

The order is the usual one: repair first, then language, then the cheap verdicts on the whole text, then C4's rules, which
cut lines and so come before FineWeb's, and the replacement of personal data after everything that looks at words.
"""

from cairn.corpus.filters.c4 import C4
from cairn.corpus.filters.decontaminate import Decontaminate
from cairn.corpus.filters.fineweb import FineWebQuality
from cairn.corpus.filters.gopher import GopherQuality, GopherRepetition
from cairn.corpus.filters.language import Language
from cairn.corpus.filters.normalize import Normalize
from cairn.corpus.filters.pii import PII
from cairn.corpus.filters.toxicity import Toxicity

STEPS: dict[str, type] = {
    step.name: step
    for step in (
        Normalize,
        Language,
        GopherRepetition,
        GopherQuality,
        C4,
        FineWebQuality,
        Toxicity,
        Decontaminate,
        PII,
    )
}

__all__ = [
    "C4",
    "PII",
    "STEPS",
    "Decontaminate",
    "FineWebQuality",
    "GopherQuality",
    "GopherRepetition",
    "Language",
    "Normalize",
    "Toxicity",
]  # fmt: skip
