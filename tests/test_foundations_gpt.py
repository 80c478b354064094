"""The GPT in NumPy: text, counting, model, training, sampling, files."""

import importlib
import json
import tracemalloc
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn.foundations import gpt
from cairn.foundations.gpt import GPT, Alphabet, GPTConfig, NGram, SampleConfig, TrainConfig
from cairn.foundations.gpt.__main__ import main, parser, run
from cairn.foundations.tensor import Tensor

SHARED = Path(__file__).parents[2] / "shared" / "data" / "text"
TINY = GPTConfig(symbols=5, context=8, width=16, blocks=2, heads=4, dtype="float64")


# --- text and counting


def test_a_list_of_names_loses_none_and_is_drawn_by_seed(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("ada\nbob \n\n" + "\n".join(f"c{'d' * n}" for n in range(40)), encoding="utf-8")
    corpora = [gpt.read_names(path, seed) for seed in (0, 0, 1)]
    texts = [corpus.alphabet.decode([*corpus.training, *corpus.held_out]) for corpus in corpora]
    assert texts[0] == texts[1] != texts[2]
    assert sorted(texts[0].split()) == sorted(texts[2].split()) == sorted(path.read_text(encoding="utf-8").split())
    assert corpora[0].alphabet.decode(corpora[0].held_out).startswith("\n")
    assert texts[0].startswith("\n")
    assert texts[0].endswith("\n")


def test_a_story_keeps_its_order(tmp_path):
    path = tmp_path / "story.txt"
    text = "".join(f"Line {n}: naïve 🪨\n" for n in range(30))
    path.write_text(text, encoding="utf-8")
    corpus = gpt.read_text(path)
    assert corpus.alphabet.decode([*corpus.training, *corpus.held_out]) == text
    assert 0.05 < len(corpus.held_out) / len(text) < 0.15
    path.write_text("x" * 500 + "\n", encoding="utf-8")  # no line ends near the cut
    assert len(gpt.read_text(path).held_out) == 50


def test_targets_are_the_characters_that_follow():
    text = np.arange(100)
    ids, wanted = gpt.windows(text, 20, 7, np.random.default_rng(0))
    assert ids.shape == wanted.shape == (20, 7)
    assert np.array_equal(ids + 1, wanted)
    drawn, _ = gpt.windows(text[:9], 200, 7, np.random.default_rng(0))
    assert set(drawn[:, 0]) == {0, 1}  # each place from which a whole piece can be had


def test_counts_by_hand():
    ids = np.array([0, 1, 0, 1, 1, 2])
    bigram = NGram(ids, 3, 2, smoothing=0.5)
    np.testing.assert_allclose(table(bigram)[1], np.array([1.5, 1.5, 1.5]) / 4.5)
    np.testing.assert_allclose(table(bigram)[0], np.array([0.5, 2.5, 0.5]) / 3.5)
    np.testing.assert_allclose(table(bigram)[2], np.array([1, 1, 1]) / 3)  # never seen before anything
    np.testing.assert_allclose(bigram.losses(np.array([2, 0, 1])), -np.log([1 / 3, 2.5 / 3.5]))
    trigram = NGram(ids, 3, 3, smoothing=1.0)  # before the text stands symbol 0
    np.testing.assert_allclose(table(trigram)[0 * 3 + 0], np.array([1, 2, 1]) / 4)
    np.testing.assert_allclose(table(trigram)[1 * 3 + 1], np.array([1, 1, 2]) / 4)
    for order in (1, 2, 3):
        np.testing.assert_allclose(table(NGram(ids, 3, order)).sum(axis=1), 1)


def table(model):
    """(C, V): the probability of each character after each context."""
    return model.p(np.arange(model.symbols ** (model.order - 1))[:, None], np.arange(model.symbols))


def test_thousands_of_characters_are_counted_in_little_memory():
    """The triples of a text in Chinese: as a table they would be 27 billion."""
    ids = np.random.default_rng(0).integers(3000, size=20_000)
    tracemalloc.start()
    losses = NGram(ids, 3000, 3).losses(ids[:1000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(losses) == 999
    assert np.isfinite(losses).all()
    assert peak < 10_000_000


@pytest.mark.parametrize("length", [192, 320, 760, 6400])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(length):
    rng = np.random.default_rng(0)
    inside = [abs((loss := gpt.mean_loss(rng.exponential(2.0, length))).mean - 2.0) < loss.half for _ in range(1000)]
    assert 0.93 < np.mean(inside) < 0.97


# --- the model


def test_it_begins_by_guessing_evenly():
    model = GPT(GPTConfig(symbols=27, context=16, width=64, blocks=4, heads=4))
    ids = np.random.default_rng(0).integers(27, size=(8, 17))
    logits = model(ids[:, :-1]).data.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    loss = -np.log(np.take_along_axis(p, ids[:, 1:, None], axis=-1)).mean()
    assert loss == pytest.approx(np.log(27), abs=0.05)


def test_weights_begin_as_those_of_gpt2():
    model = GPT(GPTConfig(symbols=99, context=50, width=96, blocks=8, heads=4))
    for name, weight in model.weights.items():
        if name.endswith("bias"):
            assert (weight.data == 0).all()
        elif "ln_" in name:
            assert (weight.data == 1).all()
        else:
            wanted = 0.02 / 4 if "c_proj" in name else 0.02
            assert weight.data.std() == pytest.approx(wanted, rel=0.05), name


def test_no_token_sees_those_after_it():
    model = GPT(TINY)
    ids = np.array([[0, 1, 2, 3, 4, 0]])
    before = model(ids).data.copy()
    ids[0, 3:] = 2
    after = model(ids).data
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3], after[:, 3])


def test_weights_of_attention_are_shares_of_what_is_seen():
    looks: list[np.ndarray] = []
    GPT(TINY)(np.array([[0, 1, 2], [3, 4, 0]]), looks)
    assert [look.shape for look in looks] == [(2, 4, 3, 3)] * 2
    for look in looks:
        np.testing.assert_allclose(look.sum(axis=-1), 1)
        assert (look[..., ~np.tri(3, dtype=bool)] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: GPTConfig(5, width=10, heads=3), "3 heads cannot share a width of 10"),
        (lambda: GPTConfig(5, blocks=0), "every size must be at least 1"),
        (lambda: GPT(TINY)(np.zeros((1, 9), int)), "9 tokens, but this model sees 8"),
        (lambda: GPTConfig(5, seed=-1), "seed -1"),
        (lambda: GPT(TINY)(np.zeros(3, int)), r"ids \(3,\)"),
        (lambda: GPT(TINY)(np.zeros((1, 0), int)), "at least one token"),
        (lambda: TrainConfig(steps=10, warmup=10), "warmup"),
        (lambda: TrainConfig(steps=1, warmup=1), "2 steps or more"),
        (lambda: TrainConfig(batch=0), "batch 0"),
        (lambda: TrainConfig(rate=float("nan")), "learning rate of nan"),
        (lambda: SampleConfig(temperature=-1), "temperature"),
        (lambda: SampleConfig(temperature=float("nan")), "temperature"),
        (lambda: Alphabet("aab"), "every character stands once"),
        (lambda: gpt.write(GPT(TINY), np.array([0]), 3, 0, SampleConfig()), "context 0"),
        (lambda: Alphabet("abc").encode("abx"), r"characters \['x'\]"),
        (lambda: gpt.windows(np.arange(4), 1, 4, np.random.default_rng(0)), "no piece of 4"),
        (lambda: NGram(np.arange(4), 10**5, 4), "order 4"),
        (lambda: NGram(np.arange(1), 3, 2), "nothing to count"),
        (lambda: gpt.mean_loss(np.ones(100)), "192 would"),
        (lambda: gpt.read_text(Path("nowhere.txt")), "nowhere.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "image.txt").write_bytes(b"abc\xff\xfe")
    with pytest.raises(ValueError, match=r"image.txt is not UTF-8 text .* at byte 3"):
        gpt.read_text(tmp_path / "image.txt")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="too short"):
        gpt.read_text(tmp_path / "empty.txt")


# --- training


def test_it_learns_a_short_text_by_heart_and_repeats_by_seed():
    text = Alphabet(" abcdefghilmnort").encode("the cat ate the rat and the lion ate the cat " * 3)
    runs = []
    for seed, steps in ((0, 120), (0, 11), (0, 11), (1, 11)):
        model = GPT(GPTConfig(16, context=16, width=32, blocks=2, heads=2))
        config = TrainConfig(steps=steps, batch=8, rate=1e-2, warmup=10, seed=seed)
        runs.append((gpt.train(model, text, 16, config), model.weights["wte.weight"].data))
    assert np.mean(runs[0][0][-5:]) < 0.3
    assert runs[1][0] == runs[2][0] != runs[3][0]
    assert np.array_equal(runs[1][1], runs[2][1])


def test_training_that_diverges_is_stopped():
    text = np.random.default_rng(0).integers(5, size=200)
    with pytest.raises(ValueError, match="smaller rate than 1e"):
        gpt.train(GPT(GPTConfig(5, 8, 16, 1, 2)), text, 8, TrainConfig(steps=9, batch=2, warmup=1, rate=1e30))


def test_only_matrices_decay():
    """Without gradients a step is decay alone: matrices shrink by rate * decay, norms and biases stay."""
    weights = {"matrix": Tensor(np.ones((2, 2)), requires_grad=True), "norm": Tensor(np.ones(2), requires_grad=True)}
    config = TrainConfig(steps=2, warmup=1, rate=0.5, weight_decay=0.1, final=1.0)
    gpt.optimize(weights, lambda: (weights["matrix"] * 0.0).sum() + (weights["norm"] * 0.0).sum(), config)
    np.testing.assert_allclose(weights["matrix"].data, 0.95**2)
    np.testing.assert_allclose(weights["norm"].data, 1.0)


def test_every_character_is_asked_once_with_half_a_context():
    """A bigram model asked through windows gives what it gives when asked directly, for any length of text."""
    rng = np.random.default_rng(0)
    for length, context in ((2, 8), (9, 8), (10, 8), (64, 8), (67, 5), (40, 1)):
        ids = rng.integers(4, size=length)
        bigram = NGram(ids, 4, 2)
        log_p_CV = np.log(table(bigram))
        found = gpt.losses(lambda ids_BT, log_p_CV=log_p_CV: Tensor(log_p_CV[ids_BT]), ids, context, batch=3)
        np.testing.assert_allclose(found, bigram.losses(ids), atol=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not (SHARED / "names.txt").exists(), reason="the list of 32,032 names is not here")
def test_names_are_learned_far_better_than_by_counting():
    corpus = gpt.read_names(SHARED / "names.txt")
    model = GPT(GPTConfig(len(corpus.alphabet)))
    gpt.train(model, corpus.training, 32, TrainConfig())
    ours = gpt.losses(model, corpus.held_out, 32)
    bigram = NGram(corpus.training, len(corpus.alphabet), 2).losses(corpus.held_out)
    assert ours.mean() < 2.08
    gain = gpt.mean_loss(bigram - ours)
    assert gain.mean - gain.half > 0.35
    known = set(corpus.alphabet.decode(corpus.training).split())
    names = gpt.write_lines(model, corpus.alphabet, 32, SampleConfig(200, 0.8))
    assert 0.2 < np.mean([name in known for name in names]) < 0.9  # names, and not only those that it has read


# --- sampling


def test_draws_come_as_often_as_the_softmax_says():
    scores, n = np.array([2.0, 1.0, 0.0, -1.0]), 20000
    for temperature in (0.5, 1.0, 2.0):
        p = np.exp(scores / temperature) / np.exp(scores / temperature).sum()
        drawn = gpt.pick(np.tile(scores, (n, 1)), SampleConfig(temperature=temperature), np.random.default_rng(0))
        shares = np.bincount(drawn, minlength=4) / n
        assert (np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n)).all()


