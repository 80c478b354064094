"""Optimizers, schedules, fresh weights, muP and averages: what they must be, and that their state comes back bit for bit."""

import copy
import math
import os
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer, preset
from cairn.models.config import Experts
from cairn.models.norms import RMSNorm
from cairn.models.seq2seq import EncoderDecoder
from cairn.training import mup
from cairn.training.averaging import Average
from cairn.training.initial import SCHEMES, initialize
from cairn.training.optimizers import OPTIMIZERS, AdamW8bit, Muon, build_optimizer, orthogonalize
from cairn.training.optimizers.adamw8bit import Blocks, Rule, block_length, update_blocks, update_in_kernel
from cairn.training.optimizers.eightbit import dequantize, dynamic_map, quantize
from cairn.training.optimizers.groups import Role, members
from cairn.training.optimizers.muon import newton_schulz, newton_schulz_gram, symmetric_product
from cairn.training.schedules import rate


def settings_of(optimizer, **changes):
    base = {"lr": 0.01, "matrix_lr": 0.02, "weight_decay": 0.1, "beta2": 0.95, "momentum": 0.9, "mup_width": 0}
    return SimpleNamespace(optimizer=optimizer, **base | changes)


def small(**changes):
    fields = {"vocab_size": 256, "dim": 64, "layers": 2, "heads": 2, "kv_heads": 1, "ffn_dim": 96, "max_positions": 32}
    return Transformer(ModelConfig(**fields | changes)).initialize(1)


def learn(model, optimizer, first, last, average=None):
    losses = []
    for step in range(first, last):
        ids_BT = torch.randint(0, 256, (4, 16), generator=torch.Generator().manual_seed(step))
        loss = F.cross_entropy(model(ids_BT).flatten(0, 1), (ids_BT * 7 % 256).flatten())
        loss.backward()
        optimizer.step()
        if average is not None:
            average.update()
        losses.append(loss.item())
    return losses


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- groups


def test_parameters_are_told_apart_by_what_they_are():
    found = {m.name: m.role for m in members(small(positions="learned", qkv_bias=True))}
    assert found["embed.weight"] == found["embed_position.weight"] == Role.EMBEDDING
    assert "unembed.weight" not in found  # tied: one parameter
    assert found["blocks.0.attention.q.bias"] == found["norm.weight"] == Role.VECTOR
    assert found["blocks.1.feed_forward.down.weight"] == Role.MATRIX
    untied = {m.name: m.role for m in members(small(tie_embeddings=False, positions="relative"))}
    assert untied["unembed.weight"] == Role.UNEMBEDDING
    assert untied["relative.table.weight"] == Role.EMBEDDING


def test_only_matrices_decay_and_frozen_parameters_are_left_alone():
    model = small(tie_embeddings=False)
    model.blocks[0].attention.q.weight.requires_grad_(False)
    optimizer = build_optimizer(model, settings_of("adamw"))
    (adam,) = optimizer.optimizers
    decayed = {optimizer.names[p] for g in adam.param_groups if g["weight_decay"] for p in g["params"]}
    assert {"unembed.weight", "blocks.0.feed_forward.up.weight"} < decayed
    assert not any("norm" in name or name == "embed.weight" for name in decayed)
    assert "blocks.0.attention.q.weight" not in optimizer.names.values()


def test_each_expert_is_a_matrix_to_muon():
    model = small(experts=Experts(count=4, per_token=2, inner=32))
    muon, _ = build_optimizer(model, settings_of("muon")).optimizers
    assert isinstance(muon, Muon)
    shapes = [tuple(p.shape) for g in muon.param_groups for p in g["params"]]
    assert shapes.count((32, 64)) == 2 * 4 * 2 + 2 * 2  # gate and up of each; keys and values
    assert shapes.count((64, 32)) == 2 * 4  # down


def test_nothing_to_train_is_said():
    model = small()
    model.requires_grad_(False)
    with pytest.raises(UserError, match="frozen"):
        build_optimizer(model, settings_of("adamw"))
    with pytest.raises(UserError, match="known: muon"):
        build_optimizer(small(), settings_of("lion"))


