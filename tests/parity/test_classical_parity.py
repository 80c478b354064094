"""KenLM reads our ARPA files and gives our probabilities; recurrent cells and layers are those of torch.nn."""

import argparse
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from cairn.models.arpa import read_arpa, write_arpa
from cairn.models.ngram import NgramConfig, NgramLM
from cairn.models.recurrent import CELLS, RecurrentConfig, RecurrentLayer, RecurrentLM

SHAKESPEARE = Path(__file__).parents[2] / "shared" / "data" / "text" / "tinyshakespeare.txt"
LN10 = np.log(10)


@pytest.fixture(scope="module")
def words():
    """Names of ids (0 begins a line, 1 ends it, 2 is an unseen word), training ids, held-out lines."""
    text = SHAKESPEARE.read_text()[:300_000] if SHAKESPEARE.exists() else inspect.getsource(argparse)
    lines = [line.split() for line in text.splitlines() if line.split()]
    cut = len(lines) * 9 // 10
    names = ["<s>", "</s>", "<unk>", *sorted({w for line in lines[:cut] for w in line} - {"<unk>"})]
    ids = {w: i for i, w in enumerate(names)}
    tokens = [np.array([0, *(ids.get(w, 2) for w in line), 1]) for line in lines]
    return names, np.concatenate(tokens[:cut]), list(zip(lines, tokens))[cut:]


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_gives_our_probabilities(words, tmp_path, order):
    kenlm = pytest.importorskip("kenlm")
    names, train, held_out = words
    model = NgramLM.train(train, NgramConfig(order, len(names), 0))
    write_arpa(model, tmp_path / "m.arpa", names)
    theirs, (again, _) = kenlm.Model(str(tmp_path / "m.arpa")), read_arpa(tmp_path / "m.arpa")
    assert theirs.order == order
    nats = []
    for line, tokens in held_out:
        expected = [LN10 * p for p, _, _ in theirs.full_scores(" ".join(line))]
        ours = model.log_probs(tokens)[1:]
        assert ours == pytest.approx(expected, abs=3e-5)
        assert again.log_probs(tokens)[1:] == pytest.approx(expected, abs=3e-5)
        nats += expected
    everything = np.concatenate([tokens for _, tokens in held_out])
    assert model.perplexity(everything) == pytest.approx(np.exp(-np.mean(nats)), rel=1e-5)


TORCH = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
TORCH_CELL = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}


def copy_weights(layer, module, suffix):
    with torch.no_grad():
        layer.input.weight.copy_(getattr(module, f"weight_ih{suffix}"))
        layer.input.bias.copy_(getattr(module, f"bias_ih{suffix}"))
        layer.recurrent.weight.copy_(getattr(module, f"weight_hh{suffix}"))
        layer.recurrent.bias.copy_(getattr(module, f"bias_hh{suffix}"))


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_is_torchs_cell(cell):
    torch.manual_seed(1)
    theirs, ours = TORCH_CELL[cell](5, 7), RecurrentLayer(cell, 5, 7)
    copy_weights(ours, theirs, "")
    x, h, c = torch.randn(3, 5), torch.randn(3, 7), torch.randn(3, 7)
    state = (h, c) if cell == "lstm" else (h,)
    z, new = ours(x[:, None], state)
    expected = theirs(x, state if cell == "lstm" else h)
    expected = expected if cell == "lstm" else (expected,)
    torch.testing.assert_close(new, tuple(expected), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(z[:, 0], new[0])


@pytest.mark.parametrize("cell", CELLS)
def test_stacked_layers_are_torchs_with_gradients(cell):
    torch.manual_seed(2)
    theirs = TORCH[cell](6, 8, num_layers=3, batch_first=True)
    ours = [RecurrentLayer(cell, 6 if n == 0 else 8, 8) for n in range(3)]
    for n, layer in enumerate(ours):
        copy_weights(layer, theirs, f"_l{n}")
    x = torch.randn(2, 11, 6, requires_grad=True)
    x2 = x.detach().clone().requires_grad_()
    expected, last = theirs(x)
    z, states = x2, []
    for layer in ours:
        z, state = layer(z)
        states.append(state)
    torch.testing.assert_close(z, expected, atol=1e-6, rtol=1e-5)
    for place, tensor in enumerate(last if cell == "lstm" else (last,)):
        torch.testing.assert_close(torch.stack([s[place] for s in states]), tensor, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (z * weight).sum().backward()
    torch.testing.assert_close(x2.grad, x.grad, atol=1e-5, rtol=1e-4)
    for n, layer in enumerate(ours):
        for mine, name in ((layer.input, "ih"), (layer.recurrent, "hh")):
            for part in ("weight", "bias"):
                torch.testing.assert_close(
                    getattr(mine, part).grad, getattr(theirs, f"{part}_{name}_l{n}").grad, atol=1e-5, rtol=1e-4
                )


def test_a_whole_model_is_embedding_layers_and_output():
    model = RecurrentLM(RecurrentConfig(cell="gru", vocab_size=20, dim=8, layers=2)).initialize(3)
    theirs = torch.nn.GRU(8, 8, num_layers=2, batch_first=True)
    with torch.no_grad():
        for n, layer in enumerate(model.blocks):
            for part in ("weight", "bias"):
                getattr(theirs, f"{part}_ih_l{n}").copy_(getattr(layer.input, part))
                getattr(theirs, f"{part}_hh_l{n}").copy_(getattr(layer.recurrent, part))
    ids = torch.randint(20, (2, 9))
    expected = theirs(model.embed.weight[ids] * 8**0.5)[0] @ model.embed.weight.T
    torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=1e-5)
