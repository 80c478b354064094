"""N-gram and recurrent language models: what their definitions promise."""

import json
import math
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.corpus import write_shard
from cairn.evaluation import bits_per_byte
from cairn.models import ModelConfig, Transformer, load
from cairn.models.arpa import read_arpa, write_arpa
from cairn.models.ngram import NgramConfig, NgramLM, discounts_of
from cairn.models.recurrent import CELLS, RecurrentConfig, RecurrentLM, gradient_by_distance
from cairn.training import CausalLM, ShardData, TrainConfig
from cairn.training.trainer import train

BOS, V = 0, 12


class SlowKneserNey:
    """The formulas word for word, with dictionaries of tuples: the oracle of the arrays."""

    def __init__(self, tokens, order, vocab_size, bos=BOS):
        self.order, self.vocab_size, self.bos = order, vocab_size, bos
        documents, current = [], []
        for token in tokens:
            if token == bos and current:
                documents.append(current)
                current = []
            current.append(int(token))
        documents.append(current)
        raw = Counter(
            tuple(d[i : i + n])
            for d in documents
            for n in range(1, order + 1)
            for i in range(len(d) - n + 1)
            if d[i : i + n] != [bos]
        )
        before = defaultdict(set)
        for gram in raw:
            if len(gram) > 1:
                before[gram[1:]].add(gram[0])
        self.counts = {g: c if len(g) == order or g[0] == bos else len(before[g]) for g, c in raw.items()}
        self.discounts = {}
        for n in range(1, order + 1):
            found = Counter(c for g, c in self.counts.items() if len(g) == n)
            n1, n2, n3, n4 = (found[j] for j in (1, 2, 3, 4))
            self.discounts[n] = (0, 0.5, 1.0, 1.5)
            if n1 and n2 and n3:
                y = n1 / (n1 + 2 * n2)
                d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
                if all(0 <= d[j] <= j + 1 for j in range(3)):
                    self.discounts[n] = (0, *d)
        self.followers = defaultdict(dict)
        for g, c in self.counts.items():
            self.followers[g[:-1]][g[-1]] = c

    def p(self, word, context):
        if word == self.bos:
            return 0.0
        context = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        lower = self.p(word, context[1:]) if context else 1 / (self.vocab_size - 1)
        seen = self.followers.get(context, {})
        total = sum(seen.values())
        if total == 0:
            return lower
        D = self.discounts[len(context) + 1]
        gamma = sum(D[min(c, 3)] for c in seen.values()) / total
        c = seen.get(word, 0)
        return (c - D[min(c, 3)]) / total + gamma * lower