# --- one interface


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_comes_back_bit_for_bit(kind):
    model = small()
    optimizer = build_optimizer(model, settings_of(kind, lr=0.003))
    losses = learn(model, optimizer, 0, 4)
    saved = {name: tensor.clone() for name, tensor in optimizer.state_tensors().items()}
    other = copy.deepcopy(model)
    again = build_optimizer(other, settings_of(kind, lr=0.003))
    fresh = again.state_tensors()  # what a checkpoint is read into
    assert {n: (t.shape, t.dtype) for n, t in fresh.items()} == {n: (t.shape, t.dtype) for n, t in saved.items()}
    assert not any(t.float().abs().sum() for t in fresh.values())
    again.load_state_tensors(saved)
    assert learn(other, again, 4, 7) == learn(model, optimizer, 4, 7)
    assert torch.equal(weights_of(model), weights_of(other))
    assert losses[-1] != losses[0]
    with pytest.raises(ValueError, match="belongs to no parameter"):
        again.load_state_tensors({"nothing.weight/step": torch.zeros(())})


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_made_beforehand_changes_nothing(kind):
    plain, prepared = small(), small()
    a, b = build_optimizer(plain, settings_of(kind)), build_optimizer(prepared, settings_of(kind))
    b.state_tensors()
    assert learn(plain, a, 0, 3) == learn(prepared, b, 0, 3)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_it_learns_and_the_rate_is_a_share_of_the_peak(kind):
    model = small()
    optimizer = build_optimizer(model, settings_of(kind, lr={"sgd": 0.1, "adafactor": 0.3}.get(kind, 0.01)))
    optimizer.set_rate(0.0)
    before = weights_of(model)
    learn(model, optimizer, 0, 1)
    assert torch.equal(before, weights_of(model))
    optimizer.set_rate(0.5)
    optimizer.set_rate(1.0)  # of the peak, not of the rate before
    losses = learn(model, optimizer, 1, 40)
    assert losses[-1] < losses[0] - 0.5
    assert all(p.grad is None for p in model.parameters())


# --- Muon


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 16), (2, 16, 40), (1, 300, 300), (1, 270, 600), (1, 600, 270)])
def test_the_gram_form_is_the_iteration(shape):
    torch.manual_seed(0)
    g = torch.randn(shape) * torch.rand(shape[0], shape[1], 1) ** 4  # singular values over some decades
    written_out = newton_schulz(g.double())
    assert (newton_schulz_gram(g.double()) - written_out).abs().max() < 1e-10
    for form in (newton_schulz, newton_schulz_gram):
        assert (form(g) - written_out).norm() / written_out.norm() < 1e-3
    values = torch.linalg.svdvals(orthogonalize(g))
    assert values.max() < 1.3


@pytest.mark.parametrize("size", [7, 256, 301])
def test_half_of_a_symmetric_product_is_enough(size):
    a = torch.randn(2, size, size, dtype=torch.float64)
    a = a + a.mT
    assert torch.allclose(symmetric_product(a, a, out=torch.empty_like(a)), a @ a, rtol=1e-12, atol=1e-10)


def test_a_gradient_of_zeros_or_of_tiny_numbers_moves_nothing_far():
    for size in (0.0, 1e-12):
        weight = nn.Parameter(torch.ones(8, 24))
        weight.grad = torch.full_like(weight, size)
        Muon([weight], lr=0.1).step()
        assert torch.isfinite(weight).all()
        assert (weight - 1).norm() < 0.1 * 1.3


# --- Adafactor


def test_adafactor_keeps_rows_and_columns_alone():
    model = small()
    optimizer = build_optimizer(model, settings_of("adafactor"))
    learn(model, optimizer, 0, 2)
    state = optimizer.state_tensors()
    rows, columns = model.blocks[0].feed_forward.up.weight.shape
    mine = {n.rsplit("/")[-1]: t.numel() for n, t in state.items() if n.startswith("blocks.0.feed_forward.up")}
    assert mine == {"step": 1, "row": rows, "column": columns}
    assert sum(t.numel() for t in state.values()) < 0.06 * model.parameter_count()


