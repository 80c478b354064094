"""The recipe-driven corpus: same bytes whatever happens on the way, and clear words for what cannot work."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from cairn.cli.corpus_build import EXAMPLE
from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.corpus import TokenShard
from cairn.corpus.documents import Document
from cairn.corpus.filters import STEPS
from cairn.corpus.pipeline import build, job, phases, read_recipe
from cairn.corpus.pipeline.recipe import SourceConfig, recipe_from, settings
from cairn.tokenizers import Tokenizer, train_tokenizer

WORDS = "the cairn marks a trail over stones and every walker adds one to it with care while clouds pass by".split()


def sentence(draw):
    return " ".join(draw.choices(WORDS, k=draw.randint(8, 20))).capitalize() + "."


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Three files: prose with exact and near duplicates, a repeated footer, and records that cannot be read."""
    folder = tmp_path_factory.mktemp("texts")
    draw = random.Random(1)
    pages = [" ".join(sentence(draw) for _ in range(12)) for _ in range(150)]
    pages += pages[:10]  # exact
    pages += [page.replace("walker", "wanderer", 1) for page in pages[10:20]]  # near
    rows = [json.dumps({"text": f"{page}\nAll rights reserved by the keepers of this trail."}) for page in pages]
    (folder / "a.jsonl").write_text("\n".join([*rows[:80], "{broken", *rows[80:]]) + "\n", encoding="utf-8")
    (folder / "b.txt").write_text("\n\n".join(pages[:3]) + " Write to walker@stones.org.\n", encoding="utf-8")
    (folder / "c.txt").write_bytes(b"\xff\xfe broken")
    return folder


def values(texts, **changes):
    return {
        "vocab_size": 400,
        "valid_share": 0.1,
        "part_bytes": 40_000,
        "sources": [{"path": str(texts), "licence": "CC0"}],
        "steps": [{"kind": "normalize"}, {"kind": "gopher-quality"}, {"kind": "pii"}],
        "dedup": {"near": True, "minhash": {"hash": "xxhash"}},
        "lines": {"documents": 20},
    } | changes


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "corpus"
    return out, build(recipe_from(values(texts)), out)


def test_the_corpus_holds_what_it_should(built):
    out, info = built
    train = [d for p in sorted((out / "documents/train").iterdir()) for d in phases.read_documents(p)]
    valid = [d for p in sorted((out / "documents/valid").iterdir()) for d in phases.read_documents(p)]
    assert info["parts"]["train"]["documents"] == len(train)
    assert info["parts"]["valid"]["documents"] == len(valid) > 0
    assert not {d.id for d in train} & {d.id for d in valid}
    everything = [d.text for d in train + valid]
    assert len(set(everything)) == len(everything)
    # 150 pages and b.txt came, ten equal ones and most of the nearly equal ones went.
    assert 10 <= info["duplicates"]["removed"] <= 20
    assert len(everything) == info["steps"][-1]["documents"] - info["duplicates"]["removed"] - info["emptied"]
    footers = sum("All rights reserved" in text for text in everything)
    assert footers == 1  # the first occurrence stays
    assert "walker@stones.org" not in "".join(everything)
    assert info["tally"]["changed"]["pii/email"] == 1
    assert sorted(info["quarantine"]["counts"].values()) == [1, 1]
    assert all(d.meta["licence"] == "CC0" for d in train)


def test_token_shards_hold_the_documents(built):
    out, info = built
    tokenizer = Tokenizer.load(out / "tokenizer")
    assert tokenizer.vocab_size == 400
    total = 0
    for path in sorted((out / "tokens").glob("train-*.json")):
        shard = TokenShard(path.with_suffix(""))
        assert shard.is_whole()
        documents = list(phases.read_documents(out / "documents/train" / f"{path.stem[-5:]}.jsonl.zst"))
        assert len(shard.ends) == len(documents)
        for number, document in enumerate(documents):
            ids = shard.document(number).tolist()
            assert ids[0] == tokenizer.bos_id
            assert tokenizer.decode(ids[1:]) == document.text
        total += len(shard)
    assert total == info["parts"]["train"]["tokens"]


