"""The fast decode path: the numbers of the model itself, whatever stands beside a token, and never weights that are gone."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cairn.kernels.decode import SPLITS
from cairn.models import PAGE, ModelConfig, PagedCache, Segment, Transformer, preset
from cairn.models.config import Experts, Latent, RopeScaling
from cairn.models.fast import FastDecoder, _stretches
from cairn.models.linear import Linear, few_rows_linear
from cairn.quantization import QuantizedLinear, quantize

PAGES = 60


def built(config, seed=0):
    """Weights large enough that every part of a layer shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.ndim == 1 else p.shape[-1] ** -0.5))
            if p.ndim == 1:
                p += 1.0
    return model


def filled(config, seed=0):
    """A cache that has seen texts: random keys and values everywhere."""
    generator = torch.Generator().manual_seed(seed)
    cache = PagedCache(config, PAGES)
    for store in cache.k_SGK + cache.v_SGK:
        store.copy_(torch.randn(store.shape, generator=generator))
    return cache


def compare(model, segments, ids, *, fast=None):
    """Hidden states of the fast path, and its and the model's difference. The model runs on a cache of its own, and what
    both caches hold afterwards is compared as well."""
    own, theirs = filled(model.config), filled(model.config)
    fast = fast or FastDecoder(model)
    ids_1N = torch.tensor([ids])
    with torch.no_grad():
        found = fast.hidden(ids_1N, own.step(segments))
        wanted = model.hidden(ids_1N, theirs.step(segments))
    for ours, other in zip(own.k_SGK + own.v_SGK, theirs.k_SGK + theirs.v_SGK):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-4)
    return found


@st.composite
def configs(draw):
    kv_heads, groups = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 2)]))
    place = draw(st.sampled_from(["pre", "pre", "sandwich", "output"]))
    parallel = place == "pre" and draw(st.booleans())
    window = draw(st.sampled_from([0, 0, 5, 20]))
    layers = draw(st.integers(1, 3))
    positions = draw(st.sampled_from(["rope", "rope", "learned", "alibi", "none"]))
    scaling = None
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["linear", "yarn", "llama3"]))
        scaling = RopeScaling(kind=kind, factor=2.0, original_positions=64)
    flag = st.booleans()
    return ModelConfig(
        vocab_size=50, dim=draw(st.sampled_from([12, 40, 136])), layers=layers, heads=kv_heads * groups, kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([8, 20])), ffn_dim=draw(st.sampled_from([17, 64])), max_positions=256,
        norm=draw(st.sampled_from(["rmsnorm", "layernorm"])), norm_bias=draw(flag), norm_offset=draw(flag),
        norm_eps=draw(st.sampled_from([1e-5, 1e-2])), norm_place=place, first_norm=place != "pre" or draw(flag),
        final_norm=draw(flag),
        qk_norm=draw(st.sampled_from(["none", "head", "width"])), parallel=parallel,
        shared_norm=parallel and draw(flag), positions=positions,
        position_offset=draw(st.sampled_from([0, 2])) if positions == "learned" else 0,
        rope_local_theta=draw(st.sampled_from([0.0, 100.0])), rope_fraction=draw(st.sampled_from([1.0, 0.5])),
        rope_scaling=scaling, embed_scale=draw(st.sampled_from([1.0, 3.5])), embed_norm=draw(flag),
        qkv_bias=draw(flag), out_bias=draw(flag), window=window,
        window_layers=tuple(draw(st.lists(flag, min_size=layers, max_size=layers))) if window and draw(flag) else (),
        sinks=draw(st.sampled_from([0, 3])), score_scale=draw(st.sampled_from([0.0, 0.2])),
        score_cap=draw(st.sampled_from([0.0, 4.0])), ffn_bias=draw(flag), gated=draw(flag),
        activation=draw(st.sampled_from(["silu", "gelu", "gelu_tanh", "relu"])), tie_embeddings=draw(flag),
    )  # fmt: skip