# --- 8 bits


@given(st.integers(0, 10_000), st.booleans(), st.floats(1e-20, 1e20))
@settings(max_examples=30, deadline=None)
def test_a_code_is_the_nearest_number(seed, signed, size):
    torch.manual_seed(seed)
    x = torch.randn(3, 32) ** 3
    x = x if signed else x.abs()
    code, scale = quantize(x * size, signed)
    distance = (x / x.abs().amax(1, keepdim=True))[..., None] - dynamic_map(signed)
    nearest = distance.abs().amin(-1)
    chosen = distance.gather(-1, code.long()[..., None])[..., 0].abs()
    assert (chosen <= nearest + 1e-7).all()
    assert torch.allclose(scale, (x * size).abs().amax(1))


def test_a_block_of_zeros_stays_zero():
    code, scale = quantize(torch.zeros(2, 64), True)
    assert not dequantize(code, scale, True).any()
    assert not scale.any()


@pytest.mark.parametrize("shape", [(8, 256), (3, 96), (5, 33)])
def test_the_kernel_is_its_twin(shape):
    torch.manual_seed(0)
    made = []
    for update in (update_in_kernel, update_blocks):
        generator = torch.Generator().manual_seed(1)
        codes = [torch.zeros(shape, dtype=torch.uint8) for _ in range(2)]
        scales = [torch.zeros(shape[0]) for _ in range(2)]
        weight = torch.randn(shape, generator=generator)
        for step in range(1, 6):
            grad = torch.randn(shape, generator=generator) * torch.rand(shape, generator=generator) ** 6
            grad[1] = 0  # a row without gradients
            blocks = Blocks(weight, grad, codes[0], scales[0], codes[1], scales[1])
            update(blocks, Rule(0.9, 0.95, 0.01 / (1 - 0.9**step), (1 - 0.95**step) ** 0.5, 1e-8, 0.999))
        made.append((weight, dequantize(codes[0], scales[0], True), dequantize(codes[1], scales[1], False)))
    for ours, twin in zip(*made):
        # The same but where a value falls between two numbers and the order of additions decides.
        assert ((ours - twin).abs() > 1e-5).float().mean() < 0.02
        assert (ours - twin).norm() < 0.01 * twin.norm()


def test_kernel_codes_are_exact():
    """One step from nothing: moments are multiples of the gradient, so that codes have one right value."""
    torch.manual_seed(0)
    grad = torch.randn(64, 256) * torch.rand(64, 256) ** 8
    weight, codes, scales = torch.zeros(64, 256), torch.zeros(2, 64, 256, dtype=torch.uint8), torch.zeros(2, 64)
    update_in_kernel(
        Blocks(weight, grad, codes[0], scales[0], codes[1], scales[1]), Rule(0.0, 0.0, 0.0, 1.0, 1e-8, 1.0)
    )
    assert torch.equal(codes[0], quantize(grad, True)[0])
    square = grad.square()
    assert torch.equal(codes[1], torch.where(square > 0, quantize(square, False)[0].clamp(min=1), 0))


def test_blocks_fit_rows():
    lengths = {shape: block_length(torch.empty(shape)) for shape in [(64, 256), (64, 768), (64, 344), (64, 100)]}
    assert lengths == {(64, 256): 256, (64, 768): 256, (64, 344): 172, (64, 100): 100}
    assert block_length(torch.empty(8, 256)) == 0  # few
    assert block_length(torch.empty(100_000)) == 0  # a vector
    assert block_length(torch.empty(64, 509)) == 0  # a prime has no blocks


def test_eight_bits_take_a_quarter_and_learn_alike():
    losses, sizes = {}, {}
    for kind in ("adamw", "adamw8bit"):
        model = small(dim=128, ffn_dim=512)
        optimizer = build_optimizer(model, settings_of(kind, lr=0.003))
        losses[kind] = learn(model, optimizer, 0, 60)
        sizes[kind] = sum(t.numel() * t.element_size() for t in optimizer.state_tensors().values())
    assert sizes["adamw8bit"] < 0.27 * sizes["adamw"]
    assert losses["adamw"][-1] < losses["adamw"][0] - 1.5
    apart = [abs(a - b) for a, b in zip(*losses.values())]
    assert max(apart) < 0.05
    assert any(apart)


