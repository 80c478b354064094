"""The data card of a built corpus: what went in, what each rule did, what came out; as numbers and as one HTML page."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cairn.core.files import fingerprint, hash_file
from cairn.corpus.documents import SHOWN, Quarantine, Tally
from cairn.corpus.pipeline import phases

if TYPE_CHECKING:
    from cairn.corpus.pipeline.job import Build


def summary(build: "Build") -> dict[str, Any]:
    """Everything the card shows, JSON-able: the content of corpus.json."""
    recipe = build.recipe
    cleaned, written = build.results("clean"), build.results("write")
    tally, quarantine = Tally(), Quarantine.from_dict(build.result("plan")["quarantine"])
    lengths: Counter[int] = Counter()
    languages: Counter[str] = Counter()
    samples: list[list[Any]] = []
    sources = [
        {
            "name": name,
            "licence": config.licence or "not stated",
            "documents": 0,
            "bytes": 0,
            "kept": 0,
            "kept_bytes": 0,
        }
        for name, config in zip(recipe.source_names, recipe.sources)
    ]
    reached = [0] * (len(recipe.steps) + 1)
    reached_bytes = [0] * (len(recipe.steps) + 1)
    for fetched in build.results("fetch"):
        if "quarantine" in fetched:
            quarantine.add_all(Quarantine.from_dict(fetched["quarantine"]))
    for result in cleaned:
        tally.add(Tally.from_dict(result["tally"]))
        quarantine.add_all(Quarantine.from_dict(result["quarantine"]))
        lengths.update({int(k): v for k, v in result["lengths"].items()})
        languages.update(result["languages"])
        samples += result["samples"]
        source = sources[result["source"]]
        source["documents"] += result["reached"][0]
        source["bytes"] += result["reached_bytes"][0]
        source["kept"] += result["reached"][-1]
        source["kept_bytes"] += result["reached_bytes"][-1]
        reached = [a + b for a, b in zip(reached, result["reached"])]
        reached_bytes = [a + b for a, b in zip(reached_bytes, result["reached_bytes"])]
    parts = {
        side: {key: sum(result[side][key] for result in written) for key in ("documents", "bytes")}
        for side in ("train", "valid")
    }
    if build.pieces("encode"):
        for side, part in parts.items():
            part["tokens"] = sum(result.get(side, {}).get("tokens", 0) for result in build.results("encode"))
    files = sorted((build.out / "documents").glob("*/*.jsonl.zst"))
    return {
        "recipe": recipe.to_dict(),
        "sources": sources,
        "steps": [
            {"name": name, "documents": n, "bytes": size}
            for name, n, size in zip([*(step.name for step in recipe.steps), "passed"], reached, reached_bytes)
        ],
        "tally": tally.to_dict(),
        "quarantine": quarantine.to_dict(),
        "duplicates": build.result("clusters") if recipe.dedup else None,
        "repeated_lines": sum(result["dropped"] for result in build.results("find-lines")) if recipe.lines else None,
        "emptied": sum(result["emptied"] for result in written),
        "parts": parts,
        "vocab_size": build.result("merges")["vocab_size"] if recipe.vocab_size else None,
        "inputs": phases.inputs_of([part for part in build.parts if "stamps" in part]),
        "bytes_by_power": {str(power): lengths[power] for power in sorted(lengths)},
        "languages": dict(languages.most_common()) if set(languages) - {""} else {},
        "samples": [sample for _, sample in sorted(samples, key=lambda pair: pair[0])[:SHOWN]],
        "fingerprint": fingerprint({str(f.relative_to(build.out)): hash_file(f) for f in files}),
    }


# --- the page

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.2rem .6rem;border-bottom:1px solid #e4e4e4}
th:first-child,td:first-child{text-align:left}td.bar{width:35%;text-align:left}
td.bar div{background:#5b8;height:.8rem}details{margin:.3rem 0}pre{white-space:pre-wrap;background:#f6f6f4;padding:.6rem;
margin:.3rem 0;max-height:12rem;overflow:auto}small{color:#666}
"""