def test_top_k_draws_from_the_likeliest_alone():
    logits = np.random.default_rng(1).normal(size=(500, 9))
    for k in (1, 3, 9, 50):
        drawn = gpt.pick(logits, SampleConfig(top_k=k), np.random.default_rng(0))
        rank = (logits > np.take_along_axis(logits, drawn[:, None], axis=1)).sum(axis=1)
        assert rank.max() == min(k, 9) - 1
    assert np.array_equal(
        gpt.pick(logits, SampleConfig(temperature=0), np.random.default_rng(0)), logits.argmax(axis=1)
    )


def test_a_temperature_close_to_zero_takes_the_likeliest():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = gpt.pick(np.array([[0.0, 1.0, 2.0]]), SampleConfig(temperature=1e-310), np.random.default_rng(0))
    assert drawn.tolist() == [2]


def test_writing_repeats_by_seed_and_goes_beyond_the_context():
    model, prompt = GPT(TINY), np.array([1, 2])
    texts = [gpt.write(model, prompt, 20, 8, SampleConfig(3, seed=seed)) for seed in (0, 0, 1)]
    assert texts[0].shape == (3, 22)
    assert (texts[0][:, :2] == prompt).all()
    assert np.array_equal(texts[0], texts[1])
    assert not np.array_equal(texts[0], texts[2])
    with pytest.raises(ValueError, match="prompt is empty"):
        gpt.write(model, prompt[:0], 1, 8, SampleConfig())