def test_the_card_shows_texts_as_text(built, texts, tmp_path):
    out, _ = built
    page = (out / "card.html").read_text(encoding="utf-8")
    assert "gopher-quality" in page
    assert "CC0" in page
    hostile = tmp_path / "texts"
    hostile.mkdir()
    (hostile / "x.txt").write_text("<script>alert(1)</script> " + "stone & sand " * 30, encoding="utf-8")
    build(recipe_from({"sources": [{"path": str(hostile)}], "valid_share": 0.0}), tmp_path / "out")
    page = (tmp_path / "out/card.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_two_workers_write_the_same_bytes(built, texts, tmp_path):
    out, _ = built
    build(recipe_from(values(texts)), tmp_path / "corpus", workers=2)
    assert files_of(tmp_path / "corpus") == files_of(out)


def test_killed_at_random_moments_the_bytes_are_the_same(built, texts, tmp_path):
    """kill -9 of the whole process group, also of its workers; then once more to the end."""
    out, _ = built
    recipe = tmp_path / "corpus.toml"
    recipe.write_text(toml(values(texts)), encoding="utf-8")
    command = [sys.executable, "-m", "cairn.cli.main", "corpus", "build", str(recipe), "--workers", "2"]
    command += ["--out", str(tmp_path / "corpus")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    draw = random.Random(3)
    killed = 0
    for attempt in range(3):
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Not before it has begun to work, and each time after more of it is done.
        wanted = (0, 4, 9)[attempt]
        while process.poll() is None and len(list((tmp_path / "corpus/work/done").glob("*"))) <= wanted:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.5))
        killed += process.poll() is None
        # The last time only the parent: its workers must notice by themselves.
        (os.killpg if attempt < 2 else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    assert killed >= 2
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert files_of(tmp_path / "corpus") == files_of(out)


def toml(recipe):
    lines = [f"{key} = {json.dumps(value)}" for key, value in recipe.items() if not isinstance(value, (dict, list))]
    for key in ("sources", "steps"):
        for table in recipe[key]:
            lines += [f"[[{key}]]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    lines += ["[dedup]", "near = true", "[dedup.minhash]", 'hash = "xxhash"', "[lines]", "documents = 20"]
    return "\n".join(lines) + "\n"


def test_toml_is_read_as_it_is_written(texts, tmp_path):
    (tmp_path / "corpus.toml").write_text(toml(values(texts)), encoding="utf-8")
    assert read_recipe(tmp_path / "corpus.toml") == recipe_from(values(texts))


def test_printed_settings_are_the_defaults(tmp_path):
    benchmark = tmp_path / "items.txt"
    benchmark.write_text("an item", encoding="utf-8")
    printed = tomllib.loads(settings())
    sources = printed.pop("sources")
    assert from_dict(SourceConfig, sources[0] | {"path": "x"}) == SourceConfig(path="x")
    for step in printed["steps"]:
        if step["kind"] == "decontaminate":
            step["benchmarks"] = [str(benchmark)]  # it has no default
    recipe = recipe_from(printed | {"sources": [{"path": "x"}]})
    defaults = [step() for step in STEPS.values()]
    assert [type(step) for step in recipe.steps] == [type(step) for step in defaults]
    changed = [(a, b) for a, b in zip(recipe.steps, defaults) if a != b]
    assert [a.name for a, _ in changed] == ["decontaminate"]
    assert recipe == recipe_from({"sources": [{"path": "x"}], "steps": printed["steps"], "dedup": {}, "lines": {}})


def test_the_example_is_a_recipe(tmp_path):
    (tmp_path / "corpus.toml").write_text(EXAMPLE, encoding="utf-8")
    assert next(step.name for step in read_recipe(tmp_path / "corpus.toml").steps) == "normalize"


def test_a_finished_corpus_is_not_built_again(built, texts):
    out, info = built
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert build(recipe_from(values(texts)), out) == info
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [{"kind": "gopher"}]}, "gopher-quality"),
        ({"steps": [{"kind": "gopher-quality", "min_word": 3}]}, "did you mean 'min_words'"),
        ({"sources": []}, "no \\[\\[sources\\]\\]"),
        ({"sources": [{"path": "x", "hub": "y"}]}, "one of path, corpus, url and hub"),
        ({"sources": [{"corpus": "nothing"}]}, "not known"),
        ({"tokenizer": "x"}, "not both"),
        ({"valid_share": 1.5}, "between 0 and 1"),
        ({"seed": 1}, "unknown setting 'seed'"),
        ({"source_names": ["a"]}, "unknown setting 'source_names'"),
        ({"steps": [{"kind": ["a"]}]}, "known: normalize"),
        ({"steps": [{"kind": "decontaminate"}]}, "benchmarks is empty"),
        ({"vocab_size": 100}, "at least 264"),
        ({"sources": [{"path": "x", "name": "a/b"}]}, "may hold no /"),
        ({"sources": [{"path": "x", "revision": "1"}]}, "revision belongs to a source with hub"),
        ({"dedup": {"exact": "fuzzy"}}, "raw, normalised"),
    ],
)
def test_recipes_that_cannot_work(texts, changes, message):
    with pytest.raises(UserError, match=message):
        recipe_from(values(texts, **changes))


