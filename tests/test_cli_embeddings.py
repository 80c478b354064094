"""`cairn embeddings ...`: from text to vectors, what they are asked, and mistakes in one line."""

import dataclasses
import itertools
import json
import os
import re
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from cairn.cli.main import COMMANDS, main, parser_for
from cairn.embeddings.formats import open_vectors, write_vectors
from cairn.embeddings.vectors import WordVectors

QUICK = ["--dim", "8", "--min-count", "1", "--epochs", "2"]


def run(capsys, *words):
    code = main(["embeddings", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = np.random.default_rng(0)
    sides = [["river", "water", "bank", "boat"], ["king", "queen", "crown", "throne"]]
    path.write_text("\n".join(" ".join(rng.choice(sides[i % 2], 6)) for i in range(200)))
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Vectors in which queen is king - man + woman."""
    rows = {
        "the": (0, 0, 1),
        "king": (1, 1, 0),
        "man": (1, 0, 0),
        "woman": (0.9, 0, 1),
        "queen": (0.9, 1, 1),
        "x": (0, -1, 0),
    }
    path = tmp_path_factory.mktemp("vectors") / "v"
    WordVectors(list(rows), np.array(list(rows.values())), np.arange(6, 0, -1)).save(path)
    return path


@pytest.mark.parametrize("kind", ["word2vec", "glove", "fasttext"])
def test_training_each_kind(capsys, tmp_path, text_file, kind):
    special = {
        "word2vec": ["--model", "cbow"],
        "glove": ["--x-max", "10", "--memory", "1"],
        "fasttext": ["--buckets", "100"],
    }
    out = tmp_path / "v"
    words = ["train", "--kind", kind, "--data", text_file, "--out", out, *QUICK, *special[kind]]
    code, printed, _ = run(capsys, *words, "--json", tmp_path / "r.json")
    assert code == 0
    assert f"8 words of 8 numbers, by {kind}" in printed
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["settings"]["dim"] == 8
    assert result["settings"]["epochs"] == 2
    record = json.loads((out / "cairn.json").read_text())
    assert (record["stage"], record["kind"], record["words"]) == ("embeddings", kind, 8)
    vectors = open_vectors(out)
    assert set(vectors.words) == {"river", "water", "bank", "boat", "king", "queen", "crown", "throne"}
    assert vectors.has("riverboat") == (kind == "fasttext")
    assert run(capsys, *words)[2].startswith(f"cairn: {out} exists already")


def test_several_sources_are_one_text(capsys, tmp_path, text_file):
    other = tmp_path / "more"
    other.mkdir()
    (other / "a.md").write_text("A Cairn! Marks... the Trail.\n\nA cairn.")
    words = ["train", "--data", text_file, other, "--out", tmp_path / "v", *QUICK, "--text", "prose"]
    assert run(capsys, *words)[0] == 0
    vectors = open_vectors(tmp_path / "v")
    assert {"cairn", "trail", "river"} <= set(vectors.words)
    assert vectors.counts is not None
    assert vectors.counts[vectors.index["cairn"]] == 2


def test_a_recipe_and_options_over_it(capsys, tmp_path, text_file):
    (tmp_path / "r.toml").write_text("dim = 4\nepochs = 1\nmin_count = 1\n")
    words = ["train", "--data", text_file, "--out", tmp_path / "v", "--recipe", tmp_path / "r.toml", "--dim", "6"]
    assert run(capsys, *words)[0] == 0
    assert open_vectors(tmp_path / "v").dim == 6


def test_neighbours(capsys, tmp_path, directory):
    code, printed, _ = run(
        capsys, "neighbours", directory, "king", "the", "--count", "2", "--json", tmp_path / "n.json"
    )
    assert code == 0
    found = json.loads((tmp_path / "n.json").read_text())
    assert [n["word"] for n in found["king"]] == ["queen", "man"]
    assert found["the"][0]["word"] == "woman"
    assert f"{found['king'][0]['similarity']:.3f}" in printed


@pytest.mark.parametrize("method", ["add", "mul"])
def test_analogy(capsys, tmp_path, directory, method):
    words = ["analogy", directory, "man", "king", "woman", "--method", method, "--json", tmp_path / "a.json"]
    code, printed, _ = run(capsys, *words)
    assert code == 0
    assert "man is to king as woman is to" in printed
    answers = [answer["word"] for answer in json.loads((tmp_path / "a.json").read_text())["answers"]]
    assert answers[0] == "queen"
    assert not {"man", "king", "woman"} & set(answers)


def test_evaluate(capsys, tmp_path, directory):
    (tmp_path / "pairs.tsv").write_text(
        "king\tqueen\t9\nMan\twoman\t7\nthe\tx\t1\nking\tx\t0\nking\tnowhere\t5\nodd line\n"
    )
    (tmp_path / "none.tsv").write_text("no\tsuch\t1\n")
    (tmp_path / "q.txt").write_text(": royal\nman king woman queen\n: gram1 other\nman king nowhere queen\n")
    words = ["evaluate", directory, "--pairs", tmp_path / "pairs.tsv", tmp_path / "none.tsv"]
    code, printed, _ = run(capsys, *words, "--analogies", tmp_path / "q.txt", "--json", tmp_path / "e.json")
    assert code == 0
    found = json.loads((tmp_path / "e.json").read_text())
    assert (found["similarity"][0]["known"], found["similarity"][0]["pairs"]) == (4, 5)
    assert found["similarity"][1]["spearman"] is None
    assert "4 of 5" in printed
    assert "100.00%" in printed
    assert "Left out: 1 x not two words and a number" in printed
    assert found["analogies"][0] == {
        "section": "royal", "asked": 1, "score": 1.0, "chance": pytest.approx(1 / 3), "n": 1, "low": 0.2065, "high": 1.0
    }  # fmt: skip
    words = [
        "evaluate",
        directory,
        "--pairs",
        tmp_path / "pairs.tsv",
        "--case-sensitive",
        "--json",
        tmp_path / "e.json",
    ]
    assert run(capsys, *words)[0] == 0
    assert json.loads((tmp_path / "e.json").read_text())["similarity"][0]["known"] == 3


def test_convert_there_and_back(capsys, tmp_path, directory):
    steps = [directory, "a.bin", "b.vec", "c.glove.gz", "d"]
    for source, out in itertools.pairwise(steps):
        code, printed, _ = run(capsys, "convert", tmp_path / source, tmp_path / out)
        assert code == 0
        assert "6 words of 3 numbers" in printed
    ours, back = open_vectors(directory), open_vectors(tmp_path / "d")
    assert back.words == ours.words
    assert back.matrix_VD.tobytes() == ours.matrix_VD.tobytes()
    assert run(capsys, "convert", directory, tmp_path / "few", "--limit", "2")[0] == 0
    assert open_vectors(tmp_path / "few").words == ["the", "king"]
    assert run(capsys, "convert", tmp_path / "b.vec", tmp_path / "e.dat", "--from", "text", "--to", "binary")[0] == 0
    assert open_vectors(tmp_path / "e.dat").words == ours.words


def test_convert_says_what_it_left_out(capsys, tmp_path):
    (tmp_path / "bad.vec").write_text("3 1\na 1\na 2\nb x\n")
    code, _, error = run(capsys, "convert", tmp_path / "bad.vec", tmp_path / "out")
    assert code == 2
    assert "bad.vec, line 4" in error
    assert not (tmp_path / "out").exists()
    words = ["convert", tmp_path / "bad.vec", tmp_path / "out", "--skip-bad", "--json", tmp_path / "c.json"]
    code, printed, _ = run(capsys, *words)
    assert code == 0
    assert "line 3: a word that was there before" in printed
    assert sum(json.loads((tmp_path / "c.json").read_text())["quarantine"]["counts"].values()) == 2


def test_picture(capsys, tmp_path, directory):
    words = ["picture", directory, "--out", tmp_path / "p.svg", "--words", "king", "queen", "man", "woman"]
    code, printed, _ = run(capsys, *words, "--export", tmp_path / "projector", "--method", "tsne")
    assert code == 0
    assert ">queen<" in (tmp_path / "p.svg").read_text()
    assert printed.count("4 words") == 3
    assert len((tmp_path / "projector" / "vectors.tsv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["neighbours", "nowhere", "king"], "nowhere does not exist"),
        (["neighbours", "V", "kingg"], "did you mean 'king'"),
        (["neighbours", "V", "king", "--count", "0"], "--count must be at least 1"),
        (["analogy", "V", "man", "king", "womann"], "did you mean 'woman'"),
        (["evaluate", "V"], "nothing to evaluate on"),
        (["evaluate", "V", "--pairs", "nowhere.tsv"], "nowhere.tsv does not exist"),
        (["evaluate", "V", "--pairs", "V"], "is a folder"),
        (["evaluate", "V", "--analogies", "nowhere.txt", "--restrict", "0"], "--restrict"),
        (["convert", "nowhere", "x.bin"], "nowhere does not exist"),
        (["convert", "V", "x.dat"], "in which form"),
        (["convert", "V", "x.bin", "--limit", "-1"], "--limit"),
        (["convert", "V", "V"], "exists already"),
        (["picture", "V", "--out", "x.jpg"], ".svg or .png"),
        (["picture", "V", "--out", "x.svg", "--words", "king"], "4 to 2,000 words, got 1"),
        (["train", "--data", "nowhere", "--out", "x"], "nowhere does not exist"),
        (["train", "--data", "V", "--out", "x", "--x-max", "3"], "--x-max is a setting of glove, not of word2vec"),
        (["train", "--kind", "glove", "--data", "V", "--out", "x", "--min-n", "3"], "--min-n is a setting of fasttext"),
        (["train", "--data", "V", "--out", "x", "--dim", "0"], "dim must be at least 1"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(capsys, tmp_path, monkeypatch, directory, words, message):
    monkeypatch.chdir(tmp_path)
    code, printed, error = run(capsys, *(directory if word == "V" else word for word in words))
    assert code == 2
    assert printed == ""
    assert len(error.strip().splitlines()) == 1
    assert message in error
    assert not list(tmp_path.iterdir())


def test_files_of_other_programs_can_be_asked_directly(capsys, tmp_path, directory):
    write_vectors(open_vectors(directory), tmp_path / "v.bin")
    assert "queen" in run(capsys, "neighbours", tmp_path / "v.bin", "king")[1]


# --- the page


PAGE = Path(__file__).parents[1] / "docs" / "embeddings.md"


def test_the_page_tells_the_settings():
    from cairn.cli.embeddings_train import all_settings

    wanted = [
        f"| `--{field.name.replace('_', '-')}` | {field.default} | {field.metadata['help']} |"
        for field in dataclasses.fields(all_settings())
    ]
    assert "\n".join(wanted) in PAGE.read_text(encoding="utf-8")


def test_the_commands_of_the_page_are_understood():
    lines = re.findall(r"^(?:\$ )?cairn (embeddings \w+) (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {command for command, _ in lines} == {command for command in COMMANDS if command.startswith("embeddings ")}
    for command, words in lines:
        parser_for(command).parse_intermixed_args(shlex.split(words))


def test_a_pipe_is_text_to_train_on_and_no_file_of_vectors(capsys, tmp_path, text_file):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "pipe or a device" in run(capsys, "neighbours", pipe, "king")[2]
    writer = threading.Thread(target=lambda: pipe.write_bytes(text_file.read_bytes()), daemon=True)
    writer.start()
    assert run(capsys, "train", "--data", pipe, "--out", tmp_path / "v", *QUICK)[0] == 0
    assert len(open_vectors(tmp_path / "v")) == 8


def test_out_is_tried_before_the_training(capsys, tmp_path, text_file):
    (tmp_path / "file").touch()
    code, _, error = run(capsys, "train", "--data", text_file, "--out", tmp_path / "file" / "v", *QUICK)
    assert code == 2
    assert "words" not in error


def test_hostile_directories_are_one_line(capsys, tmp_path, directory):
    for name, words in (("half", '["\\ud800", "b", "c", "d", "e", "f"]'), ("none", "[]")):
        shutil.copytree(directory, tmp_path / name)
        (tmp_path / name / "words.json").write_text(words)
        code, _, error = run(capsys, "neighbours", tmp_path / name, "king")
        assert code == 2
        assert len(error.strip().splitlines()) == 1