@st.composite
def steps(draw, most=16):
    """Segments of several sequences, of mixed lengths, whose pages lie in any order."""
    pages = draw(st.permutations(range(PAGES)))
    segments, used, left = [], 0, most
    for _ in range(draw(st.integers(1, 5))):
        count = min(draw(st.sampled_from([1, 1, 1, 2, 8])), left)
        start = draw(st.integers(0, 150))
        need = -(-(start + count) // PAGE)
        if count == 0 or used + need > PAGES:
            break
        segments.append(Segment(pages[used : used + need], start, count))
        used, left = used + need, left - count
    return segments or [Segment([pages[0]], 0, 1)]


def only_fast(model):
    """A fast path that fails when it leans on the model."""
    fast = FastDecoder(model)

    def refuse(*_):
        raise AssertionError("the model was asked")

    fast.model = type("Refusing", (), {"hidden": staticmethod(refuse)})()
    return fast


def ids_of(segments, seed=0):
    return np.random.default_rng(seed).integers(0, 50, sum(s.count for s in segments)).tolist()


@given(configs(), steps(), st.integers(0, 9))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equal_to_the_model_for_every_covered_configuration(config, segments, seed):
    model = built(config, seed)
    assert FastDecoder.fits(model)
    compare(model, segments, ids_of(segments, seed), fast=only_fast(model))


@given(configs(), steps())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equal_to_torch_without_any_kernel(config, segments):
    """Under gradients neither linear layers nor the cache take a kernel."""
    model = built(config)
    ids_1N = torch.tensor([ids_of(segments)])
    wanted = model.hidden(ids_1N, filled(config).step(segments)).detach()
    with torch.no_grad():
        found = only_fast(model).hidden(ids_1N, filled(config).step(segments))
    torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-4)


@given(configs(), steps())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_row_does_not_depend_on_the_others(config, segments):
    fast = only_fast(built(config))
    ids, first = ids_of(segments), 0
    with torch.no_grad():
        together = fast.hidden(torch.tensor([ids]), filled(config).step(segments))[0]
        for segment in segments:
            cache = filled(config)
            for n in range(segment.count):  # alone, and one token after the other
                step = cache.step([Segment(segment.pages, segment.start + n, 1)])
                alone = fast.hidden(torch.tensor([[ids[first + n]]]), step)[0, 0]
                assert torch.equal(alone, together[first + n])
            first += segment.count


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    config = ModelConfig(vocab_size=50, dim=24, layers=2, heads=2, kv_heads=2, ffn_dim=40, parallel=True)
    fast, segments = only_fast(built(config)), [Segment(range(5), 40, 2), Segment(range(9, 12), 7, 1)]
    ids_1N, before = torch.tensor([ids_of(segments)]), torch.get_num_threads()
    assert fast._plan is not None
    with torch.no_grad():
        one = fast.hidden(ids_1N, filled(config).step(segments))
        fast._plan.large = True
        try:
            torch.set_num_threads(threads)
            several = fast.hidden(ids_1N, filled(config).step(segments))
            with pytest.raises(IndexError):
                fast.hidden(ids_1N + 50, filled(config).step(segments))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(one, several)


def test_stretches_cover_every_phase_once():
    stretches = _stretches(3, SPLITS)
    assert [begin for begin, *_ in stretches[1:]] == [end for _, end, _ in stretches[:-1]]
    assert (stretches[0][0], stretches[-1][1]) == (0, 2 + 3 * len(SPLITS))
    assert sum(splits for *_, splits in stretches) == 3 * sum(SPLITS)
    assert all(a[2] or b[2] for a, b in pairwise(stretches))


def test_tables_grow_with_the_text():
    config = ModelConfig(vocab_size=50, dim=16, heads=2, kv_heads=1, ffn_dim=20, layers=1, max_positions=900)
    for positions in ("rope", "alibi"):
        model = built(dataclasses.replace(config, positions=positions))
        compare(model, [Segment(range(56), 880, 3)], [3, 4, 5], fast=only_fast(model))


