"""What flows through the corpus room: documents, the steps they pass, and the tally of what happened to them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

SHOWN = 20  # quarantined records, and samples of each rule, that are listed in full
SAMPLE_CHARACTERS = 300


@dataclass(frozen=True)
class Document:
    """A text with a name that is unique in its corpus. meta: what is known of it (url, licence, language, ...)."""

    id: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass
class Quarantine:
    """Records that could not be read, and why."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, where: str, reason: str) -> None:
        self.counts[reason] += 1
        if len(self.examples) < SHOWN:
            self.examples.append({"where": where, "reason": reason})

    def add_all(self, other: "Quarantine") -> None:
        self.counts.update(other.counts)
        self.examples.extend(other.examples[: SHOWN - len(self.examples)])

    def to_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "examples": self.examples}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Quarantine":
        return cls(Counter(values["counts"]), list(values["examples"]))

    def summary(self) -> str:
        return ", ".join(f"{n} x {reason}" for reason, n in sorted(self.counts.items())) or "none"


@dataclass
class Tally:
    """What the steps did: documents dropped by each rule (with samples), and how often each rule changed something."""

    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def drop(self, rule: str, document: Document) -> None:
        """Count `document` as dropped by `rule` ("gopher-quality/too-few-words") and keep the first few as samples."""
        self.dropped[rule] += 1
        kept = self.samples.setdefault(rule, [])
        if len(kept) < SHOWN:
            kept.append({"id": document.id, "text": document.text[:SAMPLE_CHARACTERS]})

    def change(self, rule: str, times: int = 1) -> None:
        """Count `times` changes by `rule` ("c4/line-without-end-punctuation", "pii/email")."""
        self.changed[rule] += times

    def add(self, other: "Tally") -> None:
        self.dropped.update(other.dropped)
        self.changed.update(other.changed)
        for rule, samples in other.samples.items():
            kept = self.samples.setdefault(rule, [])
            kept.extend(samples[: SHOWN - len(kept)])

    def to_dict(self) -> dict[str, Any]:
        return {"dropped": dict(self.dropped), "changed": dict(self.changed), "samples": self.samples}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Tally":
        return cls(Counter(values["dropped"]), Counter(values["changed"]), values["samples"])


class Step(Protocol):
    """A frozen dataclass of settings that is called with one document: the document, changed or not, or None if dropped.

    A step is pure: the verdict depends on the document and the settings alone, so that shards can be worked on anywhere.
    """

    name: ClassVar[str]

    def __call__(self, document: Document, tally: Tally) -> Document | None: ...
