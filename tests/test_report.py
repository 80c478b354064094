import base64
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cairn.core.errors import UserError
from cairn.core.stats import wilson
from cairn.journey.report import write_report

STAGES = {"pretrain": "Base model", "continue": "Domain model", "sft": "Instructed model", "dpo": "Assistant"}
HOSTILE = "<script>alert('x')</script> $x_1$ & \"quoted\" \x00\x1b[31m \ud83d \u202e"


def score(share: float, chance: float, n: int = 120) -> dict:
    return vars(wilson(round(share * n), n, chance)).copy()


def bits(value: float) -> dict:
    return {"bits_per_byte": value, "low": value - 0.05, "high": value + 0.06, "documents": 53, "bytes": 278401}


def realistic() -> dict:
    """A summary as a journey leaves it."""
    chances = {
        "reading": 0.35,
        "reversing": 0.33,
        "largest": 0.333,
        "addition": 0.02,
        "calculator": 0.01,
        "declining": 0.5,
    }
    asked = [
        ("reading", "The key is in the attic. The lamp is in the hall. Where is the key?", "attic"),
        ("reversing", "Reverse the words: stone water", "water stone"),
        ("calculator", "Calculate 214 * 37", "7918"),
    ]
    stages = []
    for n, (name, title) in enumerate(STAGES.items()):
        reached = (0.0, 0.0, 0.72, 0.81)[n]
        scores = {skill: score(reached + (1 - reached) * chance * (n > 1), chance) for skill, chance in chances.items()}
        stages.append(
            {
                "name": name,
                "title": title,
                "directory": name,
                "seconds": (410.2, 130.0, 190.3, 45.9)[n],
                "parameters": 983_424,
                "tokens": (2_048_000, 614_400, 1_100_000, 150_000)[n],
                "steps": (500, 150, 400, 60)[n],
                "general": bits((2.31, 2.44, 2.58, 2.6)[n]),
                "domain": bits((2.62, 2.05, 2.3, 2.31)[n]),
                "skills": scores,
                "mean": score(reached, 0.26, 720),
                "samples": [
                    {
                        "skill": s,
                        "prompt": p,
                        "answer": a,
                        "output": a if n > 1 else "the module is used to",
                        "correct": n > 1,
                    }
                    for s, p, a in asked
                ],
            }
        )
    pair = ("In which module is dedent?", "textwrap")
    return {
        "cairn": "0.1.0",
        "versions": {"cairn": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "recipe": {"preset": "stone", "pretrain": {"steps": 500, "optimizer": {"rate": 0.02, "betas": [0.9, 0.95]}}},
        "seed": 1,
        "threads": 2,
        "device": "cpu",
        "seconds": 803.4,
        "corpus": {
            "directory": "corpus",
            "seconds": 9.1,
            "source": "the documentation and the source code of Python's standard library",
            "counts": {
                "general-train": {"documents": 547, "bytes": 2453917},
                "general-valid": {"documents": 53, "bytes": 278401},
                "domain-train": {"documents": 234, "bytes": 4000000},
                "domain-valid": {"documents": 11, "bytes": 300000},
            },
            "quarantine": {
                "counts": {"exact duplicate of another document": 1},
                "examples": [{"where": "reference/if", "reason": "exact duplicate of another document"}],
            },
        },
        "tokenizer": {
            "directory": "tokenizer",
            "seconds": 3.0,
            "vocab_size": 2048,
            "bytes_per_token": {"general": 3.41, "domain": 2.9},
        },
        "chance_bits_per_byte": 8.0,
        "xz": {"bits_per_byte": 2.47, "bytes": 85960, "domain_bits_per_byte": 1.75},
        "stages": stages,
        "dpo": {
            "pairs": 900,
            "held_out_pairs": 100,
            "accuracy": score(0.86, 0.5, 100),
        },
        "precisions": [
            {
                "name": name,
                "bits": n,
                "directory": folder,
                "bytes": size,
                "bits_per_byte": loss,
                "tokens_per_second": speed,
            }
            for name, n, folder, size, loss, speed in (
                ("float32", 32, "dpo", 3957200, 2.6, 910.0),
                ("INT8", 8, "dpo-int8", 1100000, 2.602, 880.0),
                ("INT4", 4, "dpo-int4", 640000, 2.68, 700.0),
            )
        ],
        "retrieval": {
            "without": score(0.05, 0.03, 200),
            "with": score(0.83, 0.03, 200),
            "recall": score(0.93, 0.002, 200),
            "passages": 9018,
            "examples": [
                {
                    "question": pair[0],
                    "answer": pair[1],
                    "without": "inspect",
                    "with": pair[1],
                    "title": "textwrap",
                    "passage": "dedent(text)\nRemove any common leading whitespace from every line in `text`.",
                },
                {
                    "question": "Where is fill defined?",
                    "answer": "textwrap",
                    "without": "",
                    "with": "turtle",
                    "title": "turtle",
                    "passage": "fill()\nFill the shape.",
                },
            ],
        },
        "understand": {
            "text": "Where is dedent defined?",
            "pictures": [
                {"title": "Attention", "caption": "Each square is a head.", "file": "understand/attention.svg"},
                {"title": "Missing", "caption": "Never drawn.", "file": "understand/missing.svg"},
                {"title": "Elsewhere", "caption": "Outside the run.", "file": "../secret.svg"},
            ],
            "changes": [
                {"from": "pretrain", "to": "continue", "layer": 0, "q": 0.12345, "stream CKA": 0.875},
            ],
        },
    }


def make_run(root: Path, summary: dict) -> Path:
    run = root / "run"
    for number, name in enumerate(STAGES):
        folder = run / f"{name}.run"
        folder.mkdir(parents=True)
        rows = [
            {
                "step": 10 * n,
                "tokens": 40960 * n,
                "loss": 0.6 if name == "dpo" else 2 + 5.5 / n + 0.1 * (n % 3) - 0.2 * number,
            }
            for n in range(1, 41)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "understand").mkdir()
    (run / "understand" / "attention.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>')
    (root / "secret.svg").write_text("<svg/>")
    (run / "summary.json").write_text(json.dumps(summary))
    return run


class Page(HTMLParser):
    """The tags, attributes, section ids and plain text of a page; fails on tags that do not close in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "path", "use", "rect", "ellipse"})

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    @property
    def sections(self) -> list[str]:
        return [a["id"] for tag, a in self.tags if tag == "section"]


ALL = ["stages", "skills", "samples", "preferences", "precision", "grounding", "understanding", "corpus", "use", "made"]


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return write_report(make_run(tmp_path_factory.mktemp("report"), realistic())).read_text(encoding="utf-8")


def test_whole_report_has_every_section_and_links_to_it(html) -> None:
    page = Page(html)
    assert page.sections == ALL
    assert [a["href"] for tag, a in page.tags if tag == "a"] == [f"#{id}" for id in ALL]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_figures_are_those_of_the_summary(html) -> None:
    text = re.sub(r"\s+", " ", Page(html).text)
    assert "983 thousand parameters" in text
    assert "13 min 23 s" in text
    assert "2.31 2.26 – 2.37" in text  # pretraining on general text, with its interval
    reading = realistic()["stages"][2]["skills"]["reading"]
    assert f"{100 * reading['score']:.0f} %" in text
    assert f"{100 * reading['low']:.0f} % – {100 * reading['high']:.0f} %" in text
    assert "+0.080" in text  # what INT4 costs
    assert "6.2 ×" in text  # how much smaller it is
    assert "cairn chat run/dpo" in text
    assert "cairn rag run/dpo --corpus run/corpus" in text
    assert "pretrain.optimizer.rate0.02" in text
    assert "0.9, 0.95" in text
    assert "0.97 ×" in text  # how fast INT8 is against float32
    assert "Records left out: 1 1 × exact duplicate" in text
    assert "chance <1 %" in text  # of recall: two passages in a thousand
    assert "pretrain → continue, layer 00.12350.875" in text


def test_file_stands_alone(html) -> None:
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form"}
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "xlink:href", "srcset", "action"):
                assert value.startswith(("#", "data:")), (tag, key, value)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_pictures_are_wellformed_and_follow_the_colour_scheme(html) -> None:
    drawn = re.findall(r"<svg xmlns:xlink.*?</svg>", html, re.DOTALL)
    assert len(drawn) == 2
    for svg in drawn:
        root = ET.fromstring(svg)
        assert root.get("viewBox")
        assert "var(--accent)" in svg
        assert "#fe01" not in svg  # every placeholder was exchanged
        assert "<metadata" not in svg  # it holds the date
        assert "<style" not in svg  # it would apply to the whole page
    bars, losses = drawn
    shown = ["".join(e.itertext()).strip() for e in ET.fromstring(bars).iter("{http://www.w3.org/2000/svg}text")]
    assert shown.count("chance") == shown.count("xz") == 2
    assert {"2.47", "1.75", "2.31", "2.05", "8.00"} <= set(shown)
    assert all(name in losses for name in STAGES)
    assert "no preference" in losses


def test_only_pictures_inside_the_run_are_embedded(html) -> None:
    images = [a for tag, a in Page(html).tags if tag == "img"]
    assert [i["alt"] for i in images] == ["Attention. Each square is a head."]
    assert b"viewBox" in base64.b64decode(images[0]["src"].partition("base64,")[2])


def test_same_figures_same_bytes(tmp_path, html) -> None:
    again = write_report(make_run(tmp_path, realistic())).read_bytes()
    assert again == html.encode()


@pytest.mark.parametrize(
    ("key", "section"),
    [("dpo", "preferences"), ("precisions", "precision"), ("retrieval", "grounding"), ("understand", "understanding"),
     ("corpus", "corpus")],
)  # fmt: skip
def test_missing_section_is_left_out(tmp_path, key, section) -> None:
    summary = realistic()
    del summary[key]
    page = Page(write_report(make_run(tmp_path, summary)).read_text())
    assert page.sections == [id for id in ALL if id != section]


def test_journey_stopped_half_way(tmp_path) -> None:
    summary = {key: value for key, value in realistic().items() if key in ("cairn", "corpus", "stages")}
    summary["stages"] = summary["stages"][:1]
    for key in ("skills", "mean", "samples", "domain"):
        del summary["stages"][0][key]
    page = Page(write_report(make_run(tmp_path, summary)).read_text())
    assert page.sections == ["stages", "corpus", "use", "made"]
    assert "cairn chat run/pretrain" in page.text


def test_nothing_but_a_name(tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "summary.json").write_text('{"cairn": "0.1.0"}')
    assert Page(write_report(run).read_text()).sections == ["made"]


def test_text_from_outside_cannot_become_markup(tmp_path) -> None:
    summary = realistic()
    for stage in summary["stages"]:
        stage["title"] = HOSTILE
        stage["samples"] = [
            {"skill": HOSTILE, "prompt": HOSTILE, "answer": HOSTILE, "output": HOSTILE, "correct": False}
        ]
        stage["skills"] = {HOSTILE: score(0.5, 0.25)}
    summary["retrieval"]["examples"] = [
        dict.fromkeys(("question", "answer", "without", "with", "passage", "title"), HOSTILE)
    ]
    summary["understand"] |= {
        "text": HOSTILE,
        "changes": [{"from": HOSTILE, "to": HOSTILE, "layer": HOSTILE, HOSTILE: 1.0}],
    }
    summary["understand"]["pictures"][0] |= {"title": HOSTILE, "caption": HOSTILE}
    summary["corpus"] |= {"source": HOSTILE, "counts": {HOSTILE: {"documents": 1, "bytes": 1}}}
    summary["corpus"]["quarantine"] = {"counts": {HOSTILE: 1}, "examples": [{"where": HOSTILE, "reason": HOSTILE}]}
    summary["recipe"] = {HOSTILE: {HOSTILE: HOSTILE}}
    summary["versions"] = {HOSTILE: HOSTILE}
    summary["precisions"][0] |= {"name": HOSTILE, "directory": HOSTILE}
    html = write_report(make_run(tmp_path, summary)).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.sections == ALL
    assert page.text.count("<script>alert('x')</script> $x_1$ & \"quoted\"") >= 20
    assert not re.search("[\0\x1b\u202e\ud83d]", html)


def test_errors_name_the_file(tmp_path) -> None:
    with pytest.raises(UserError, match=r"summary\.json does not exist"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="not the summary of a journey"):
        write_report(tmp_path)
