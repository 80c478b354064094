"""`cairn foundations` and `cairn foundations demo`, the chapters behind them, and the pictures they write."""

import json
from collections import Counter

import pytest

from cairn.cli.main import main
from cairn.foundations import chapters
from cairn.foundations.demo import Demo
from cairn.foundations.picture import new_figure, save, save_animation


def run(capsys, *words):
    code = main(["foundations", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_demonstration_is_listed_once(capsys, tmp_path):
    names = Counter(name for chapter in chapters.CHAPTERS for name in chapters.demonstrations(chapter))
    assert set(names.values()) == {1}  # `find` knows them by name alone
    assert "all" not in names
    code, out, _ = run(capsys, "--json", tmp_path / "list.json")
    assert code == 0
    listed = json.loads((tmp_path / "list.json").read_text())
    assert list(listed) == list(chapters.CHAPTERS)
    for name in names:
        assert f"  {name} " in out
        assert chapters.find(name).title in out
        assert sum(name in demos for demos in listed.values()) == 1


def test_a_demonstration_leaves_its_picture_and_what_it_found(capsys, tmp_path):
    out_dir = tmp_path / "new" / "pictures"
    code, out, _ = run(capsys, "demo", "entropy", "scalar-graph", "--out", out_dir, "--json", tmp_path / "found.json")
    assert code == 0
    assert sorted(path.name for path in out_dir.iterdir()) == ["entropy.svg", "network.svg", "neuron.svg"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["entropy", "scalar-graph"]
    assert all(line in out for lines in found.values() for line in lines)


def test_all_leaves_those_of_minutes_out(capsys, tmp_path, monkeypatch):
    drawn = []
    demos = {
        title: Demo(title, lambda out, title=title: drawn.append(title) or [title])
        for title in ("one", "two (minutes)")
    }
    monkeypatch.setattr("cairn.foundations.chapters.CHAPTERS", {"scalar": "numbers"})
    monkeypatch.setattr("cairn.foundations.scalar.demos.DEMOS", demos)
    for names in (["all"], ["all", "one"]):
        drawn.clear()
        assert run(capsys, "demo", *names, "--out", tmp_path)[0] == 0
        assert drawn == ["one"]
    assert run(capsys, "demo", "two (minutes)", "--out", tmp_path)[0] == 0  # asked for by name it is made
    assert drawn == ["one", "two (minutes)"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["demo", "entropie"],
            "there is no demonstration 'entropie': did you mean 'entropy'? `cairn foundations` lists",
        ),
        (["demo", "x"], "there is no demonstration 'x': `cairn foundations` lists all"),
        (["demo", "entropy", "--out", "FILE"], "File exists"),
    ],
)
def test_mistakes_are_said_in_one_line(capsys, tmp_path, words, said):
    file = tmp_path / "file"
    file.write_text("")
    code, _, err = run(capsys, *(file if word == "FILE" else word for word in words))
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_refusal_names_the_demonstration(capsys, tmp_path, monkeypatch):
    def refuse(out):
        raise ValueError("x is empty: give some")

    monkeypatch.setattr("cairn.foundations.scalar.demos.DEMOS", {"scalar-graph": Demo("a graph", refuse)})
    code, _, err = run(capsys, "demo", "scalar-graph", "--out", tmp_path)
    assert (code, err) == (2, "cairn: scalar-graph: x is empty: give some\n")


def test_chapters_that_are_none():
    with pytest.raises(ValueError, match="there is no chapter 'x'; the chapters are scalar, descent"):
        chapters.demonstrations("x")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".gif"])
def test_pictures_are_the_same_bytes_each_time(suffix, tmp_path):
    def written(name):
        figure, (axes,) = new_figure()
        (line,) = axes.plot([1, 2, 4], label="a line")
        axes.legend()
        path = tmp_path / name / f"picture{suffix}"
        if suffix == ".gif":
            return save_animation(figure, lambda i: line.set_ydata([1, 2, i]), 3, path).read_bytes()
        return save(figure, path).read_bytes()

    assert written("first") == written("second")


def test_pictures_that_cannot_be(tmp_path):
    figure, _ = new_figure()
    for name in ("picture.jpg", "picture"):
        with pytest.raises(ValueError, match=f"{name} is no name of a picture here: end it in .svg or .png"):
            save(figure, tmp_path / name)
    for name, frames in (("film.png", 2), ("film.gif", 0)):
        with pytest.raises(ValueError, match="give at least 1, and a name that ends in"):
            save_animation(figure, lambda i: None, frames, tmp_path / name)
    assert not list(tmp_path.iterdir())