# --- files


def test_a_file_gives_the_model_back(tmp_path):
    model = GPT(TINY)
    path = gpt.save(tmp_path / "model.npz", model, Alphabet("abcde"))
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    again, alphabet = gpt.load(path)
    assert (again.config, alphabet) == (TINY, Alphabet("abcde"))
    for name, weight in model.weights.items():
        assert np.array_equal(weight.data, again.weights[name].data)
    first = path.read_bytes()
    assert gpt.save(path, again, alphabet).read_bytes() == first


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    arrays: dict[str, Any] = {name: weight.data for name, weight in GPT(TINY).weights.items()}
    about = {"config": {"symbols": 5, "context": 8, "width": 16, "blocks": 2, "heads": 4}, "alphabet": "abcde"}
    for content in (b"", b"PK\x03\x04 not a zip", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a model"):
            gpt.load(path)
    np.savez(path, about=np.array([{"a": "pickled object"}], dtype=object))
    with pytest.raises(ValueError, match="is not a model"):
        gpt.load(path)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="is not a model"):
        gpt.load(path)
    np.savez(path, about=np.array(json.dumps(about)), **arrays)  # float64 where the file promises float32
    with pytest.raises(ValueError, match="does not fit"):
        gpt.load(path)


@pytest.mark.parametrize(
    ("config", "alphabet"),
    [({"context": 10**13}, "abcde"), ({"blocks": 10**9}, "abcde"), ({}, "ab"), ({}, "aaaaa"), ({"seed": "x"}, "abcde")],
)
def test_a_file_whose_sizes_are_not_those_of_its_weights_is_refused(tmp_path, config, alphabet):
    arrays: dict[str, Any] = {name: weight.data for name, weight in GPT(TINY).weights.items()}
    about = {"config": {**asdict(TINY), **config}, "alphabet": alphabet}
    np.savez(tmp_path / "model.npz", about=np.array(json.dumps(about)), **arrays)
    with pytest.raises(ValueError, match="is not a model"):
        gpt.load(tmp_path / "model.npz")


