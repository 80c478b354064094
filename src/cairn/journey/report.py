"""The report of a journey: one HTML file that needs nothing beside it.

Everything in it is read from the run's `summary.json` and its stages' `metrics.jsonl`. What is missing there is left
out here, so that a journey that was stopped half-way can be looked at too. The page runs no script and loads nothing;
all text of models and corpora is escaped by the template.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cairn.core.errors import UserError
from cairn.core.files import read_json, write_text
from cairn.core.record import read_metrics
from cairn.journey.plots import bits_per_byte_bars, loss_curves

SECTIONS = {
    "stages": "Stages",
    "skills": "Skills",
    "samples": "Samples",
    "preferences": "Preferences",
    "precision": "Precision",
    "grounding": "Grounding",
    "understanding": "Inside",
    "corpus": "Corpus",
    "use": "Use it",
    "made": "How it was made",
}
MAX_PICTURE = 8 << 20  # bytes
# Controls, halves of surrogate pairs, and marks that turn the direction of the text around them.
_INVISIBLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def write_report(run: Path | str) -> Path:
    """Write `run`/report.html from `run`/summary.json and return its path. The same figures give the same bytes."""
    run = Path(run)
    summary = read_json(run / "summary.json")
    if not isinstance(summary, dict):
        raise UserError(
            f"{run / 'summary.json'} is not the summary of a journey; make it with: cairn journey --out {run}"
        )
    stages = summary.get("stages") or []
    skill_stages = [s for s in stages if s.get("skills")]
    content = {
        "name": run.resolve().name,
        "css": Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        "summary": summary,
        "opening": _opening(summary, stages),
        "cards": list(_cards(summary, stages)),
        "stages": stages,
        "last": stages[-1] if stages else {},
        "bits": _bits(summary, stages),
        "losses": _losses(run, stages),
        "skill_stages": skill_stages,
        "skills": _skills(skill_stages),
        "mean_cells": [_cell(s.get("mean")) for s in skill_stages] if stages and stages[-1].get("mean") else [],
        "samples": _samples(stages),
        "precisions": _precisions(summary.get("precisions") or []),
        "understand": _understand(run, summary.get("understand")),
        "commands": list(_commands(run, summary, stages)),
        "settings": list(_flat(summary.get("recipe") or {})),
    }
    present = {
        "stages": stages,
        "skills": content["skills"],
        "samples": content["samples"],
        "preferences": summary.get("dpo"),
        "precision": content["precisions"],
        "grounding": summary.get("retrieval"),
        "understanding": content["understand"],
        "corpus": summary.get("corpus"),
        "use": content["commands"],
        "made": True,
    }
    content["sections"] = [(id, title) for id, title in SECTIONS.items() if present[id]]
    out = run / "report.html"
    write_text(out, _template().render(content))
    return out


# --- what the sections show


def _opening(summary: dict[str, Any], stages: list[dict[str, Any]]) -> str:
    """Two sentences for somebody who has never heard of it."""
    parameters = next((s["parameters"] for s in stages if s.get("parameters")), None)
    size = f" of {_short(parameters)} parameters" if parameters else ""
    where = {"cpu": "on an ordinary processor", "cuda": "on a GPU"}.get(str(summary.get("device")).split(":")[0], "")
    time = f" in {_duration(summary['seconds'])}" if summary.get("seconds") else ""
    source = f", from {summary['corpus']['source']}" if summary.get("corpus", {}).get("source") else ""
    how = " ".join(part for part in (f"one command trained{time}", where) if part)
    return (
        f"This is a language model{size} that {how}{source}. Every score on this page was measured on text and "
        f"questions that it had not seen, and stands beside what guessing would reach and a 95 % interval."
    )


def _cards(summary: dict[str, Any], stages: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    def card(value: str, label: str, note: str = "") -> dict[str, str]:
        return {"value": value, "label": label, "note": note}

    if stages and stages[0].get("parameters"):
        tokens = sum(s.get("tokens") or 0 for s in stages)
        yield card(_short(stages[0]["parameters"]), "parameters", f"{_short(tokens)} tokens of training")
    if summary.get("seconds"):
        yield card(_duration(summary["seconds"]), "from text to here", f"on {summary.get('threads', '?')} threads")
    base = next((s["general"] for s in stages if s.get("general")), None)
    if base:
        xz = (summary.get("xz") or {}).get("bits_per_byte")
        yield card(
            _fixed(base["bits_per_byte"]),
            "bits per byte of unseen text",
            f"xz {_fixed(xz)}, chance 8" if xz else "chance 8",
        )
    mean = next((s["mean"] for s in reversed(stages) if s.get("mean")), None)
    if mean:
        yield card(
            _percent(mean["score"]),
            "questions answered exactly",
            f"chance {_percent(mean['chance'])}, n\u00a0=\u00a0{_number(mean['n'])}",
        )
    found = summary.get("retrieval")
    if found:
        yield card(
            _percent(found["with"]["score"]),
            "right with retrieval",
            f"{_percent(found['without']['score'])} from memory",
        )
    small = min(_precisions(summary.get("precisions") or []), key=lambda p: p["bytes"], default=None)
    if small:
        yield card(_bytes(small["bytes"]), f"as {small['name']}", f"{_signed(small['cost'])} bits per byte")


def _bits(summary: dict[str, Any], stages: list[dict[str, Any]]) -> Markup | None:
    """Held-out bits per byte on general and domain text, with the yardsticks above the stages."""
    xz = summary.get("xz") or {}
    panels = []
    for part, title, compressed in (
        ("general", "General text", xz.get("bits_per_byte")),
        ("domain", "Domain text", xz.get("domain_bits_per_byte")),
    ):
        rows = [
            {
                "name": s["name"],
                "kind": "model",
                "value": s[part]["bits_per_byte"],
                "low": s[part]["low"],
                "high": s[part]["high"],
            }
            for s in stages
            if s.get(part)
        ]
        if rows:
            yardsticks = [("chance", summary.get("chance_bits_per_byte")), ("xz", compressed)]
            above = [{"name": name, "kind": "yardstick", "value": value} for name, value in yardsticks if value]
            panels.append((title, above + rows))
    return Markup(bits_per_byte_bars(panels)) if panels else None


def _losses(run: Path, stages: list[dict[str, Any]]) -> Markup | None:
    curves = []
    for stage in stages:
        rows = read_metrics(run / f"{stage['name']}.run" / "metrics.jsonl")
        rows = [row for row in rows if "loss" in row and "tokens" in row]
        if rows:
            curves.append((stage["name"], rows))
    return Markup(loss_curves(curves)) if curves else None


def _cell(score: dict[str, Any] | None) -> dict[str, Any] | None:
    """A score and, from 0 to 1, how much of the way from chance to perfection it has come."""
    if not score:
        return None
    room = 1 - score["chance"]
    strength = max(0.0, (score["score"] - score["chance"]) / room) if room > 0 else 0.0
    return {"score": score, "strength": round(strength, 3)}


def _skills(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for stage in stages for name in stage["skills"]))
    rows = []
    for name in names:
        scores = [stage["skills"].get(name) for stage in stages]
        known = next(score for score in reversed(scores) if score)
        rows.append({"skill": name, "chance": known["chance"], "n": known["n"], "cells": [_cell(s) for s in scores]})
    return rows


def _samples(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each prompt, with what every stage made of it."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for stage in stages:
        for sample in stage.get("samples") or []:
            key = (sample["skill"], sample["prompt"])
            row = rows.setdefault(key, {**sample, "cells": []})
            row["cells"].append({"stage": stage.get("title") or stage["name"], **sample})
    return list(rows.values())


def _precisions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each format's size, loss and speed, and what they are against the first one's."""
    first = rows[0] if rows else {}
    return [
        {
            **row,
            "smaller": first["bytes"] / row["bytes"],
            "cost": row["bits_per_byte"] - first["bits_per_byte"],
            "faster": row["tokens_per_second"] / first["tokens_per_second"],
        }
        for row in rows
    ]