def test_a_second_moment_is_never_rounded_to_zero():
    """Beside a first moment that is not, an update would be as large as 1 / eps."""
    weight = nn.Parameter(torch.zeros(32, 128))
    optimizer = AdamW8bit([weight], lr=1.0, betas=(0.9, 0.95))
    grad = torch.full((32, 128), 1e-5)
    grad[:, 0] = 1.0
    weight.grad = grad
    optimizer.step()
    weight.grad = torch.zeros_like(grad)
    before = weight.detach().clone()
    optimizer.step()
    assert (weight - before).abs().max() < 1.5


# --- schedules


def test_warm_up_goes_to_the_peak_and_final_is_what_is_left():
    for kind in ("linear", "cosine", "wsd"):
        factors = [rate(kind, step, 101, 1, 0.1) for step in range(102)]
        assert factors[0] == factors[1] == 1.0
        assert factors[101] == pytest.approx(0.1)
        assert factors == sorted(factors, reverse=True)
    assert [rate("constant", step, 9, 4) for step in (0, 3, 4, 8)] == [0.25, 1.0, 1.0, 1.0]
    assert rate("wsd", 80, 101, 1) == 1.0 > rate("wsd", 82, 101, 1)
    assert rate("inverse-sqrt", 400, 1000, 100) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="known: constant"):
        rate("step", 5, 10, 0)


# --- averages


def test_the_average_is_swapped_in_and_out_bit_for_bit():
    model = small()
    optimizer, average = build_optimizer(model, settings_of("muon")), Average(model, 0.8)
    learn(model, optimizer, 0, 5, average)
    own = weights_of(model)
    with pytest.raises(KeyError), average.swapped():
        assert not torch.equal(weights_of(model), own)
        assert torch.equal(model.embed.weight, average.tensors()["embed.weight"])
        raise KeyError
    assert torch.equal(weights_of(model), own)
    average.apply()
    assert torch.equal(model.norm.weight, average.tensors()["norm.weight"])
    assert int(average.tensors()["updates"]) == 5


def test_an_average_goes_on_where_it_was():
    model = small()
    optimizer, average = build_optimizer(model, settings_of("adamw")), Average(model, 0.9)
    learn(model, optimizer, 0, 3, average)
    other = Average(copy.deepcopy(model), 0.9)
    other.load({name: tensor.clone() for name, tensor in average.tensors().items()})
    assert all(torch.equal(a, b) for a, b in zip(average.tensors().values(), other.tensors().values()))
    average.update()
    other.update()
    assert all(torch.equal(a, b) for a, b in zip(average.tensors().values(), other.tensors().values()))
    with pytest.raises(ValueError, match="another model"):
        other.load({"updates": torch.tensor(1)})


def test_the_first_averages_follow_the_weights():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.999)
    with torch.no_grad():
        start = model.weight.item()
        model.weight.add_(1.0)
    average.update()
    assert float(average.tensors()["weight"]) == pytest.approx(start + 0.9)


# --- fresh weights


def test_gpt2_weights_are_those_of_the_model():
    for config in (preset("pebble"), preset("stone")):
        model = Transformer(config)
        ours = weights_of(initialize(model, "gpt2", 5)).clone()
        assert torch.equal(ours, weights_of(Transformer(config).initialize(5)))