def page(info: dict[str, Any]) -> str:
    """One self-contained HTML file; every text from the corpus is escaped."""
    steps, tally = info["steps"], Tally.from_dict(info["tally"])
    body = [
        "<h1>Data card</h1>",
        f"<p>Fingerprint <code>{info['fingerprint']}</code>. Everything below was counted while the corpus was built; "
        "the recipe stands at the end.</p>",
        "<h2>What came out</h2>",
        _table(
            ["part", "documents", "bytes", *(["tokens"] if "tokens" in info["parts"]["train"] else [])],
            [[side, *part.values()] for side, part in info["parts"].items()],
        ),
        "<h2>Sources</h2>",
        _table(
            ["source", "licence", "documents", "bytes", "passed the steps", "bytes"],
            [[s[k] for k in ("name", "licence", "documents", "bytes", "kept", "kept_bytes")] for s in info["sources"]],
        ),
        "<h2>Steps</h2>",
        _table(
            ["documents that reached", "documents", "bytes", ""],
            [
                [s["name"] if s["name"] != "passed" else "the end", s["documents"], s["bytes"], _Bar(s["documents"])]
                for s in steps
            ],
        ),
        "<h2>What each rule dropped</h2>",
        _rules(tally),
        "<h2>What each rule changed</h2>",
        _table(["rule", "times"], [[rule, n] for rule, n in tally.changed.most_common() if n]),
    ]
    if info["duplicates"]:
        found = info["duplicates"]
        body += [
            "<h2>Duplicates</h2>",
            f"<p>{found['removed']:,} of {found['documents']:,} documents removed, in {found['clusters']:,} clusters; "
            f"the largest has {found['largest']:,}. Of each the first document stays.</p>",
            _table(["documents in the cluster", "clusters"], [[size, n] for size, n in found["sizes"].items()]),
        ]
    if info["repeated_lines"] is not None:
        body.append(f"<p>{info['repeated_lines']:,} repeated lines removed.</p>")
    body += [
        "<h2>Length of documents that passed</h2>",
        _table(
            ["bytes", "documents", ""],
            [[f"{1 << int(p) >> 1:,} to {(1 << int(p)) - 1:,}", n, _Bar(n)] for p, n in info["bytes_by_power"].items()],
        ),
    ]
    if info["languages"]:
        rows = [[language or "not asked", n, _Bar(n)] for language, n in list(info["languages"].items())[:30]]
        body += ["<h2>Languages</h2>", _table(["language", "documents", ""], rows)]
    quarantine = Quarantine.from_dict(info["quarantine"])
    body += [
        "<h2>Records that could not be read</h2>",
        _table(["reason", "records"], [[reason, n] for reason, n in quarantine.counts.most_common()]),
        *(f"<small>{_text(e['where'])}: {_text(e['reason'])}</small><br>" for e in quarantine.examples),
        "<h2>A sample of what passed</h2>",
        *(_sample(sample) for sample in info["samples"]),
        "<h2>Recipe</h2>",
        f"<pre>{_text(_recipe_lines(info['recipe']))}</pre>",
    ]
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Data card</title>"
        f"<style>{STYLE}</style>{''.join(body)}</html>\n"
    )


class _Bar(int):
    """A number that a table shows as a bar, as long as its share of the column's largest."""


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    rows = list(rows)
    if not rows:
        return "<p>None.</p>"
    largest = max((cell for row in rows for cell in row if isinstance(cell, _Bar)), default=1) or 1

    def cell(value: Any) -> str:
        if isinstance(value, _Bar):
            return f"<td class='bar'><div style='width:{100 * value / largest:.1f}%'></div></td>"
        return f"<td>{value:,}</td>" if isinstance(value, int) else f"<td>{_text(value)}</td>"

    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    return f"<table><tr>{head}</tr>{''.join('<tr>' + ''.join(map(cell, row)) + '</tr>' for row in rows)}</table>"


def _rules(tally: Tally) -> str:
    table = _table(["rule", "documents", ""], [[rule, n, _Bar(n)] for rule, n in tally.dropped.most_common()])
    samples = "".join(
        f"<details><summary>{_text(rule)}</summary>{''.join(map(_sample, tally.samples.get(rule, [])))}</details>"
        for rule, _ in tally.dropped.most_common()
    )
    return table + samples


def _sample(sample: dict[str, str]) -> str:
    return f"<pre><small>{_text(sample['id'])}</small>\n{_text(sample['text'])}</pre>"


def _recipe_lines(recipe: dict[str, Any]) -> str:
    lines = [f"{key} = {value!r}" for key, value in recipe.items() if not isinstance(value, (list, dict))]
    for key in ("sources", "steps"):
        for table in recipe[key]:
            lines += ["", f"[[{key}]]", *(f"{k} = {v!r}" for k, v in table.items() if v not in ("", [], None))]
    for key in ("dedup", "lines"):
        if recipe[key]:
            lines += ["", f"[{key}]", *(f"{k} = {v!r}" for k, v in recipe[key].items())]
    return "\n".join(lines)
