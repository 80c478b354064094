"""Documents packed into rows: every token once, little padding, and no way from one document to another."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer
from cairn.models.config import Latent, RopeScaling
from cairn.training.causal import CausalLM, TokenBatch
from cairn.training.causal_rows import ShardData
from cairn.training.losses import IGNORED
from cairn.training.packing import PackedRows, best_fit
from cairn.training.rows import PADDING
from cairn.training.shards import ShardSet

BOS, EOS = 0, 1


class Documents:
    """A shard of documents of these lengths, bos included; every other token is a number of its own."""

    def __init__(self, lengths, path="memory"):
        self.path, self.ends = path, np.cumsum(lengths)
        self.tokens = np.arange(2, 2 + sum(lengths), dtype=np.uint32)
        starts = self.ends - lengths
        self.tokens[starts[np.array(lengths) > 0]] = BOS
        self.info = {"bytes": 0}


def packed(lengths, context, **settings):
    return PackedRows(ShardSet([Documents(lengths)]), context, **settings)  # type: ignore[list-item]


# --- what is in the rows


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(4, 30), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_token_once_in_the_order_of_its_document(lengths, context, epoch):
    source = Documents(lengths)
    rows = packed(lengths, context, end_id=EOS, seed=3)
    seen: Counter[tuple[int, int]] = Counter()
    for content in rows.take(epoch * len(rows) + np.arange(len(rows))):
        assert len(content.ids_T) == context
        real = content.document_T != PADDING
        assert real.any() and not real[np.argmin(real) :].any() if not real.all() else True
        assert (content.targets_T[~real] == IGNORED).all()
        seen.update(zip(content.ids_T[real].tolist(), content.targets_T[real].tolist()))
    wanted: Counter[tuple[int, int]] = Counter()
    for start, end in zip(np.append(0, source.ends[:-1]), source.ends):
        text = source.tokens[start:end].tolist()
        wanted.update(zip(text, [*text[1:], EOS]))
    assert seen == wanted


@given(st.lists(st.integers(1, 64), min_size=1, max_size=200))
@settings(max_examples=80, deadline=None)
def test_best_fit_overfills_nothing_and_wastes_little(lengths):
    lengths = np.array(lengths)
    rows = best_fit(lengths, 64)
    filled = np.bincount(rows, weights=lengths)
    assert filled.max() <= 64
    assert filled.min() >= 1
    # Best-fit decreasing needs at most 11/9 of the fewest rows, and 4 (Johnson 1973).
    assert len(filled) <= 11 / 9 * np.ceil(lengths.sum() / 64) + 4 or (lengths > 32).any()
    # No two rows could have been one: the fuller of each pair leaves no room for the other.
    assert len(filled) == 1 or np.sort(filled)[:2].sum() > 64


def test_only_what_is_longer_than_a_row_is_cut():
    rows = packed([70, 10, 9, 32, 31], 32)
    pieces = rows._pieces
    assert sorted(pieces["length"].tolist()) == [6, 9, 10, 31, 32, 32, 32]
    assert rows.packing.rows == 5  # 6 + 9 + 10 in one
    assert rows.packing.tokens == 152
    assert rows.packing.padding == pytest.approx(1 - 152 / 160)
    assert rows.packing.saved == pytest.approx(7 / 5)


def test_many_short_documents_leave_no_padding_to_speak_of():
    lengths = np.random.default_rng(0).geometric(1 / 60, 20_000).clip(2, 2000)
    packing = packed(lengths, 256).packing
    assert packing.padding < 0.002
    assert packing.saved > 3.5


def test_each_epoch_has_another_order():
    rows = packed([7] * 40, 16)
    orders = [[c.ids_T.tolist() for c in rows.take(e * len(rows) + np.arange(len(rows)))] for e in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_tokens_stand_around_every_document():
    (content,) = packed([4, 3], 16, around=([90], [91, 92])).take(np.array([0]))
    texts = [content.ids_T[content.document_T == number].tolist() for number in (0, 1)]
    assert sorted(texts) == [[90, 0, 3, 4, 5, 91, 92], [90, 0, 7, 8, 91, 92]]
    assert (content.document_T[13:] == PADDING).all()


def test_packing_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="no document"):
        packed([0, 0], 16)
    with pytest.raises(UserError, match="echo"):
        ShardData([Documents([30])], rows=1, context=8, packed=True, echo=0.5)  # type: ignore[list-item]


# --- attention keeps them apart

SHAPE = {"vocab_size": 64, "dim": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn_dim": 48, "max_positions": 64}
KINDS = {
    "rope": {},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "alibi": {"positions": "alibi"},
    "relative": {"positions": "relative"},
    "none": {"positions": "none"},
    "window and sinks": {"window": 3, "sinks": 1},
    "window in one layer": {"window": 3, "window_layers": (True, False), "rope_local_theta": 100.0},
    "capped scores": {"score_cap": 5.0},
    "latent": {"latent": Latent(16, 0, 4, 8)},
    "dynamic rope": {"max_positions": 8, "rope_scaling": RopeScaling("dynamic", 8.0)},
    "encoder": {"causal": False, "head": "masked"},
}
LENGTHS = (5, 9, 12, 2)


def model_of(kind):
    model = Transformer(ModelConfig(**(SHAPE | KINDS[kind]))).initialize(1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return model


@pytest.fixture(scope="module")
def rows():
    """Two rows of documents: ids and the document of each token."""
    ids = torch.randint(0, 64, (2, sum(LENGTHS)), generator=torch.Generator().manual_seed(2))
    first = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
    second = torch.repeat_interleave(torch.arange(2), torch.tensor([10, 18]))
    return ids, torch.stack([first, second])


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_in_a_row_is_as_it_is_alone(kind, rows):
    model, (ids, documents) = model_of(kind), rows
    together = model(ids, document_BT=documents)
    for row in range(2):
        for number in documents[row].unique():
            at = documents[row] == number
            torch.testing.assert_close(together[row, at], model(ids[row : row + 1, at])[0], atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_into_another_document(kind, rows):
    """Another token changes no logit of other documents, to the bit; a loss there has no gradient here, exactly."""
    model, (ids, documents) = model_of(kind), rows
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 64
    before, after = model(ids, document_BT=documents), model(changed, document_BT=documents)
    others = documents != documents[:, 3:4]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[~others], after[~others])

    states = []
    handle = model.embed.register_forward_hook(lambda m, i, out: states.append(out.retain_grad() or out))
    model(ids, document_BT=documents)[others].square().sum().backward()
    handle.remove()
    assert torch.equal(states[0].grad[~others], torch.zeros_like(states[0].grad[~others]))
    assert states[0].grad[others].abs().max() > 0


def test_without_documents_attention_is_the_plain_one(rows):
    model, (ids, _) = model_of("rope"), rows
    torch.testing.assert_close(model(ids), model(ids, document_BT=torch.zeros_like(ids)), atol=3e-6, rtol=1e-5)


def test_the_loss_of_packed_rows_is_that_of_the_documents():
    """Also through `ShardData`, with padding: the same sum as every document alone."""
    source = Documents([9, 5, 14, 3, 30, 6])
    source.tokens[:] = source.tokens % 62 + 2
    data = ShardData([source], rows=4, context=32, packed=True, end_id=EOS, device="cpu")  # type: ignore[list-item]
    model = model_of("rope")
    (batch,) = data.batch(0)  # an epoch and the first row of the next
    assert len(data.packed[0]) == 3
    assert len({tuple(row) for row in batch.inputs_BT[:3].tolist()}) == 3
    assert batch.documents_BT is not None
    epoch = TokenBatch(batch.inputs_BT[:3], batch.targets_BT[:3], 67, batch.documents_BT[:3])
    total = CausalLM().loss(model, epoch)[0].item()
    expected = 0.0
    for start, end in zip(np.append(0, source.ends[:-1]), source.ends):
        ids = torch.from_numpy(source.tokens[start:end].astype(np.int64))[None]
        targets = torch.cat([ids[:, 1:], torch.tensor([[EOS]])], dim=1)
        expected += CausalLM().loss(model, TokenBatch(ids, targets, ids.numel()))[0].item()
    assert total == pytest.approx(expected, rel=1e-5)


def test_rows_of_one_document_need_no_mask():
    data = ShardData([Documents([16] * 8)], rows=4, context=16, packed=True, device="cpu")  # type: ignore[list-item]
    (batch,) = data.batch(0)
    assert batch.documents_BT is None
    assert batch.counted == 4 * 15  # without an end token the last predicts nothing
