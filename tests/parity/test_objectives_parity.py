"""Losses of masked language modelling and span corruption against transformers, on the same weights, ids and labels."""

from typing import Any

import numpy as np
import pytest
import torch

from cairn.models.directory import load_model
from cairn.parity.encoders import oracle_of
from cairn.training.losses import IGNORED
from cairn.training.masked import MaskedBatch, MaskedLM
from cairn.training.spans import SpanBatch, SpanConfig, SpanLM, corrupt, noise_mask

pytest.importorskip("transformers")

VOCABULARY = 401


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "RobertaForMaskedLM", "ModernBertForMaskedLM"])
def test_masked_loss(tmp_path, architecture, seed):
    """With padding on the right, and gradients of every weight."""
    theirs: Any = oracle_of(architecture, seed)
    theirs.save_pretrained(tmp_path)
    ours: Any = load_model(tmp_path)
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(8, VOCABULARY, (3, 20)))
    real = torch.arange(20) < torch.tensor([20, 13, 7])[:, None]
    chosen = torch.from_numpy(rng.random((3, 20)) < 0.3) & real
    labels = torch.where(chosen, torch.from_numpy(rng.integers(8, VOCABULARY, (3, 20))), IGNORED)
    if architecture.startswith("Roberta"):
        ids = ids.masked_fill(~real, theirs.config.pad_token_id)  # they count positions by it
    expected = theirs(input_ids=ids, attention_mask=real.long(), labels=labels).loss
    batch = MaskedBatch(ids, chosen.flatten().nonzero()[:, 0], labels[chosen], real)
    loss, metrics = MaskedLM().loss(ours, batch)
    loss = loss / len(batch.targets_N)
    torch.testing.assert_close(loss, expected, rtol=2e-5, atol=2e-5)
    assert metrics["loss"] / len(batch.targets_N) == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    loss.backward()
    embedding = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(ours.embed.weight.grad, embedding, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_span_loss(tmp_path, seed):
    """T5 with labels made by span corruption, one row's end without a target; gradients as well."""
    theirs: Any = oracle_of("T5ForConditionalGeneration", seed)
    theirs.config.pad_token_id = theirs.config.decoder_start_token_id  # they shift by it
    theirs.save_pretrained(tmp_path)
    ours: Any = load_model(tmp_path)
    rng = np.random.default_rng(seed)
    config = SpanConfig()
    length = config.longest(32)
    sentinels = list(range(VOCABULARY - 1, VOCABULARY - 21, -1))
    pairs = [
        corrupt(rng.integers(8, VOCABULARY - 21, length), noise_mask(length, config, rng), sentinels, 1)
        for _ in range(3)
    ]
    read, written = (torch.from_numpy(np.stack(side)) for side in zip(*pairs))
    written[2, -2:] = IGNORED
    expected = theirs(input_ids=read, labels=written).loss
    counted = int((written != IGNORED).sum())
    loss = SpanLM().loss(ours, SpanBatch(read, written, counted))[0] / counted
    torch.testing.assert_close(loss, expected, rtol=2e-5, atol=2e-5)
    expected.backward()
    loss.backward()
    torch.testing.assert_close(ours.decoder.embed.weight.grad, theirs.shared.weight.grad, rtol=1e-3, atol=1e-4)
