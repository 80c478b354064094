"""Rows of token shards: orders without memory, mixtures exact at every prefix, parts that add up to the whole."""

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.corpus import write_shard
from cairn.training.causal_rows import ShardData
from cairn.training.examples import ExampleData
from cairn.training.losses import IGNORED
from cairn.training.masked import MaskedData
from cairn.training.mixture import Mixture, parse_mixture
from cairn.training.objective import Part
from cairn.training.prefetch import Prefetch
from cairn.training.rows import CutRows
from cairn.training.shards import ShardSet, open_shards
from cairn.training.shuffle import shuffled
from cairn.training.spans import SpanData
from cairn.training.special_tokens import with_mask, with_sentinels

WORDS = "stone path hill moss river cloud lichen marker summit valley ridge snow".split()


def texts(count, seed=0, longest=60):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory, tokenizer):
    return write_shard(tmp_path_factory.mktemp("shards") / "train-00000", texts(120), tokenizer, "texts")


# --- orders


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000, 65_537])
def test_a_shuffle_is_a_permutation(size):
    assert np.array_equal(np.sort(shuffled(np.arange(size), size, 5)), np.arange(size))


def test_a_shuffle_is_even_and_another_for_every_key():
    """Every number stands at every place equally often over keys: chi-squared within five deviations of its mean."""
    size, keys = 7, 8000
    places = np.tile(np.arange(size), keys)
    orders = shuffled(places, size, np.repeat(np.arange(keys), size)).reshape(keys, size)
    counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    chi, freedom = ((counts - keys / size) ** 2 / (keys / size)).sum(), (size - 1) ** 2
    assert abs(chi - freedom) < 5 * np.sqrt(2 * freedom)
    assert len(np.unique(orders, axis=0)) > 3000  # of 5,040
    # neighbours do not stay neighbours
    order = shuffled(np.arange(100_000), 100_000, 1)
    assert (np.abs(np.diff(order)) == 1).sum() < 20


def test_a_place_costs_nothing_however_many_there_are():
    size = 10**12
    found = shuffled(np.array([0, 1, size - 1]), size, 3)
    assert len(set(found.tolist())) == 3
    assert (found >= 0).all()
    assert (found < size).all()


# --- mixtures


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any))
@settings(max_examples=60, deadline=None)
def test_shares_hold_within_a_row_at_every_prefix(weights):
    mixture = Mixture(weights)
    rows = 3 * sum(weights) + 5
    source, index = mixture.at(np.arange(rows))
    for s, weight in enumerate(weights):
        taken = np.cumsum(source == s)
        due = [Fraction(weight * (n + 1), sum(weights)) for n in range(rows)]
        assert all(abs(int(have) - want) < 1 for have, want in zip(taken, due))
        assert index[source == s].tolist() == list(range(taken[-1]))  # none is left out or comes twice


def test_shares_are_of_the_weights_as_written():
    assert Mixture([0.7, 0.3]).counts_S.tolist() == [7, 3]
    assert Mixture([1 - 0.9, 0.9]).counts_S.tolist() == [1, 9]
    assert Mixture([1 / 3, 2 / 3]).counts_S.tolist() == [1, 2]
    roots = np.sqrt([2, 3, 5])  # no short fractions: to a ten thousandth
    odd = Mixture(roots.tolist())
    assert 10_000 % odd.counts_S.sum() == 0
    assert np.abs(odd.counts_S / odd.counts_S.sum() - roots / roots.sum()).max() <= 1e-4


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, 1e-9]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(UserError, match="mixture"):
        Mixture(weights)


def test_a_mixture_is_read_from_one_line():
    assert parse_mixture("runs/a=0.7,runs/b=0.3") == [("runs/a", 0.7), ("runs/b", 0.3)]
    assert parse_mixture("runs/a") == [("runs/a", 1.0)]
    for wrong in ("", "a=0.5,", "a=x", "a=-1", "a=0", "a=1,a=2", "=1", "a=nan"):
        with pytest.raises(UserError):
            parse_mixture(wrong)


# --- shards


