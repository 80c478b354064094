"""The effect of the vocabulary's size: the same compute for every size, kept results, intervals over models."""

import json
import shutil

import pytest

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.evaluation import bits_per_byte
from cairn.journey import vocabulary_size
from cairn.journey.vocabulary_size import VocabularyConfig, shape_of, steps_for, vocabulary_experiment
from cairn.models import Transformer, load

TINY = VocabularyConfig(sizes=(300, 264), flops=1e9, seeds=2, rows=2, context=32, device="cpu")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("vocabulary") / "out"
    return out, vocabulary_experiment(TINY, corpus.path, out)


def test_every_size_has_the_same_compute(experiment):
    _, result = experiment
    small, large = result["rows"]
    assert (small["size"], large["size"]) == (264, 300)
    for row in result["rows"]:
        # 6 FLOPs for each weight that multiplies, the tied output layer among them; attention reads half the row on average.
        shape = shape_of(TINY, row["ids"])
        attention = shape.dim * 2 * shape.heads * shape.head_dim + shape.dim * 2 * shape.kv_heads * shape.head_dim
        matrices = shape.layers * (attention + 3 * shape.dim * shape.ffn_dim) + row["ids"] * shape.dim
        flops = 6 * matrices + 12 * shape.layers * shape.heads * shape.head_dim * TINY.context / 2
        assert row["flops_per_token"] == pytest.approx(flops)
        assert row["flops"] == pytest.approx(flops * row["tokens"])
        assert abs(row["flops"] - TINY.flops) <= flops * TINY.rows * TINY.context / 2  # within half a step
        assert row["tokens"] == row["steps"] * TINY.rows * TINY.context
    assert small["tokens"] > large["tokens"]
    assert small["parameters"] < large["parameters"]
    assert large["text_bytes"] / large["tokens"] > small["text_bytes"] / small["tokens"]


def test_what_is_reported_is_what_the_models_do(experiment, corpus):
    out, result = experiment
    row = result["rows"][0]
    model, tokenizer = load(out / "model-264-seed-2")
    again = bits_per_byte(model, tokenizer, corpus.texts("general-valid"), context=TINY.context)
    assert again.value == pytest.approx(row["by_seed"][1], rel=1e-5)
    first, second = row["by_seed"]
    assert first != second
    assert row["bits_per_byte"] == pytest.approx((first + second) / 2)
    # Two models: mean -+ 12.706 s / sqrt(2), where s = |difference| / sqrt(2).
    assert row["high"] - row["low"] == pytest.approx(12.706 * abs(first - second))
    assert row["interval"] == "models"
    assert row["bits_per_byte"] < 8  # better than chance


def test_finished_models_are_kept_and_missing_ones_made_again_the_same(experiment, corpus, tmp_path, monkeypatch):
    out, result = experiment
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "model-300-seed-1")
    titles = []
    train = vocabulary_size.train
    monkeypatch.setattr(
        vocabulary_size, "train", lambda *args, title, **rest: titles.append(title) or train(*args, title=title, **rest)
    )
    assert vocabulary_experiment(TINY, corpus.path, tmp_path / "out") == result
    assert titles == ["300 ids, seed 1"]
    for name in ("vocabulary.json", "vocabulary.svg"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


def test_the_plot_names_the_sizes(experiment):
    out, _ = experiment
    drawing = (out / "vocabulary.svg").read_text()
    assert all(f">{text}<" in drawing for text in ("264", "300", "bits per byte of unseen text", "tokens seen"))
    assert (out / "vocabulary.png").read_bytes().startswith(b"\x89PNG")


def test_too_little_compute_is_refused_before_any_work(corpus, tmp_path):
    config = VocabularyConfig(sizes=(264, 8192), flops=1e9)
    with pytest.raises(UserError, match=r"only \d+ steps with 8192 ids; give at least"):
        vocabulary_experiment(config, corpus.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model = Transformer(shape_of(config, 8192))
    least = vocabulary_size.FEWEST_STEPS * config.rows * config.context * model.flops_per_token(config.context)
    assert steps_for(VocabularyConfig(flops=least), model) == vocabulary_size.FEWEST_STEPS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "100"], "264"),
        (["--sizes"], "sizes"),
        (["--sizes", "512", "512"], "twice"),
        (["--flops", "0"], "flops"),
    ],
)
def test_mistakes_are_one_line(capsys, corpus, tmp_path, words, message):
    code = main(["vocabulary", "--corpus", str(corpus.path), "--out", str(tmp_path / "out"), *words])
    err = capsys.readouterr().err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_the_command_prints_the_table(capsys, corpus, tmp_path):
    sizes = ["--sizes", "264", "--flops", "1e9", "--rows", "2", "--context", "32", "--threads", "1"]
    where = ["--corpus", corpus.path, "--out", tmp_path / "out", "--json", tmp_path / "out.json"]
    assert main(["vocabulary", *map(str, where), *sizes]) == 0
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    printed = capsys.readouterr().out
    assert f"264 (lowest) │         {row['bits_per_byte']:.3f}" in printed
    assert row["interval"] == "documents"
    assert row["low"] < row["bits_per_byte"] < row["high"]