# --- weights are read where they lie

PEBBLE = preset("pebble")
STEP = [Segment([3, 1], 17, 2), Segment([7], 4, 1)]


def test_training_in_place_is_seen():
    model = built(PEBBLE)
    fast = only_fast(model)
    before = compare(model, STEP, [1, 2, 3], fast=fast)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([[1, 2, 3]])).square().mean().backward()
    optimizer.step()
    after = compare(model, STEP, [1, 2, 3], fast=fast)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("path", ["embed", "norm", "blocks.1.attention.k", "blocks.0.feed_forward.down"])
def test_replaced_parameters_are_noticed(path):
    model = built(PEBBLE)
    fast = FastDecoder(model)
    before = compare(model, STEP, [1, 2, 3], fast=fast)
    module = model.get_submodule(path)
    module.weight = nn.Parameter(module.weight.detach() * 1.5)
    after = compare(model, STEP, [1, 2, 3], fast=fast)
    module.weight.data = module.weight.data * 1.5
    last = compare(model, STEP, [1, 2, 3], fast=fast)
    assert not torch.allclose(before, after)
    assert not torch.allclose(after, last)


class Doubled(Linear):
    """An adapter, as it were."""

    def forward(self, input):
        return 2 * super().forward(input)


def test_a_module_put_in_another_s_place_is_asked_itself():
    model = built(PEBBLE)
    fast = FastDecoder(model)
    before = compare(model, STEP, [1, 2, 3], fast=fast)
    old = model.blocks[1].attention.v
    model.blocks[1].attention.v = Doubled(old.in_features, old.out_features, bias=False)
    model.blocks[1].attention.v.weight = old.weight
    assert not FastDecoder.fits(model)
    after = compare(model, STEP, [1, 2, 3], fast=fast)
    assert not torch.allclose(before, after)


def test_hooks_are_called():
    model = built(PEBBLE)
    fast = FastDecoder(model)
    seen = []
    handle = model.blocks[0].feed_forward.register_forward_hook(lambda *_: seen.append(1))
    compare(model, STEP, [1, 2, 3], fast=fast)
    assert len(seen) == 2  # of the fast path's call, and of the comparison
    handle.remove()
    compare(model, STEP, [1, 2, 3], fast=fast)
    assert len(seen) == 2


# --- what goes to the model itself


def test_what_does_not_fit():
    shape = {"vocab_size": 50, "dim": 16, "layers": 1, "heads": 2, "kv_heads": 1, "ffn_dim": 20}
    assert FastDecoder.fits(Transformer(ModelConfig(**shape)))
    for other in (
        {"experts": Experts(count=2, per_token=1, inner=8)},
        {"norm_place": "post"},
        {"rope_interleaved": True},
        {"rope_scaling": RopeScaling(kind="dynamic", factor=2.0)},
        {"positions": "sinusoidal"},
        {"causal": False},
        {"latent": Latent(kv_rank=8, rope_dim=4, value_dim=8)},
    ):
        assert not FastDecoder.fits(Transformer(ModelConfig(**shape, **other))), other
    assert not FastDecoder.fits(Transformer(ModelConfig(**shape)).bfloat16())
    assert not FastDecoder.fits(nn.Linear(2, 2))


def test_quantized_layers_do_not_fit():
    model = built(PEBBLE)
    feed_forward = model.blocks[1].feed_forward
    feed_forward.up = QuantizedLinear(*quantize(feed_forward.up.weight.detach(), 8), 8)
    assert not FastDecoder.fits(model)


@pytest.mark.parametrize("segments", [[Segment(range(2), 0, 9)], [Segment([i], i, 1) for i in range(15)] * 2])
def test_larger_steps_go_to_the_model(segments):
    model = built(PEBBLE)
    with torch.no_grad(), pytest.raises(AssertionError, match="the model was asked"):
        only_fast(model).hidden(torch.tensor([ids_of(segments)]), filled(PEBBLE).step(segments))
    compare(model, segments, ids_of(segments))