def test_nothing_left_is_said_with_the_reasons(texts, tmp_path):
    recipe = recipe_from(values(texts, steps=[{"kind": "gopher-quality", "min_words": 50_000}]))
    with pytest.raises(UserError, match=r"no document is left: .*gopher-quality/too-few-words"):
        build(recipe, tmp_path / "corpus")


def test_other_folders_are_not_touched(built, texts, tmp_path):
    out, _ = built
    with pytest.raises(UserError, match="another recipe"):
        build(recipe_from(values(texts, vocab_size=500)), out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UserError, match="no corpus build"):
        build(recipe_from(values(texts)), tmp_path / "mine")
    (tmp_path / "project/work").mkdir(parents=True)
    (tmp_path / "project/work/thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(UserError, match="no corpus build"):
        build(recipe_from(values(texts)), tmp_path / "project")
    assert (tmp_path / "project/work/thesis.txt").exists()
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine/letter.txt"]
    with pytest.raises(UserError, match="does not exist"):
        build(recipe_from(values(texts, sources=[{"path": str(tmp_path / "gone")}])), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="lie in one another"):
        build(recipe_from(values(texts)), texts / "out")


def stopped(recipe, out, phase):
    """A build that is interrupted before this phase."""
    last = next(p for p in job.PHASES if p.name == phase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "PHASES", job.PHASES[: job.PHASES.index(last)])
        patch.setattr(job, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(recipe, out)


def test_input_that_changes_while_a_build_is_stopped_is_noticed(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"Text {name} " * 50, encoding="utf-8")
    recipe = recipe_from({"sources": [{"path": str(folder)}], "valid_share": 0.0})
    stopped(recipe, tmp_path / "out", "clean")
    (folder / "b.txt").rename(tmp_path / "b.txt")
    with pytest.raises(UserError, match=r"b\.txt is gone or has changed"):
        build(recipe, tmp_path / "out")
    (tmp_path / "b.txt").rename(folder / "b.txt")
    assert build(recipe, tmp_path / "out")["parts"]["train"]["documents"] == 2
    (folder / "b.txt").write_text("something else", encoding="utf-8")
    with pytest.raises(UserError, match="have changed since it was built"):
        build(recipe, tmp_path / "out")


def test_another_tokenizer_in_the_same_place_is_noticed(tmp_path, texts, tokenizer):
    tokenizer.save(tmp_path / "words")
    recipe = recipe_from(
        {"sources": [{"path": str(texts / "a.jsonl")}], "tokenizer": str(tmp_path / "words"), "part_bytes": 40_000}
    )
    stopped(recipe, tmp_path / "out", "encode")
    train_tokenizer(["another text"], 300).save(tmp_path / "words")
    with pytest.raises(UserError, match="another recipe or tokenizer"):
        build(recipe, tmp_path / "out")


def test_hub_documents_keep_their_ids_and_what_is_known_of_them(tmp_path, monkeypatch):
    rows = [
        Document(f"stones/train:{i}", f"Row {i} of the data set.", {"url": f"https://x.org/{i}"}) for i in range(40)
    ]
    monkeypatch.setattr(phases, "read_hub", lambda *_, **__: iter(rows))
    found = {}
    for part_bytes in (1000, 100_000):
        recipe = recipe_from({"sources": [{"hub": "some/stones"}], "valid_share": 0.2, "part_bytes": part_bytes})
        out = tmp_path / str(part_bytes)
        build(recipe, out)
        found[part_bytes] = {
            (side, d.id, d.meta["url"])
            for side in ("train", "valid")
            for p in (out / "documents" / side).iterdir()
            for d in phases.read_documents(p)
        }
    assert found[1000] == found[100_000]
    assert len(found[1000]) == 40
    assert any(side == "valid" for side, _, _ in found[1000])


def test_file_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/stone\xff.txt", "w", encoding="utf-8") as file:
        file.write("A text in a file with an odd name. " * 9)
    info = build(recipe_from({"sources": [{"path": str(folder)}], "valid_share": 0.0}), tmp_path / "out")
    assert info["parts"]["train"]["documents"] == 1