def text_of(seed, documents=30, length=25, vocab=V):
    """Documents whose words lean on the one before: counts of all sizes."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(documents):
        out.append(BOS)
        word = 1
        for _ in range(int(rng.integers(0, length))):
            word = 1 + (word + int(rng.geometric(0.45))) % (vocab - 2)  # the last id is never seen
            out.append(word)
    return np.array(out)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_equal_to_the_formulas(order):
    tokens, other = text_of(1), text_of(2, 8)
    model, slow = NgramLM.train(tokens, NgramConfig(order, V, BOS)), SlowKneserNey(tokens, order, V)
    for n in range(1, order + 1):
        assert model.discounts[n - 1] == pytest.approx(slow.discounts[n][1:])
    starts = np.maximum.accumulate(np.where(other == BOS, np.arange(len(other)), 0))
    expected = [
        0.0 if w == BOS else math.log(slow.p(int(w), other[starts[i] : i].tolist())) for i, w in enumerate(other)
    ]
    assert model.log_probs(other) == pytest.approx(expected, abs=2e-6)
    nats, count = -sum(expected), int((other != BOS).sum())
    assert model.perplexity(other) == pytest.approx(math.exp(nats / count), rel=1e-5)


def test_discounts_by_hand():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4/8; D = 1 - 2 Y 2/4, 2 - 3 Y 1/2, 3 - 4 Y 1/1
    assert discounts_of(np.array([1, 1, 1, 1, 2, 2, 3, 4, 0, 0])) == pytest.approx([0, 0.5, 1.25, 1.0])
    assert discounts_of(np.array([1, 2, 2])) is None  # nothing occurred three times
    assert discounts_of(np.array([1, 2, 3, 4, 4, 4, 4])) is None  # D_3+ = 3 - 4/3 * 4 < 0


def test_a_fallback_is_said(capsys):
    model = NgramLM.train(np.array([0, 1, 2, 0, 1, 3]), NgramConfig(2, 5, 0))
    assert [d.tolist() for d in model.discounts] == [[0.5, 1.0, 1.5]] * 2
    assert "discounts of order 1 are not defined" in capsys.readouterr().err
    # c(1 2) = 1 of c(1 .) = 2; before 2 stood one word, as before 3, and before 1 bos: each unigram 1 of 3
    p2 = 0.5 / 3 + 0.5 * 1 / 4
    assert math.exp(model.log_probs(np.array([1, 2]))[1]) == pytest.approx(0.5 / 2 + 0.5 * p2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, V - 2), min_size=1, max_size=60).filter(lambda ids: any(ids)),
    st.integers(1, 5),
    st.lists(st.integers(0, V - 1), max_size=6),
)
def test_probabilities_of_every_context_sum_to_one(tokens, order, context):
    """Contexts seen and unseen, documents of any length, streams without a bos."""
    model = NgramLM.train(np.array(tokens), NgramConfig(order, V, BOS))
    p = model.distribution(context)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p[BOS] == 0
    assert (np.delete(p, BOS) > 0).all()
    rows = [model.log_probs(np.array([*context, w]))[-1] for w in range(1, V)]
    assert np.log(p[1:]) == pytest.approx(rows, abs=1e-5)


def test_documents_do_not_touch():
    one = NgramLM.train(np.array([0, 1, 2, 0, 3, 4]), NgramConfig(3, 6, 0))
    other = NgramLM.train(np.array([0, 3, 4, 0, 1, 2]), NgramConfig(3, 6, 0))
    assert all((a.keys == b.keys).all() and np.allclose(a.logprob, b.logprob) for a, b in zip(one.tables, other.tables))
    assert one.log_probs(np.array([0, 1, 2, 0, 3]))[4] == one.log_probs(np.array([0, 3]))[1]


def test_generation_follows_the_distribution_and_the_seed():
    model = NgramLM.train(text_of(3), NgramConfig(2, V, BOS))
    assert model.generate([BOS], 20, seed=5) == model.generate([BOS], 20, seed=5)
    draws = Counter(model.generate([1], 1, seed=s)[0] for s in range(3000))
    p = model.distribution([1])
    chi2 = sum((draws[w] - 3000 * p[w]) ** 2 / (3000 * p[w]) for w in range(1, V))
    assert chi2 < 29.6  # 0.1 % of chi-square with 10 degrees of freedom
    assert draws[BOS] == 0


def test_saved_and_loaded_is_the_same(tmp_path):
    model, other = NgramLM.train(text_of(4), NgramConfig(3, V, BOS)), text_of(5, 5)
    model.save(tmp_path / "m.safetensors")
    again = NgramLM.load(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert (again.log_probs(other) == model.log_probs(other)).all()
    assert [d.tolist() for d in again.discounts] == [d.tolist() for d in model.discounts]
    data = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-9])
    (tmp_path / "noise").write_bytes(b"\xff" * 64)
    for name in ("cut", "noise", "missing"):
        with pytest.raises(UserError, match=name):
            NgramLM.load(tmp_path / name)


def test_arpa_there_and_back(tmp_path):
    model, other = NgramLM.train(text_of(6), NgramConfig(4, V, BOS)), text_of(7, 5)
    write_arpa(model, tmp_path / "m.arpa", [f"w{i}" for i in range(V)])
    again, words = read_arpa(tmp_path / "m.arpa")
    assert words == ["<s>", *(f"w{i}" for i in range(1, V)), "</s>", "<unk>"]
    assert again.log_probs(other) == pytest.approx(model.log_probs(other), abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=", "ngram 3=", "line 3: 'ngram 2=COUNT'"),
        ("\\end\\", "", "ends before"),
        ("\\2-grams:", "\\4-grams:", "-grams:' is expected"),
        ("<s> w2", "<s> other", "'other' is not among"),
        ("-99\t<unk>\t0", "-99\t<unk>\tx", "not a number"),
        ("-99\t<unk>\t0", "0.5\t<unk>\t0", "at most 0"),
        ("-99\t<unk>\t0", "-99\tw1\t0", "'w1' stands twice"),
    ],
)
def test_a_damaged_arpa_file_is_refused_by_line(tmp_path, old, new, message):
    model = NgramLM.train(np.array([0, 1, 2, 0, 2, 1]), NgramConfig(2, 4, 0))
    write_arpa(model, tmp_path / "m.arpa", [f"w{i}" for i in range(4)])
    text = (tmp_path / "m.arpa").read_text()
    assert old in text
    (tmp_path / "bad.arpa").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"bad\.arpa, line") as error:
        read_arpa(tmp_path / "bad.arpa")
    assert message in str(error.value)


def test_mistakes_are_named(tmp_path):
    model = NgramLM.train(np.array([0, 1, 2]), NgramConfig(2, 4, 0))
    for call, message in (
        (lambda: model.log_probs(np.array([4])), "the vocabulary from 0 to 3"),
        (lambda: model.log_probs(np.array([0.5])), "integers"),
        (lambda: model.perplexity(np.array([0])), "besides bos"),
        (lambda: NgramLM.train(np.array([0, 0]), NgramConfig(2, 4, 0)), "nothing to count"),
        (lambda: NgramConfig(2, 4, 4), "bos"),
        (lambda: write_arpa(model, tmp_path / "x", ["c", "a b", "d", "e"]), "hold no white space"),
        (lambda: write_arpa(model, tmp_path / "x", ["c", "d", "d", "e"]), "twice"),
    ):
        with pytest.raises(UserError, match=message):
            call()


# --- recurrent models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shard(tmp_path_factory, tokenizer, text):
    return write_shard(tmp_path_factory.mktemp("tokens") / "tokens", [text], tokenizer, "test")


@pytest.mark.parametrize("cell", CELLS)
def test_the_trainer_trains_it(cell, shard, tokenizer, tmp_path):
    model = RecurrentLM(RecurrentConfig(cell, tokenizer.vocab_size, 32, 1, max_positions=32)).initialize(1)
    setting = TrainConfig(steps=60, lr=1e-2, optimizer="adamw", warmup=5, device="cpu")
    data = ShardData([shard], rows=4, context=32, seed=1, device="cpu")
    result = train(model, CausalLM(), data, setting, tmp_path, title=cell, inputs={})
    counts = np.bincount(np.asarray(shard.tokens))
    share = counts[counts > 0] / len(shard)
    assert result.last["loss"] < 0.8 * -(share * np.log(share)).sum()  # below the entropy of its unigrams


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_carries_everything(cell):
    model = RecurrentLM(RecurrentConfig(cell, 50, 16, 2)).initialize(2)
    ids = torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(0))
    pieces, states = [], None
    for at in (slice(0, 5), slice(5, 6), slice(6, 12)):
        hidden, states = model.run(ids[:, at], states)
        pieces.append(hidden)
    whole, last = model.run(ids)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    torch.testing.assert_close(states, last)


def test_greedy_generation_is_the_argmax_of_the_whole_row():
    model = RecurrentLM(RecurrentConfig("lstm", 30, 16, 2)).initialize(3)
    row = [1, 2, 3]
    out = model.generate(row, 6, temperature=0)
    for token in out:
        assert token == int(model(torch.tensor([row]))[0, -1].argmax())
        row = [*row, token]
    assert model.generate([1], 9, seed=4) == model.generate([1], 9, seed=4)
    assert model.generate([1], 9, seed=4) != model.generate([1], 9, seed=5)
    with pytest.raises(UserError, match="at least one id"):
        model.generate([], 3)


@pytest.mark.parametrize("tied", [True, False])
def test_recurrent_files(tmp_path, tied):
    model = RecurrentLM(RecurrentConfig("gru", 30, 16, 2, tie_embeddings=tied)).initialize(3)
    model.save(tmp_path / "m.safetensors")
    again, ids = RecurrentLM.load(tmp_path / "m.safetensors"), torch.tensor([[1, 2, 3]])
    assert torch.equal(again(ids), model(ids))
    assert again.config == model.config
    assert again.parameter_count() == model.parameter_count() == 30 * 16 * (2 - tied) + 2 * 3 * 16 * (16 + 16 + 2)
    (tmp_path / "bad").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-4])
    NgramLM.train(np.array([0, 1, 2]), NgramConfig(2, 4, 0)).save(tmp_path / "bad-kind")
    for name in ("bad", "bad-kind", "missing"):
        with pytest.raises(UserError, match=name):
            RecurrentLM.load(tmp_path / name)


def test_initial_weights_are_what_they_say():
    model = RecurrentLM(RecurrentConfig("lstm", 200, 64, 1)).initialize(3)
    layer = model.blocks[0]
    for gate in layer.recurrent.weight.split(64):
        torch.testing.assert_close(gate @ gate.T, torch.eye(64), atol=1e-5, rtol=0)
    i, f, g, o = layer.input.bias.split(64)
    assert (f == 1).all()
    assert not torch.cat([i, g, o, layer.recurrent.bias]).any()
    assert float(layer.input.weight.detach().std()) == pytest.approx(1 / 8, rel=0.1)
    assert float(model.embed.weight.detach().std()) == pytest.approx(1 / 8, rel=0.1)


def test_the_gradient_by_distance_is_the_gradient():
    """By finite differences: push one embedding along its gradient, and the loss grows by the norm."""
    model = RecurrentLM(RecurrentConfig("gru", 9, 6, 1, tie_embeddings=False)).initialize(1).double()
    ids = torch.tensor([[1, 2, 3, 4, 5]])  # every id once: an embedding row is a position
    norms = gradient_by_distance(model, ids)
    assert norms.shape == (4,)
    loss = lambda: torch.nn.functional.cross_entropy(model(ids[:, :-1])[:, -1], ids[:, -1])  # noqa: E731
    loss().backward()
    expected = [float(model.embed.weight.grad[i].norm()) for i in (4, 3, 2, 1)]
    assert norms.tolist() == pytest.approx(expected)
    assert not model.embed._forward_hooks


def test_the_gradient_vanishes_in_an_rnn_and_not_in_attention():
    ids = torch.randint(40, (8, 41), generator=torch.Generator().manual_seed(0))
    shares = {}
    for cell in CELLS:
        model = RecurrentLM(RecurrentConfig(cell, 40, 32, 1)).initialize(1)
        for block in model.blocks:
            block.recurrent.weight.data *= 0.9  # what training soon does to orthogonal matrices
        norms = gradient_by_distance(model, ids)
        shares[cell] = float(norms[39] / norms[0])
    shape = ModelConfig(vocab_size=40, dim=32, layers=1, heads=2, kv_heads=2, ffn_dim=64, max_positions=64)
    norms = gradient_by_distance(Transformer(shape).initialize(1), ids)
    shares["transformer"] = float(norms[39] / norms[0])
    assert shares["rnn"] < 1e-4
    assert shares["rnn"] < shares["lstm"] < shares["transformer"]
    assert shares["rnn"] < shares["gru"] < shares["transformer"]
    assert shares["transformer"] > 1e-3
    with pytest.raises(UserError, match="two ids"):
        gradient_by_distance(model, ids[:, :1])


# --- the command ----------------------------------------------------------------------------------------------------

TINY = "--vocab-size 300 --orders 1 3 --dim 16 --layers 1 --steps 6 --rows 2 --context 16 --threads 1 --device cpu"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("baselines")
    where = ["--corpus", str(corpus.path), "--out", str(folder / "out"), "--json", str(folder / "out.json")]
    assert main(["baselines", *where, *TINY.split()]) == 0
    return folder, where


def test_what_the_command_reports_is_what_the_models_do(experiment, corpus):
    folder, _ = experiment
    result = json.loads((folder / "out.json").read_text())
    assert result == json.loads((folder / "out" / "baselines.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["1-gram", "3-gram", "rnn", "lstm", "gru", "transformer"]
    assert result["train"]["tokens"] >= 6 * 2 * 16 == rows["rnn"]["tokens"]
    texts = list(corpus.texts("general-valid"))
    model, tokenizer = load(folder / "out" / "transformer")
    assert rows["transformer"]["n"] == len(texts)
    for name, net in (("transformer", model), ("gru", RecurrentLM.load(folder / "out" / "gru" / "model.safetensors"))):
        bits = bits_per_byte(net, tokenizer, texts, context=16)
        assert bits.value == pytest.approx(rows[name]["bits_per_byte"], rel=1e-5)
        assert (bits.low, bits.high) == pytest.approx((rows[name]["low"], rows[name]["high"]), rel=1e-5)
    ngram = NgramLM.load(folder / "out" / "3-gram" / "model.safetensors")
    nats = [-ngram.log_probs(np.append(tokenizer.bos_id, tokenizer.encode(t)).astype(int)).sum() for t in texts]
    size = sum(len(t.encode()) for t in texts)
    assert rows["3-gram"]["bits_per_byte"] == pytest.approx(sum(nats) / size / math.log(2))
    assert all(row["low"] < row["bits_per_byte"] < row["high"] for row in rows.values())
    assert len(rows["lstm"]["gradient"]) == 16
    for name in ("baselines", "gradient"):
        assert (folder / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ">rnn<" in (folder / "out" / f"{name}.svg").read_text()


def test_the_same_command_keeps_what_is_there_and_another_is_refused(experiment, capsys):
    folder, where = experiment
    before = (folder / "out.json").read_text()
    shutil.rmtree(folder / "out" / "gru")
    assert main(["baselines", *where, *TINY.split()]) == 0
    captured = capsys.readouterr()
    assert "lstm: " in captured.err
    assert "is complete" in captured.err
    again, old = json.loads((folder / "out.json").read_text()), json.loads(before)
    for row in (*again["rows"], *old["rows"]):
        row.pop("seconds", None)
    assert again == old  # made again the same
    assert main(["baselines", *where, *TINY.split(), "--seed", "2"]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert "made with other settings" in err[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--orders", "2", "2"], "twice"),
        (["--dim", "20"], "multiple of 8"),
        (["--vocab-size", "10"], "264"),
        (["--data", "/nowhere/at/all"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, words, message):
    assert main(["baselines", "--out", str(tmp_path / "out"), *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert message in err[0]