def test_shards_read_as_one_text(tmp_path, tokenizer):
    parts = [
        write_shard(tmp_path / "tokens" / f"train-{i:05d}", texts(n, i), tokenizer, "x")
        for i, n in enumerate((5, 1, 9))
    ]
    whole = open_shards(tmp_path, tokenizer)
    flat = np.concatenate([part.tokens for part in parts]).astype(np.int64)
    assert len(whole) == len(flat)
    assert whole.documents == 15
    assert whole.bytes == sum(part.info["bytes"] for part in parts)
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, stop = np.sort(rng.integers(0, len(flat) + 1, 2))
        assert np.array_equal(whole.read(start, stop), flat[start:stop])
    starts, stops = whole.borders(np.arange(15)[::-1])
    documents = [part.document(n) for part in parts for n in range(len(part.ends))]
    for start, stop, document in zip(starts[::-1], stops[::-1], documents):
        assert np.array_equal(whole.read(start, stop), document)
    assert [d.tolist() for d in whole.each_document()] == [d.tolist() for d in documents]


def test_shards_are_checked_before_they_are_used(tmp_path, tokenizer):
    write_shard(tmp_path / "tokens" / "train-00000", texts(3), tokenizer, "x")
    assert open_shards(tmp_path).documents == open_shards(tmp_path / "tokens" / "train-00000").documents == 3
    with pytest.raises(UserError, match="valid side"):
        open_shards(tmp_path, tokenizer, "valid")
    with pytest.raises(UserError, match="another tokenizer"):
        open_shards(tmp_path, with_mask(tokenizer))
    with pytest.raises(UserError, match="does not exist"):
        open_shards(tmp_path / "nothing")


def test_a_corpus_build_is_read_as_it_lies(tmp_path):
    from cairn.corpus.pipeline import Recipe, SourceConfig, build
    from cairn.tokenizers import Tokenizer

    (tmp_path / "text").mkdir()
    for i, text in enumerate(texts(40, longest=200)):
        (tmp_path / "text" / f"{i}.txt").write_text(text)
    recipe = Recipe(sources=(SourceConfig(path=str(tmp_path / "text")),), vocab_size=300, part_bytes=12_000)
    build(recipe, tmp_path / "out")
    assert len(list((tmp_path / "out" / "tokens").glob("train-*.bin"))) > 1
    shards = open_shards(tmp_path / "out", Tokenizer.load(tmp_path / "out" / "tokenizer"))
    data = ShardData([shards], rows=2, context=16, device="cpu")
    assert data.batch(3)[0].inputs_BT.shape == (2, 16)


# --- steps, parts, micro-batches


def causal_rows(batch):
    return [(a.tolist(), b.tolist()) for a, b in zip(batch.inputs_BT, batch.targets_BT) if (b != IGNORED).any()]


def masked_rows(batch):
    width = batch.ids_BT.shape[1]
    targets = torch.full((batch.ids_BT.numel(),), IGNORED).index_put((batch.places_N,), batch.targets_N).view(-1, width)
    return [(a.tolist(), b.tolist()) for a, b in zip(batch.ids_BT, targets) if a.any()]


def span_rows(batch):
    return [(a.tolist(), b.tolist()) for a, b in zip(batch.ids_BS, batch.targets_BT) if (b != IGNORED).any()]


KINDS = {
    "cut": (causal_rows, lambda s, t, **k: ShardData([s, s], shares=[0.7, 0.3], context=16, **k)),
    "echoes": (causal_rows, lambda s, t, **k: ShardData([s], context=80, echo=0.5, echo_steps=3, **k)),
    "packed": (causal_rows, lambda s, t, **k: ShardData([s], context=48, packed=True, end_id=t.eos_id, **k)),
    "masked": (masked_rows, lambda s, t, **k: MaskedData([s], with_mask(t), context=16, **k)),
    "masked packed": (masked_rows, lambda s, t, **k: MaskedData([s], with_mask(t), context=48, packed=True, **k)),
    "spans": (span_rows, lambda s, t, **k: SpanData([s], with_sentinels(t), context=24, **k)),
}


