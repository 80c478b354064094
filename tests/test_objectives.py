"""Masked language modelling and span corruption: what is hidden, what is asked for, and that models learn from it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import cairn
from cairn.core.errors import UserError
from cairn.corpus import write_shard
from cairn.models import ModelConfig, Transformer
from cairn.models.families.bert import POST_NORM
from cairn.models.seq2seq import EncoderDecoder
from cairn.tokenizers import Tokenizer
from cairn.tokenizers.training import train_kind
from cairn.tokenizers.wordpiece import train_wordpiece
from cairn.training import TrainConfig, train
from cairn.training.losses import IGNORED
from cairn.training.masked import MaskedConfig, MaskedData, MaskedLM
from cairn.training.objectives import check_objective
from cairn.training.spans import SpanBatch, SpanConfig, SpanData, SpanLM, corrupt, noise_mask
from cairn.training.special_tokens import WordBorders, sentinel_ids, with_mask, with_sentinels
from cairn.training.validation import objective_loss

WORDS = "stone path hill moss river cloud lichen marker summit valley ridge snow".split()


@pytest.fixture(scope="module")
def shard(tmp_path_factory, tokenizer):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 80))) + "." for _ in range(300)]
    return write_shard(tmp_path_factory.mktemp("shards") / "train-00000", texts, tokenizer, "texts")


def encoder(vocab_size, **changes):
    shape = {
        "family": "bert",
        "vocab_size": vocab_size,
        "dim": 32,
        "layers": 2,
        "heads": 2,
        "kv_heads": 2,
        "ffn_dim": 64,
    }
    rest = {"max_positions": 64, "activation": "gelu", "head": "masked", "head_bias": True, "token_types": 2}
    return Transformer(ModelConfig(**(shape | rest | POST_NORM | changes))).initialize(1)


def encoder_decoder(vocab_size, **changes):
    shape = {
        "family": "t5",
        "vocab_size": vocab_size,
        "dim": 32,
        "layers": 1,
        "encoder_layers": 1,
        "heads": 2,
        "kv_heads": 2,
    }
    rest = {
        "ffn_dim": 64,
        "positions": "relative",
        "score_scale": 1.0,
        "activation": "relu",
        "gated": False,
        "start_id": 1,
    }
    scale = {"logit_scale": 32**-0.5, "norm_eps": 1e-6}
    return EncoderDecoder(ModelConfig(**(shape | rest | scale | changes))).initialize(1)


# --- masking


def whole_ids(data, batch, step):
    """The rows before anything was covered."""
    return torch.stack(
        [torch.from_numpy(row.content.ids_T) for row in data.numbered(step * data.rows + np.arange(data.rows))]
    )


def within(count, n, share, deviations=4.5):
    return abs(count - n * share) < deviations * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("config", [MaskedConfig(), MaskedConfig(share=0.4, covered=0.5, replaced=0.3)])
def test_the_shares_of_masking_are_those_asked_for(shard, tokenizer, config):
    words = with_mask(tokenizer)
    data = MaskedData([shard], words, rows=60, context=64, masked=config, device="cpu")
    special = torch.tensor(sorted(words.special_ids))
    ordinary = chosen = covered = kept = changed = 0
    replaced_by = torch.zeros(words.vocab_size)
    for step in range(4):
        (batch,) = data.batch(step)
        before, after = whole_ids(data, batch, step).flatten(), batch.ids_BT.flatten()
        ordinary += int((~torch.isin(before, special)).sum())
        picked = torch.zeros(len(before), dtype=torch.bool).index_fill(0, batch.places_N, True)
        assert torch.equal(before[picked], batch.targets_N)
        assert torch.equal(before[~picked], after[~picked])  # what was not chosen is as it was
        assert not torch.isin(batch.targets_N, special).any()
        masked = after[picked] == words.named_id("mask")
        same = after[picked] == before[picked]
        chosen, covered, kept = chosen + int(picked.sum()), covered + int(masked.sum()), kept + int(same.sum())
        changed += int((~masked & ~same).sum())
        replaced_by += torch.bincount(after[picked][~masked & ~same], minlength=words.vocab_size)
    assert within(chosen, ordinary, config.share)
    assert within(covered, chosen, config.covered)
    stays = 1 - config.covered - config.replaced  # and a random token is by chance the old one now and then
    assert within(kept, chosen, stays + config.replaced / (words.vocab_size - len(words.special)))
    assert covered + kept + changed == chosen
    assert replaced_by[special].sum() == 0
    assert (replaced_by > 0).sum() > 0.4 * changed * math.exp(-changed / words.vocab_size)  # spread over the vocabulary


def test_a_row_is_covered_in_another_way_each_time_it_comes(shard, tokenizer):
    data = MaskedData([shard], with_mask(tokenizer), rows=1, context=32, device="cpu")
    row = data.numbered(np.array([5]))[0]
    again = [data.cover(row._replace(number=n))[1] for n in (5, 5, 6)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


@pytest.mark.parametrize("kind", ["byte-level", "wordpiece"])
def test_whole_words_are_chosen_whole(tmp_path, tokenizer, kind):
    text = " ".join(WORDS * 40)
    if kind == "wordpiece":
        model = train_wordpiece([text], 45)
        tokenizer = Tokenizer(model, model.special, names={"mask": "[MASK]"})
    words = with_mask(tokenizer)
    shard = write_shard(tmp_path / "s", [text], words, "x")
    data = MaskedData([shard], words, rows=20, context=64, masked=MaskedConfig(whole_words=True), device="cpu")
    split = 0
    for row in data.numbered(np.arange(20)):
        _, chosen = data.cover(row)
        ids = row.content.ids_T
        number = WordBorders(words).numbers(ids)
        # told apart by the text itself: a word is what lies between spaces
        spaces = np.array([words.token_bytes(int(i))[:1] == b" " for i in ids])
        spaces[0] = True
        assert np.array_equal(number, np.cumsum(spaces) - 1)
        for word in range(number.max() + 1):
            at = number == word
            assert chosen[at].all() or not chosen[at].any()
            split += at.sum() > 1
    assert split > 50  # words of several tokens, or nothing was shown


def test_packed_encoder_rows_have_no_padding_to_guess(shard, tokenizer):
    words = with_mask(tokenizer)
    data = MaskedData([shard], words, rows=40, context=256, packed=True, device="cpu")
    model = encoder(words.vocab_size, max_positions=256)
    (batch,) = data.batch(0)
    rows = data.numbered(np.arange(40))
    padding = np.stack([row.content.document_T for row in rows]) == -1
    assert padding.any()
    assert not padding.flatten()[batch.places_N.numpy()].any()
    # What stands in the padding decides nothing.
    other = batch.ids_BT.clone()
    other[torch.from_numpy(padding)] = 7
    assert batch.documents_BT is not None or batch.real_BT is not None
    changed = type(batch)(other, batch.places_N, batch.targets_N, batch.real_BT, batch.documents_BT)
    with torch.no_grad():
        losses = [MaskedLM().loss(model, b)[0].item() for b in (batch, changed)]
    assert losses[0] == losses[1]


def test_masked_loss_is_that_of_all_logits(shard, tokenizer):
    words = with_mask(tokenizer)
    (batch,) = MaskedData([shard], words, rows=4, context=32, device="cpu").batch(2)
    model = encoder(words.vocab_size)
    for smoothing in (0.0, 0.1):
        logits = model(batch.ids_BT).flatten(0, 1)[batch.places_N]
        expected = F.cross_entropy(logits, batch.targets_N, reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(MaskedLM(smoothing).loss(model, batch)[0], expected)


def test_what_an_objective_lacks_is_said(shard, tokenizer):
    with pytest.raises(UserError, match="mask token"):
        MaskedData([shard], tokenizer, rows=1, context=16)
    with pytest.raises(UserError, match="sentinels"):
        SpanData([shard], tokenizer, rows=1, context=16)
    with pytest.raises(UserError, match="28 missing spans, the tokenizer has 5"):
        SpanData([shard], with_sentinels(tokenizer, 5), rows=1, context=512)
    with pytest.raises(UserError, match="too short"):
        SpanData([shard], with_sentinels(tokenizer), rows=1, context=2)
    with pytest.raises(UserError, match="covered"):
        MaskedConfig(covered=0.8, replaced=0.3)


def test_added_tokens_leave_text_as_it_was(tmp_path, tokenizer, text):
    more = with_sentinels(with_mask(tokenizer), 10)
    assert with_sentinels(with_mask(more)) is more
    assert np.array_equal(more.encode(text), tokenizer.encode(text))
    assert sentinel_ids(more) == list(range(more.vocab_size - 1, more.vocab_size - 11, -1))
    assert more.vocab_size == tokenizer.vocab_size + 11
    more.save(tmp_path)
    read = Tokenizer.load(tmp_path)
    assert read.named_id("mask") == more.named_id("mask")
    assert sentinel_ids(read) == sentinel_ids(more)


# --- span corruption


@given(st.integers(2, 700), st.floats(0.02, 0.9), st.floats(1, 12), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_spans_are_those_of_t5(length, noise, span, seed):
    """Numbers of tokens and of spans as published; a kept span first and a missing one last; the text comes back."""
    config = SpanConfig(noise=noise, span=span)
    rng = np.random.default_rng(seed)
    mask = noise_mask(length, config, rng)
    taken, spans = config.counts(length)
    assert len(mask) == length
    assert mask.sum() == taken == min(max(round(length * noise), 1), length - 1)
    begins = mask & ~np.append(False, mask[:-1])
    assert begins.sum() == spans == min(max(round(taken / span), 1), length - taken)
    assert not mask[0]
    assert mask[-1]

    ids = rng.integers(10, 1000, length)
    sentinels, end = list(range(5000, 5000 - spans, -1)), 1
    read, written = corrupt(ids, mask, sentinels, end)
    assert (len(read), len(written)) == config.lengths(length)
    assert read[-1] == written[-1] == end
    assert [i for i in read if i > 4000] == [i for i in written if i > 4000] == sentinels
    assert restore(read[:-1].tolist(), written[:-1].tolist()) == ids.tolist()


def restore(read, written):
    """The text of a corrupted pair: every sentinel replaced by what follows it in the target."""
    spans, name = {}, None
    for token in written:
        if token > 4000:
            name = token
            spans[name] = []
        else:
            spans[name].append(token)
    return [t for token in read for t in (spans[token] if token > 4000 else [token])]


def test_rows_are_cut_so_that_they_fill_the_context():
    """The published lengths of T5: 568 tokens become 512 and 114."""
    assert SpanConfig().longest(512) == 568
    assert SpanConfig().lengths(568) == (512, 114)
    for context in range(4, 300):
        length = SpanConfig().longest(context)
        assert SpanConfig().lengths(length)[0] <= context < SpanConfig().lengths(length + 1)[0]


def test_every_way_to_divide_is_equally_likely():
    """6 kept and 4 missing tokens in 2 spans each: 5 x 3 masks."""
    config, rng = SpanConfig(noise=0.4, span=2), np.random.default_rng(1)
    assert config.counts(10) == (4, 2)
    found: dict[bytes, int] = {}
    for _ in range(6000):
        key = noise_mask(10, config, rng).tobytes()
        found[key] = found.get(key, 0) + 1
    assert len(found) == 15
    assert all(within(count, 6000, 1 / 15) for count in found.values())


def test_span_rows_hold_the_text_of_the_shard(shard, tokenizer):
    words = with_sentinels(tokenizer)
    data = SpanData([shard], words, rows=3, context=40, device="cpu")
    (batch,) = data.batch(7)
    assert batch.ids_BS.shape[1] == 40
    names = sentinel_ids(words)
    raise_ids = {name: 5000 - i for i, name in enumerate(names)}
    for row, read, written in zip(data.numbered(21 + np.arange(3)), batch.ids_BS.tolist(), batch.targets_BT.tolist()):
        read, written = ([raise_ids.get(i, i) for i in ids[:-1]] for ids in (read, written))
        assert restore(read, written) == row.content.ids_T.tolist()


def test_span_loss_is_that_of_all_logits_and_reads_no_target(shard, tokenizer):
    words = with_sentinels(tokenizer)
    (batch,) = SpanData([shard], words, rows=2, context=24, device="cpu").batch(0)
    model = encoder_decoder(words.vocab_size)
    shifted = torch.cat([torch.full((2, 1), model.config.start_id), batch.targets_BT[:, :-1]], dim=1)
    logits = model(batch.ids_BS, shifted)
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(
            logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="sum", label_smoothing=smoothing
        )
        torch.testing.assert_close(SpanLM(smoothing).loss(model, batch)[0], expected)
    targets = batch.targets_BT.clone()
    targets[:, -3:] = IGNORED
    less = SpanBatch(batch.ids_BS, targets, int((targets != IGNORED).sum()))
    expected = F.cross_entropy(logits[:, :-3].flatten(0, 1), batch.targets_BT[:, :-3].flatten(), reduction="sum")
    torch.testing.assert_close(SpanLM().loss(model, less)[0], expected)


# --- which model an objective is for


def test_an_objective_is_refused_where_the_model_is_of_another_kind():
    models = {"causal": ModelConfig(), "masked": encoder(500).config, "spans": encoder_decoder(500).config}
    for kind in models:
        check_objective(kind, models[kind])
        for other in models.keys() - {kind}:
            with pytest.raises(UserError, match=f"--objective {kind}, not {other}"):
                check_objective(other, models[kind])
        with pytest.raises(UserError, match="without a head"):
            check_objective(kind, encoder(500, head="none", head_bias=False).config)


# --- both train, are saved and read again

STEPS = 160
ENTROPY = math.log(len(WORDS))  # of a word without its neighbours: what a model that uses no context reaches at best


@pytest.fixture(scope="module")
def circle(tmp_path_factory):
    """Words that always follow each other in the same order, from anywhere in it: any neighbour says which one is missing."""
    starts = np.random.default_rng(0).integers(0, 12, 200)
    texts = [" ".join(WORDS[(start + i) % 12] for i in range(40)) for start in starts]
    words = train_kind("words", texts, 40)
    return write_shard(tmp_path_factory.mktemp("circle") / "train", texts, words, "circle"), words


def learn(model, objective, data, run):
    config = TrainConfig(steps=STEPS, schedule="constant", lr=0.01, warmup=5, log_every=20, device="cpu")
    before = objective_loss(model, objective, data)["valid_loss"]
    after = train(model, objective, data, config, run, title="learn", inputs=0).last["loss"]
    assert before > 1.1 * ENTROPY
    assert after < 0.9 * ENTROPY


def test_an_encoder_learns_to_fill_in(tmp_path, circle):
    shard, words = circle[0], with_mask(circle[1])
    model = encoder(words.vocab_size, layers=1)
    learn(model, MaskedLM(), MaskedData([shard], words, rows=8, context=32, device="cpu"), tmp_path / "run")
    cairn.save(tmp_path / "m", model, words, {"stage": "test"})
    again, read = cairn.load(tmp_path / "m")
    other = MaskedData([shard], read, rows=8, context=32, seed=9, device="cpu")
    losses = [objective_loss(m, MaskedLM(), other, 2)["valid_loss"] for m in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < 0.9 * ENTROPY


def test_an_encoder_decoder_learns_to_write_what_is_missing(tmp_path, circle):
    shard, words = circle[0], with_sentinels(circle[1], 5)
    model = encoder_decoder(words.vocab_size)
    learn(model, SpanLM(), SpanData([shard], words, rows=8, context=32, device="cpu"), tmp_path / "run")
    cairn.save(tmp_path / "m", model, words, {"stage": "test"})
    again, read = cairn.load(tmp_path / "m")
    other = SpanData([shard], read, rows=8, context=32, seed=9, device="cpu")
    losses = [objective_loss(m, SpanLM(), other, 2)["valid_loss"] for m in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < 0.9 * ENTROPY