@pytest.mark.parametrize("kind", SCHEMES)
def test_variances_are_those_of_the_scheme(kind):
    model = initialize(Transformer(ModelConfig(vocab_size=512, dim=256, layers=2, ffn_dim=1024)), kind, 3)
    for matrix, depth in ((model.blocks[0].feed_forward.up.weight, 1), (model.blocks[1].feed_forward.down.weight, 4)):
        fan_out, fan_in = matrix.shape
        wanted = {"gpt2": 0.02**2, "xavier": 2 / (fan_in + fan_out), "he": 2 / fan_in}[kind]
        assert matrix.var().item() == pytest.approx(wanted / depth, rel=0.02)
        assert abs(matrix.mean().item()) < 5 * math.sqrt(wanted / matrix.numel())
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert (model.norm.weight == 1).all()


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_seed_gives_one_model(kind):
    first, second, other = (weights_of(initialize(small(), kind, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_encoder_decoders_and_other_models():
    config = ModelConfig(
        family="t5", vocab_size=64, dim=32, layers=1, encoder_layers=1, heads=2, kv_heads=2, ffn_dim=48
    )
    pair = EncoderDecoder(config)
    assert torch.equal(
        weights_of(initialize(pair, "gpt2", 1)).clone(), weights_of(EncoderDecoder(config).initialize(1))
    )
    assert initialize(pair, "he", 1).encoder.blocks[0].attention.q.weight.std().item() == pytest.approx(0.25, rel=0.1)
    with pytest.raises(UserError, match="for Transformers"):
        initialize(nn.Linear(2, 2), "he", 1)
    with pytest.raises(UserError, match="known: gpt2"):
        initialize(small(), "zeros", 1)


# --- muP


def wide(width, scaled, *, heads=0, tied=True):
    heads = heads or width // 32
    shape = {"dim": width, "ffn_dim": 4 * width, "heads": heads, "kv_heads": heads, "vocab_size": 64}
    model = small(**shape, gated=False, activation="gelu", tie_embeddings=tied)
    if scaled:
        mup.scale(model, 64, 32 if heads == 2 else 0)
    return initialize(model, "gpt2", 0, mup_width=64 if scaled else 0)


RATES = {"adamw": 0.003, "adamw8bit": 0.003, "adafactor": 0.03, "muon": 0.003}


def change_of_activations(width, scaled, optimizer, **shape):
    """Root mean square of what 6 steps changed in each layer's output and in the logits."""
    model = wide(width, scaled, **shape)
    trainer = build_optimizer(
        model, settings_of(optimizer, lr=RATES[optimizer], weight_decay=0.0, mup_width=64 if scaled else 0)
    )
    ids_BT = torch.randint(0, 64, (4, 32), generator=torch.Generator().manual_seed(1))

    def outputs():
        found = []
        layers = [layer for block in model.blocks for layer in (block.attention, block.feed_forward)]
        hooks = [layer.register_forward_hook(lambda _, inputs, output: found.append(output)) for layer in layers]
        with torch.no_grad():
            found.append(model(ids_BT))
        for hook in hooks:
            hook.remove()
        return found

    before = outputs()
    for _ in range(6):
        F.cross_entropy(model(ids_BT).flatten(0, 1), ((ids_BT * 7 + 3) % 64).flatten()).backward()
        trainer.step()
    return [(now - then).square().mean().sqrt().item() for now, then in zip(outputs(), before)]


def growth(scaled, optimizer, widths, **shape):
    """Power of the width with which each change grows."""
    sizes = torch.tensor([change_of_activations(w, scaled, optimizer, **shape) for w in widths]).log2()
    x = torch.tensor(widths).log2()
    x = x - x.mean()
    return (x[:, None] * sizes).sum(0) / (x * x).sum()


@pytest.mark.parametrize("shape", [{}, {"heads": 2, "tied": False}], ids=["more heads, tied", "larger heads, untied"])
def test_with_mup_activations_change_alike_at_every_width(shape):
    """The coordinate check of Yang et al. 2022, appendix D."""
    widths = (64, 128, 256)
    assert growth(False, "adamw", widths, **shape).min() > 0.5
    assert growth(True, "adamw", widths, **shape).abs().max() < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adafactor", "adamw8bit"])
def test_with_mup_activations_change_alike_up_to_512(optimizer):
    widths = (64, 128, 256, 512)
    assert growth(False, optimizer, widths).min() > 0.5
    assert growth(True, optimizer, widths).abs().max() < 0.25


@pytest.mark.parametrize("norm", ["plain", "offset", "head"])
def test_factors_of_mup_fold_into_the_weights(norm):
    model = small(
        dim=128, heads=2, kv_heads=2, norm_offset=norm == "offset", qk_norm="head" if norm == "head" else "none"
    )
    ordinary = model.config
    mup.scale(model, 32, 16)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.weight.add_(torch.randn_like(module.weight) * 0.1)
    ids_BT = torch.randint(0, 256, (2, 16))
    with torch.no_grad():
        wanted, plain = model(ids_BT), small()(ids_BT)
        assert model.config.logit_scale == 0.25
        assert model.config.score_scale == pytest.approx(0.5 * 64**-0.5)
        assert plain.std() > 2 * wanted.std()
        mup.fold(model, 32, 16)
        same = Transformer(ordinary)
        same.load_state_dict(model.state_dict())
        for folded in (model, same):
            torch.testing.assert_close(folded(ids_BT), wanted, rtol=1e-4, atol=1e-5)


def test_rates_and_decay_of_mup():
    model = small(dim=128)
    (adam,) = build_optimizer(model, settings_of("adamw", mup_width=32)).optimizers
    groups = {(round(g["lr"], 9), round(g["weight_decay"], 9)) for g in adam.param_groups}
    assert groups == {(0.01, 0.0), (0.0025, 0.4)}  # what decay takes off a matrix, lr * decay, stays
    muon, rest = build_optimizer(model, settings_of("muon", mup_width=32)).optimizers
    assert muon.param_groups[0]["lr"] == 0.02
    assert rest.param_groups[0]["lr"] == 0.01
    with pytest.raises(UserError, match="rates of sgd do not transfer"):
        build_optimizer(model, settings_of("sgd", mup_width=32))
    with pytest.raises(UserError, match="unembedding"):
        mup.scale(small(head="none"), 32)


# --- DTensors


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(70, 64)
        self.up, self.gate, self.down = nn.Linear(64, 512), nn.Linear(64, 512), nn.Linear(512, 64)


def compare_with_plain(rank, port):
    """Four steps on plain tensors and on DTensors laid out as FSDP2 and tensor parallelism do."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "4"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    for layout in ("shard", "replicas of shards", "tensor", "shard x tensor"):
        for kind in OPTIMIZERS:
            torch.manual_seed(0)
            plain = Both()
            divided = copy.deepcopy(plain)
            if "tensor" in layout:
                plan = {"up": ColwiseParallel(), "gate": ColwiseParallel(), "down": RowwiseParallel()}
                parallelize_module(divided, mesh["tensor"], plan)
            if layout == "shard":
                fully_shard(divided, mesh=init_device_mesh("cpu", (4,)))
            elif layout == "replicas of shards":
                fully_shard(divided, mesh=mesh)
            elif layout == "shard x tensor":
                fully_shard(divided, mesh=mesh["data"])
            optimizers = [build_optimizer(model, settings_of(kind)) for model in (plain, divided)]
            averages = [Average(model, 0.5) for model in (plain, divided)]
            for _ in range(4):
                for p, q in zip(plain.parameters(), divided.parameters()):
                    p.grad = torch.randn_like(p)
                    q.grad = p.grad.clone()
                    if isinstance(q, DTensor):
                        whole = [Replicate()] * q.device_mesh.ndim
                        q.grad = DTensor.from_local(p.grad, q.device_mesh, whole).redistribute(placements=q.placements)
                for optimizer, average in zip(optimizers, averages):
                    optimizer.step()
                    average.update()
            # Under tensor parallelism rows are shorter, and so are blocks of 8 bits: other roundings.
            limit = 3e-3 if kind == "adamw8bit" else 1e-6
            for a, b in zip(averages[0].tensors().values(), averages[1].tensors().values()):
                b = b.full_tensor() if isinstance(b, DTensor) else b
                assert (a - b).abs().max() <= limit, (layout, kind)
            states = [optimizer.state_tensors() for optimizer in optimizers]
            assert states[0].keys() == states[1].keys()
            if kind != "adamw8bit":
                assert all(states[0][name].shape == states[1][name].shape for name in states[0])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_divided_parameters_move_as_whole_ones():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(compare_with_plain, (port,), nprocs=4)
