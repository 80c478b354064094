"""What a check says, and which finding is the consequence of which."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SEVERE, WARNING, NOTE = "severe", "warning", "note"
ORDER = (SEVERE, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """severe: the result is not worth using; warning: it is worse than it could be; note: nothing wrong, good to know.

    step: where on the curve it shows, None for the whole run. follows: the finding that explains this one.
    """

    name: str
    severity: str
    evidence: str
    advice: str
    step: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    follows: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# A cause and what it brings about. Where both are found, the second needs no cure of its own.
CONSEQUENCES = {
    "not finite": ("divergence", "loss spikes", "exploding gradients"),
    "bad initialisation": ("exploding gradients", "clipping always active", "loss spikes", "learning rate too high"),
    "learning rate too high": (
        "divergence",
        "loss spikes",
        "not learning",
        "underfitting",
        "exploding gradients",
        "vanishing gradients",
        "dead units",
        "clipping always active",
    ),
    "divergence": ("loss spikes", "not learning", "underfitting", "exploding gradients", "clipping always active"),
    "vanishing gradients": ("not learning", "underfitting", "learning rate too low"),
    "learning rate too low": ("not learning", "underfitting", "still falling"),
    "dead units": ("not learning", "underfitting"),
    "not learning": ("underfitting",),
    "overfitting": ("data repeated", "still falling"),
    "underfitting": ("still falling",),
}


def related(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, causes first: what follows from another says so, and the rest is ordered by severity."""
    names = {finding.name for finding in findings}
    cause = {effect: name for name in CONSEQUENCES if name in names for effect in reversed(CONSEQUENCES[name])}
    out = [replace(finding, follows=cause.get(finding.name, "")) for finding in findings]
    return sorted(out, key=lambda finding: (bool(finding.follows), ORDER.index(finding.severity)))