def test_gradients_go_to_the_model():
    model = built(PEBBLE)
    hidden = FastDecoder(model).hidden(torch.tensor([[5]]), filled(PEBBLE).step([Segment([0], 3, 1)]))
    hidden.sum().backward()
    assert model.embed.weight.grad is not None


def test_ids_positions_and_pages_outside_are_refused():
    learned = ModelConfig(vocab_size=50, dim=16, layers=1, heads=2, kv_heads=1, ffn_dim=20, positions="learned",
                          max_positions=20)  # fmt: skip
    fast = only_fast(built(learned))
    for token, segment in (
        (50, Segment([0], 0, 1)),
        (-1, Segment([0], 0, 1)),
        (1, Segment(range(3), 20, 1)),
        (1, Segment([PAGES], 0, 1)),
    ):
        with torch.no_grad(), pytest.raises(IndexError, match="outside"):
            fast.hidden(torch.tensor([[token]]), filled(learned).step([segment]))


# --- the few-rows linear layer


@given(st.integers(1, 16), st.integers(1, 70), st.integers(1, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_few_rows_linear_is_linear(rows, inputs, outputs, bias):
    generator = torch.Generator().manual_seed(rows * inputs)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    bias_O = torch.randn(outputs, generator=generator) if bias else None
    found = few_rows_linear(x, weight, bias_O)
    torch.testing.assert_close(found, F.linear(x, weight, bias_O), rtol=1e-4, atol=1e-4)
    assert torch.equal(found[:1], few_rows_linear(x[:1], weight, bias_O))


def _fewer_blocks(model):
    model.blocks = model.blocks[:1]


def _narrower(model):
    for block in model.blocks:
        part = block.feed_forward
        for name in ("gate", "up"):
            linear = getattr(part, name)
            linear.weight = torch.nn.Parameter(linear.weight[:16].detach().clone())
        part.down.weight = torch.nn.Parameter(part.down.weight[:, :16].detach().clone())


def _own_forward(model):
    attention = model.blocks[0].attention
    attention.forward = lambda x, context: torch.zeros_like(x)


def _parametrized(model):
    class Doubled(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    torch.nn.utils.parametrize.register_parametrization(model.blocks[0].attention.q, "weight", Doubled())


@pytest.mark.parametrize("change", [_fewer_blocks, _narrower, _own_forward, _parametrized])
@pytest.mark.parametrize("when", ["before", "after"])
def test_models_that_were_operated_on(change, when):
    """A kernel reads what the configuration says: where the model is another, the model computes."""
    model = built(ModelConfig(vocab_size=50, dim=16, layers=3, heads=2, kv_heads=1, ffn_dim=88, max_positions=20))
    if when == "before":
        change(model)
    fast = FastDecoder(model)
    cache = PagedCache(model.config, 4)
    ids = torch.tensor([[1, 2, 3]])
    if when == "after":
        with torch.inference_mode():
            fast.hidden(ids, cache.step([Segment([0], 0, 3)]))
        change(model)
    with torch.inference_mode():
        expected = model.hidden(ids, cache.step([Segment([1], 0, 3)]))
        found = fast.hidden(ids, cache.step([Segment([2], 0, 3)]))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_pages_of_all_positions_are_checked():
    model = built(ModelConfig(vocab_size=50, dim=16, layers=1, heads=2, kv_heads=1, ffn_dim=20, max_positions=64))
    cache = PagedCache(model.config, 2)
    for segment in (Segment([10**7, 1], 16, 1), Segment([-3, 1], 16, 1)):
        with pytest.raises(IndexError, match="outside"):
            cache.step([segment])
    with pytest.raises(ValueError, match="do not fit"):
        cache.step([Segment([0], -1, 1)])