# --- the command

SIZES = ["--width", "16", "--blocks", "1", "--context", "8", "--steps", "20", "--batch", "4"]


def command(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["gpt", *SIZES, *map(str, words)])
    return main()


def test_the_command_trains_writes_and_saves(tmp_path, capsys):
    run(parser().parse_args([*SIZES, "--out", str(tmp_path / "new" / "names.npz")]))
    printed = capsys.readouterr().out
    assert "less than the bigram by" in printed
    assert gpt.load(tmp_path / "new" / "names.npz")[0].config.width == 16
    story = tmp_path / "story.txt"
    story.write_text("".join(f"{n} stones on a hill, and one more.\n" for n in range(80)), encoding="utf-8")
    run(parser().parse_args([*SIZES, "--text", str(story)]))
    assert "this model" in capsys.readouterr().out
    assert gpt.read_text(story).alphabet.symbols[0] == "\n"
    story.write_text(story.read_text(encoding="utf-8"), encoding="utf-8-sig")  # as some editors save it
    assert gpt.read_text(story).alphabet.symbols[0] == "\n"
    assert "\ufeff" not in gpt.read_text(story).alphabet.symbols


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--top-k", "-1"], "top_k"),
        (["--steps", "1"], "2 steps or more"),
        (["--rate", "nan"], "learning rate of nan"),
        (["--seed", "-1"], "seed"),
        (["--out", "."], "is a folder"),
        (["--out", "names.txt/model.npz"], "cannot be written"),
        (["--text", "short.txt"], "give more text"),
        (["--names", "nowhere.txt"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    for name in ("names.txt", "short.txt"):
        Path(name).write_text("ada\nbob\n" * 20, encoding="utf-8")
    monkeypatch.setattr("cairn.foundations.gpt.__main__.train", lambda *_: pytest.fail("it was trained"))
    assert command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1


def test_an_interrupt_keeps_what_was_learned(tmp_path, monkeypatch, capsys):
    asked = []

    def impatient(*place):
        asked.append(place)
        if len(asked) == 8:
            raise KeyboardInterrupt
        return gpt.windows(*place)

    monkeypatch.setattr(importlib.import_module("cairn.foundations.gpt.train"), "windows", impatient)
    assert command(monkeypatch, "--out", tmp_path / "model.npz") == 0
    assert "stopped after 7 of 20 steps" in capsys.readouterr().out
    fresh = GPT((model := gpt.load(tmp_path / "model.npz")[0]).config)
    assert not np.array_equal(model.weights["wte.weight"].data, fresh.weights["wte.weight"].data)
