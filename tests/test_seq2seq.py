"""The encoder-decoder: what its decoder may see, its cache, generation, and what is refused."""

from typing import Any

import pytest
import torch

from cairn.core.errors import UserError
from cairn.models import EncoderDecoder, ModelConfig, PagedCache, Transformer, build_model, load, save
from cairn.models.seq2seq import DecoderCache
from cairn.parity.logits import randomized

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "dim": 48,
    "layers": 2,
    "encoder_layers": 3,
    "heads": 4,
    "kv_heads": 4,
    "ffn_dim": 72,
}
T5 = ModelConfig(
    family="t5", head_dim=10, positions="relative", relative_buckets=8, relative_distance=12, score_scale=1.0,
    activation="relu", gated=False, norm_eps=1e-6, logit_scale=48**-0.5, start_id=7, **SIZES,
)  # fmt: skip
MARIAN = ModelConfig(
    family="marian", norm="layernorm", norm_place="post", final_norm=False, positions="sinusoidal", qkv_bias=True,
    out_bias=True, activation="relu", gated=False, ffn_bias=True, head_bias=True, embed_scale=48**0.5, start_id=399,
    max_positions=64, **SIZES,
)  # fmt: skip
CONFIGS = pytest.mark.parametrize("config", [T5, MARIAN], ids=["t5", "marian"])


def texts(seed, rows=3, length=20):
    return torch.randint(10, 390, (rows, length), generator=torch.Generator().manual_seed(seed))


def lengths_mask(lengths, width=20):
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


@CONFIGS
def test_the_cache_gives_the_logits_of_the_whole_text(config):
    """Seven tokens at once, then one by one."""
    model = randomized(EncoderDecoder(config), 1)
    ids, written, mask = texts(1), texts(2), lengths_mask([20, 3, 11])
    with torch.no_grad():
        whole = model(ids, written, mask)
        memory, cache = model.encode(ids, mask), DecoderCache(config)
        parts = [model.decoder(written[:, :7], cache.step(written[:, :7]), memory=memory)]
        for t in range(7, 20):
            parts.append(model.decoder(written[:, t : t + 1], cache.step(written[:, t : t + 1]), memory=memory))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=0)


@CONFIGS
def test_who_sees_what(config):
    """A decoder's token sees no later one, sees all of the text that was read, and nothing of its padding."""
    model = randomized(EncoderDecoder(config), 2)
    ids, written, mask = texts(3), texts(4), lengths_mask([20, 9, 1])
    with torch.no_grad():
        before = model(ids, written, mask)
        later = written.clone()
        later[:, 12:] += 1
        changed = (model(ids, later, mask) - before).abs().amax(dim=-1)
        assert changed[:, :12].max() < 1e-5
        assert changed[:, 12:].min() > 1e-4
        padding = ids.clone()
        padding[~mask] += 1
        torch.testing.assert_close(model(padding, written, mask), before, atol=1e-5, rtol=0)
        read = ids.clone()
        read[:, 0] += 1
        assert (model(read, written, mask) - before).abs().amax(dim=-1).min() > 1e-4


@CONFIGS
def test_greedy_generation(config):
    """Each token is the likeliest after those before; rows do not depend on those beside them and end at a stop id."""
    model = randomized(EncoderDecoder(config), 3)
    ids, mask = texts(5), lengths_mask([20, 6, 13])
    free = model.generate(ids, 12, mask_BS=mask)
    assert [len(row) for row in free] == [12] * 3
    for i, row in enumerate(free):
        begun = torch.tensor([[config.start_id, *row]])
        with torch.no_grad():
            logits = model(ids[i : i + 1], begun, mask[i : i + 1])[0]
        assert logits.argmax(dim=-1)[:-1].tolist() == row
        assert model.generate(ids[i : i + 1, : int(mask[i].sum())], 12) == [row]
    stop = free[1][4]
    for row, stopped in zip(free, model.generate(ids, 12, mask_BS=mask, stop_ids={stop})):
        assert stopped == (row[: row.index(stop) + 1] if stop in row else row)
    first = free[0][0]
    assert all(first not in row for row in model.generate(ids, 12, mask_BS=mask, banned_ids={first}))
    assert model.generate(ids, 0) == [[], [], []]


def test_generation_ends_where_positions_do():
    model = randomized(EncoderDecoder(MARIAN), 4)
    assert [len(row) for row in model.generate(texts(6, rows=2), 1000)] == [64, 64]
    far = randomized(EncoderDecoder(T5), 4)
    with torch.no_grad():  # T5's biases have no end
        assert far(texts(7, rows=1, length=600), texts(8, rows=1)).isfinite().all()


@CONFIGS
def test_one_embedding(config, tmp_path, tokenizer):
    """Both stacks and the logits share a matrix, after a round through a directory as well; gradients reach all."""
    model = randomized(EncoderDecoder(config), 5)
    save(tmp_path / "m", model, tokenizer)
    again, _ = load(tmp_path / "m")
    assert isinstance(again, EncoderDecoder)
    assert again.config == config
    assert again.encoder.embed.weight is again.decoder.embed.weight is again.decoder.unembed.weight
    assert again.parameter_count() == model.parameter_count()
    ids = texts(9)
    with torch.no_grad():
        assert torch.equal(again(ids, ids), model(ids, ids))
    again(ids, ids).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in again.named_parameters() if "k.bias" not in n)


def test_fresh_weights_depend_on_the_seed_alone():
    first, second, other = (build_model(T5).initialize(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["decoder.embed.weight"], other["decoder.embed.weight"])


def test_what_cannot_be():
    assert isinstance(build_model(ModelConfig(vocab_size=40, dim=8, heads=2)), Transformer)
    with pytest.raises(UserError, match="encoder_layers"):
        EncoderDecoder(ModelConfig())
    with pytest.raises(UserError, match="encoder_layers"):
        ModelConfig(encoder_layers=2, parallel=True)
    with pytest.raises(UserError, match="start_id"):
        ModelConfig(encoder_layers=2, vocab_size=10, start_id=10)
    model = EncoderDecoder(T5)
    with pytest.raises(ValueError, match="memory"):
        model.decoder(texts(1))
    with pytest.raises(ValueError, match="padding alone"):
        model.generate(texts(1), 3, mask_BS=lengths_mask([20, 0, 5]))
    with pytest.raises(ValueError, match="EncoderDecoder"):
        PagedCache(T5, 4)