def _understand(run: Path, understand: dict[str, Any] | None) -> dict[str, Any] | None:
    if not understand:
        return None
    pictures = []
    for picture in understand.get("pictures") or []:
        data = _picture(run, picture["file"])
        if data:
            pictures.append({"title": picture["title"], "caption": picture.get("caption", ""), "data": data})
    columns, changes = _changes(understand.get("changes") or [])
    return {"text": understand.get("text"), "pictures": pictures, "columns": columns, "changes": changes}


def _changes(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row for each step from one stage to the next and each layer: what moved there."""
    if not rows:
        return [], []
    names = [name for name in rows[0] if name not in ("from", "to", "layer")]
    table = [
        [f"{row['from']} \u2192 {row['to']}, layer {row['layer']}", *(_shown(row.get(n, "\u2013")) for n in names)]
        for row in rows
    ]
    return ["", *names], table


def _picture(run: Path, name: str) -> str | None:
    """An SVG file of the run as a data address. In an <img> it can neither run a script nor load anything."""
    file = (run / name).resolve()
    if not file.is_relative_to(run.resolve()) or not file.is_file() or file.stat().st_size > MAX_PICTURE:
        return None
    return "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def _commands(run: Path, summary: dict[str, Any], stages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    if not stages:
        return
    # A path from the root of this machine would mean nothing to the friend who gets the report.
    root = Path(run.name) if run.is_absolute() else run
    model = (root / stages[-1]["directory"]).as_posix()
    yield "Talk with it in the terminal:", f"cairn chat {model}"
    yield "Serve it over HTTP as OpenAI does, with a chat page:", f"cairn serve {model}"
    if summary.get("corpus", {}).get("directory"):
        yield (
            "Ask about its corpus, with and without retrieval:",
            f"cairn rag {model} --corpus {(root / summary['corpus']['directory']).as_posix()}",
        )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


# --- how figures are written


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return str(value)


def _number(value: float) -> str:
    """A thin space between groups of three digits.

    >>> _number(2048000).split()
    ['2', '048', '000']
    """
    return f"{value:,.0f}".replace(",", "\u202f")


def _short(value: float) -> str:
    """
    >>> _short(983_424), _short(2_048_000), _short(512)
    ('983 thousand', '2.05 million', '512')
    """
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f}"


def _fixed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}"


def _signed(value: float) -> str:
    """
    >>> _signed(0.0041), _signed(-0.0002)
    ('+0.004', '0.000')
    """
    text = f"{value:+.3f}"
    return "0.000" if text[1:] == "0.000" else text.replace("-", "\u2212")


def _percent(value: float) -> str:
    """Whole percent, but neither nothing nor everything when it is not.

    >>> [_percent(value).replace("\u202f", " ") for value in (0.0, 0.002, 0.416, 0.998, 1.0)]
    ['0 %', '<1 %', '42 %', '>99 %', '100 %']
    """
    if 0 < value < 0.005:
        return "<1\u202f%"
    if 0.995 < value < 1:
        return ">99\u202f%"
    return f"{100 * value:.0f}\u202f%"


def _interval(score: dict[str, Any]) -> str:
    text = f"{_percent(score['low'])} to {_percent(score['high'])}, chance {_percent(score['chance'])}"
    return f"{text}, n\u00a0=\u00a0{_number(score['n'])}"


def _bytes(value: float) -> str:
    """
    >>> _bytes(3_957_200), _bytes(500)
    ('3.96 MB', '500 B')
    """
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} B"


def _duration(seconds: float) -> str:
    """
    >>> _duration(42.4), _duration(803), _duration(7500)
    ('42 s', '13 min 23 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- the page

_HERE = Path(__file__).parent


def _clean(value: Any) -> Any:
    """What the template is about to print, without characters that a page may not hold or that would mislead."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _INVISIBLE.sub("\ufffd", value)
    return value


def _template() -> jinja2.Template:
    # Undefined values are falsy at any depth: a section whose figures are missing is left out.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.ChainableUndefined, finalize=_clean, trim_blocks=True, lstrip_blocks=True
    )
    filters = (_number, _short, _fixed, _signed, _percent, _interval, _bytes, _duration)
    environment.filters |= {f.__name__.strip("_"): _or_dash(f) for f in filters}
    return environment.from_string((_HERE / "report.html").read_text(encoding="utf-8"))


def _or_dash(write: Any) -> Any:
    """A figure that was not measured is a dash."""

    def wrapped(value: Any, *arguments: Any) -> str:
        return "–" if value is None or isinstance(value, jinja2.Undefined) else write(value, *arguments)

    return wrapped
