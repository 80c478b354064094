"""Held-out losses while training, and what continued training forgets."""

import copy
import json

import numpy as np
import pytest
import torch

from cairn.core.errors import UserError
from cairn.corpus import write_shard
from cairn.models import ModelConfig, Transformer
from cairn.training import CausalLM, TrainConfig, train
from cairn.training.causal_rows import ShardData
from cairn.training.forgetting import HEADER, changes, held_out_shards, held_out_texts, measure, to_record, to_table
from cairn.training.shards import ShardSet
from cairn.training.validation import validation_loss

WORDS = "stone path hill moss river cloud lichen marker summit valley ridge snow".split()


def texts(count, seed=0, longest=60):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory, tokenizer):
    return write_shard(tmp_path_factory.mktemp("shards") / "train-00000", texts(120), tokenizer, "texts")


def small_model(vocab_size):
    shape = ModelConfig(vocab_size=vocab_size, dim=32, layers=1, heads=2, kv_heads=2, ffn_dim=64, max_positions=64)
    return Transformer(shape).initialize(1)


def test_validation_loss_is_the_mean_over_rows_that_do_not_overlap(shard, tokenizer):
    model = small_model(tokenizer.vocab_size)
    source = ShardSet([shard])
    rows = (len(source) - 1) // 32
    found = validation_loss(model, source, 32, rows + 5)  # as many as there are
    flat = torch.from_numpy(source.read(0, len(source)))
    starts = np.linspace(0, len(source) - 33, rows).astype(int)
    assert (np.diff(starts) >= 32).all()
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(model(flat[None, s : s + 32])[0], flat[s + 1 : s + 33]) for s in starts
        ]
    assert found["valid_loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    expected = found["valid_loss"] / np.log(2) * len(source) / shard.info["bytes"]
    assert found["valid_bits_per_byte"] == pytest.approx(expected)
    assert validation_loss(model, source, 32, 7) == validation_loss(model, source, 32, 7)


def test_held_out_documents_are_the_same_from_texts_and_from_shards(shard, tokenizer):
    from_texts = held_out_texts("general", texts(120), tokenizer, 10)
    from_shards = held_out_shards("general", ShardSet([shard]), tokenizer, 10)
    assert [list(ids) for ids in from_texts.documents] == [list(ids) for ids in from_shards.documents]
    assert list(from_texts.bytes_N) == list(from_shards.bytes_N)
    with pytest.raises(UserError, match="no text"):
        held_out_texts("general", [], tokenizer)


def test_forgetting_is_measured_and_replay_lessens_it(tmp_path, tokenizer):
    """A model of one text goes on with another: alone it forgets the first, with half of the rows replayed far less."""
    general, domain = texts(80), [" ".join(["0", "1", "7"] * 20) + f" {n}" for n in range(80)]
    shards = [write_shard(tmp_path / name, rows, tokenizer, name) for name, rows in (("g", general), ("d", domain))]
    sets = [held_out_texts("general", texts(30, seed=9), tokenizer), held_out_texts("domain", domain[:30], tokenizer)]

    def go_on(model, shares, name, steps=60):
        data = ShardData(shards, rows=4, context=32, shares=shares, device="cpu")
        config = TrainConfig(steps=steps, warmup=5, lr=0.01, device="cpu", log_every=20)
        train(model, CausalLM(), data, config, tmp_path / name, title=name, inputs=name)
        return model

    base = go_on(small_model(tokenizer.vocab_size), [1.0, 0.0], "base")
    before = measure(base, sets, tokenizer, 32)
    found = {}
    for name, shares in (("alone", [0.0, 1.0]), ("replay", [0.5, 0.5])):
        after = measure(go_on(copy.deepcopy(base), shares, name), sets, tokenizer, 32)
        found[name] = changes(sets, before, after)
    forgot, kept = (found[name][0].difference for name in ("alone", "replay"))
    assert forgot.low > 0
    assert kept.high < forgot.low
    for name in found:
        assert found[name][1].difference.high < 0  # the domain is learned
    general_change = found["alone"][0]
    assert general_change.after.value - general_change.before.value == pytest.approx(general_change.difference.value)
    assert general_change.difference.documents == 30

    record = json.loads(json.dumps(to_record(found["alone"])))
    rows = to_table(record)
    assert [row[0] for row in rows] == ["general", "domain"]
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][3].startswith("+")
    assert rows[1][3].startswith("-")


def test_measuring_scores_every_token_once_and_leaves_training_on(tokenizer):
    model = small_model(tokenizer.vocab_size).train()
    held_out = held_out_texts("general", ["stone path", *texts(4)], tokenizer)
    (nats,) = measure(model, [held_out], tokenizer, 16)
    assert model.training
    ids = torch.tensor([[tokenizer.bos_id, *held_out.documents[0]]])
    assert ids.shape[1] <= 17  # one window
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum")
    assert nats[0] == pytest.approx(float(expected), rel=1e-4)