@pytest.mark.parametrize("kind", KINDS)
@given(
    step=st.integers(0, 5000),
    rows=st.integers(1, 9),
    micro_rows=st.integers(0, 4),
    count=st.integers(1, 4),
    before=st.lists(st.integers(0, 5000), max_size=2),
)
@settings(max_examples=12, deadline=None)
def test_parts_add_up_to_the_step_whatever_was_asked_for_before(
    shard, tokenizer, kind, step, rows, micro_rows, count, before
):
    rows_of, build = KINDS[kind]
    for at in (step, step % 3):  # the first steps are echoes
        data = build(shard, tokenizer, rows=rows, micro_rows=micro_rows, seed=3, device="cpu")
        whole = list(itertools.chain(*map(rows_of, data.batch(at))))
        for other in before:
            data.batch(other, Part(count - 1, count))
        parts = [data.batch(at, Part(i, count)) for i in range(count)]
        assert len({len(part) for part in parts}) == 1  # all take equally many turns
        for i, part in enumerate(parts):
            assert list(itertools.chain(*map(rows_of, part))) == whole[i::count]
        assert sum(data.weight(b) for part in parts for b in part) == sum(data.weight(b) for b in data.batch(at))


def test_a_seed_gives_another_order(shard, tokenizer):
    for rows_of, build in KINDS.values():
        first, again, other = (
            [rows_of(b) for b in build(shard, tokenizer, rows=4, seed=seed, device="cpu").batch(4)]
            for seed in (1, 1, 2)
        )
        assert first == again != other


def test_micro_batches_hold_at_most_micro_rows(shard):
    data = ShardData([shard], rows=10, micro_rows=4, context=16, device="cpu")
    assert [b.inputs_BT.shape[0] for b in data.batch(0)] == [3, 3, 4]
    assert [b.inputs_BT.shape[0] for b in data.batch(0, Part(1, 2))] == [2, 3]


def test_every_epoch_has_another_order_and_other_cuts(shard):
    data = ShardData([shard], rows=1, context=16, device="cpu")
    (source,) = data.sources
    assert isinstance(source, CutRows)
    size = source.per_epoch
    flat = np.asarray(shard.tokens).astype(np.int64)
    places = []
    for epoch in range(3):
        rows = [data.batch(epoch * size + i)[0].inputs_BT[0].numpy() for i in range(size)]
        covered = sum(len(row) for row in rows)
        assert covered > 0.95 * len(flat) - 2 * 16
        places.append([row.tolist() for row in rows])
    assert places[0] != places[1] != places[2]


def test_examples_are_dealt_to_parts():
    examples = [([i + 1] * (i % 7 + 2), [True] * (i % 7 + 2)) for i in range(40)]
    data = ExampleData(examples, batch_tokens=32, context=64, device="cpu")
    for step in (0, 3, 50, 1):
        whole = causal_first(data.batch(step))
        assert sorted(itertools.chain(*(causal_first(data.batch(step, Part(i, 3))) for i in range(3)))) == sorted(whole)


def causal_first(batches):
    return [int(row[0]) for batch in batches for row in batch.inputs_BT if row.any()]


def test_shards_without_documents_still_give_rows():
    class Bare:
        path, tokens = "bare", np.arange(500, dtype=np.uint16)

    assert ShardData([ShardSet([Bare()])], rows=2, context=8, device="cpu").batch(0)[0].counted == 16  # type: ignore[list-item]


# --- prefetching


class Noted:
    """Data that notes which thread made what, and fails at one step."""

    context = 4

    def __init__(self):
        self.made = []

    def batch(self, step, part=Part()):
        self.made.append((step, part, threading.current_thread().name))
        if step == 7:
            raise UserError("the seventh is broken")
        return [(step, part)]

    def weight(self, batch):
        return 3.0

    def tokens(self, batch):
        return 5


def test_prefetching_changes_nothing_but_when():
    data = Noted()
    with Prefetch(data) as fetched:
        asked = [0, 1, 2, 5, 6, 3, 3, 4]
        parts = [Part(), Part(), Part(0, 2), Part(0, 2), Part(0, 2), Part(), Part(), Part()]
        assert [fetched.batch(s, p) for s, p in zip(asked, parts)] == [[(s, p)] for s, p in zip(asked, parts)]
        assert (fetched.weight(None), fetched.tokens(None), fetched.context) == (3.0, 5, 4)
    threads = {name for _, _, name in data.made}
    assert threads == {"prefetch_0"}  # one thread, so that data need not be safe for two
    assert not any(thread.name in threads for thread in threading.enumerate())  # and it ends


def test_an_error_in_the_thread_is_raised_where_its_batch_is_asked_for():
    with Prefetch(Noted()) as fetched:
        fetched.batch(5)
        assert fetched.batch(6) == [(6, Part())]  # the broken one is being made
        with pytest.raises(UserError, match="seventh"):
            fetched.batch(7)
        assert fetched.batch(8) == [(8, Part())]
