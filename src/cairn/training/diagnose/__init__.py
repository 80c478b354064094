"""Read a run's record and say what went wrong, with the evidence and the next thing to try.

    diagnosis = diagnose("runs/base.run")
    for finding in diagnosis.findings: print(finding.name, finding.evidence)

A check is a function of the run that returns its findings; it asks for more than noise explains, so that a healthy run
has none. Causes are told from what follows from them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.training.diagnose import layers, loss, pace, validation
from cairn.training.diagnose.finding import NOTE, SEVERE, WARNING, Finding, related
from cairn.training.diagnose.robust import level, noise
from cairn.training.diagnose.run import Run, read_run

CHECKS = (
    loss.not_finite,
    loss.bad_start,
    loss.divergence,
    loss.spikes,
    loss.little_learned,
    loss.still_falling,
    validation.overfitting,
    validation.leak,
    validation.unseen,
    layers.gradients_over_depth,
    layers.gradients_over_time,
    layers.dead_units,
    pace.repeated,
    pace.clipping,
    pace.slower,
    pace.noisy,
)


@dataclass(frozen=True)
class Diagnosis:
    run: Run
    findings: list[Finding]

    @property
    def wrong(self) -> list[Finding]:
        """What needs a cure: severe findings and warnings that do not follow from another."""
        return [f for f in self.findings if f.severity != NOTE and not f.follows]

    @property
    def verdict(self) -> str:
        return ", ".join(finding.name for finding in self.wrong) or "nothing wrong"

    def summary(self) -> dict[str, Any]:
        """The run in a few figures."""
        values = self.run.loss()[1]
        name, _, valid = self.run.valid()
        out: dict[str, Any] = {"steps": self.run.rows[-1]["step"] if self.run.rows else 0}
        if len(values):
            out |= {"first_loss": float(values[0]), "last_loss": level(values, end=True), "noise": noise(values)}
        return out | ({name: float(valid[-1])} if len(valid) else {})

    def to_json(self) -> dict[str, Any]:
        findings = [finding.to_json() for finding in self.findings]
        return {"run": str(self.run.path), "verdict": self.verdict, "summary": self.summary(), "findings": findings}


def diagnose(run: Run | Path | str) -> Diagnosis:
    """Every check on a run, or on the path of one (see `read_run`)."""
    if not isinstance(run, Run):
        run = read_run(run)
    findings = [finding for check in CHECKS for finding in check(run)]
    findings += layers.step_size(run, {finding.name for finding in findings})
    return Diagnosis(run, related(findings))


__all__ = ["NOTE", "SEVERE", "WARNING", "Diagnosis", "Finding", "Run", "diagnose", "read_run"]
