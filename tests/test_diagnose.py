"""Reading a run and checking before it: planted faults are named, healthy runs are left alone."""

import dataclasses
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from cairn.cli.main import main
from cairn.core.errors import UserError
from cairn.core.record import read_metrics
from cairn.models import ModelConfig, Transformer
from cairn.models.config import Experts
from cairn.training import CausalLM, TrainConfig, make_batch, train
from cairn.training.causal import TokenBatch
from cairn.training.diagnose import NOTE, SEVERE, Run, diagnose, read_run
from cairn.training.diagnose.robust import noise, running_median, theil_sen
from cairn.training.fault import first_not_finite
from cairn.training.losses import IGNORED
from cairn.training.objective import Part
from cairn.training.overfit import overfit_one_batch
from cairn.training.rate_test import RateTestConfig, picture, rate_test, suggest
from cairn.training.targets import irreducible
from cairn.training.trial import Trial
from cairn.training.watch import Watch, layers_of

V = 64
CPU, ALONE = torch.device("cpu"), Part()


class Chain:
    """Rows of a Markov chain of V states, about 2.4 nats a token; with `pool` the same few rows again and again."""

    context = 16

    def __init__(self, rows=8, pool=0):
        rng = np.random.default_rng(0)
        self.rows = rows
        self.sums = rng.dirichlet(np.full(V, 0.1), size=V).cumsum(1)
        self.pool = self.sample(pool, np.random.default_rng(99)) if pool else None

    def sample(self, count, rng):
        ids = np.zeros((count, self.context + 1), dtype=np.int64)
        ids[:, 0] = rng.integers(0, V, count)
        for t in range(self.context):
            ids[:, t + 1] = np.minimum((self.sums[ids[:, t]] < rng.random(count)[:, None]).sum(1), V - 1)
        return ids

    def batch(self, step, part=ALONE):
        rng = np.random.default_rng([1, step])
        ids = (
            self.sample(self.rows, rng) if self.pool is None else self.pool[rng.integers(0, len(self.pool), self.rows)]
        )
        return [make_batch(ids.tolist(), None, CPU)]

    def weight(self, batch):
        return float(batch.counted)

    def tokens(self, batch):
        return batch.inputs_BT.numel()


def small(**changes):
    shape = {"vocab_size": V, "dim": 32, "layers": 2, "heads": 2, "kv_heads": 2, "ffn_dim": 96, "max_positions": 64}
    return Transformer(ModelConfig(**(shape | changes))).initialize(1)


def trained(run, model=None, data=None, **changes):
    """Train with the trainer and diagnose what it left."""
    model, data = model or small(layers=1), data or Chain()
    held = make_batch(Chain().sample(16, np.random.default_rng(7)).tolist(), None, CPU)

    def evaluate(model):
        with torch.no_grad():
            return {"valid_loss": float(CausalLM().loss(model, held)[0]) / held.counted}

    config = {"steps": 90, "log_every": 3, "watch_every": 15, "evaluate_every": 9, "warmup": 10, "device": "cpu"}
    config = TrainConfig(**(config | {"optimizer": "adamw", "lr": 0.01, "checkpoint_every": 1000} | changes))
    train(model, CausalLM(), data, config, run, title="test", inputs=0, evaluate=evaluate)
    return diagnose(run)


def names(diagnosis, severity=None):
    return [f.name for f in diagnosis.findings if not f.follows and (severity is None or f.severity == severity)]


# --- healthy runs: nothing wrong


@pytest.mark.parametrize(
    ("model", "rows", "changes"),
    [
        ({}, 8, {"optimizer": "muon", "matrix_lr": 0.02}),
        ({"activation": "relu", "gated": False, "ffn_bias": True, "norm": "layernorm"}, 8, {"schedule": "cosine"}),
        ({}, 2, {"log_every": 1, "steps": 120, "lr": 3e-3}),  # two rows a step: noise as large as the trend
    ],
    ids=["muon", "relu", "noisy"],
)
def test_a_healthy_run_has_nothing_wrong(tmp_path, model, rows, changes):
    diagnosis = trained(tmp_path, small(**model), Chain(rows), **changes)
    assert diagnosis.verdict == "nothing wrong", diagnosis.findings
    assert "no validation" not in names(diagnosis)


def curve(seed, count=120, kind="normal", size=0.05, wobble=0.0):
    """A loss as runs have it: a power law with noise, and a slow wobble as of text that is unevenly hard."""
    rng = np.random.default_rng(seed)
    x = np.arange(1, count + 1)
    shape = 2.5 + 2 * (x / 5 + 1) ** -0.4
    spread = {"normal": rng.normal(size=count), "heavy": rng.standard_t(6, count), "skew": rng.gamma(2, size=count) - 2}
    return shape + size * spread[kind] + wobble * np.sin(x / 9 + seed)


def rows_of(loss, every=10, **columns):
    rows = [{"step": (i + 1) * every, "loss": float(value)} for i, value in enumerate(loss)]
    for key, values in columns.items():
        rows = [row | {key: float(v)} if v is not None else row for row, v in zip(rows, values)]
    return rows


def test_noise_alone_triggers_nothing(tmp_path):
    """Over 240 curves with noise of three kinds and sizes, without and with validation of its own noise."""
    wrong = []
    for seed in range(80):
        for kind, size in (("normal", 0.02), ("heavy", 0.06), ("skew", 0.2)):
            loss = curve(seed, kind=kind, size=size, wobble=size / 2)
            rng = np.random.default_rng(seed)
            valid = [v + 0.1 + 0.01 * rng.normal() if i % 10 == 0 else None for i, v in enumerate(curve(seed, size=0))]
            run = Run(tmp_path, rows_of(loss, valid_loss=valid), facts={"vocab_size": 150})
            wrong += [(seed, kind, f.name) for f in diagnose(run).wrong]
    assert not wrong


# --- planted faults, by training


def test_twenty_rows_are_overfitted(tmp_path):
    diagnosis = trained(tmp_path, data=Chain(pool=20), steps=150)
    assert names(diagnosis, SEVERE) == ["overfitting"]
    (finding,) = [f for f in diagnosis.findings if f.name == "overfitting"]
    assert finding.figures["end"] > 1.1 * finding.figures["best"]
    valid = {row["step"]: row["valid_loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "valid_loss" in row}
    assert finding.step == min(valid, key=valid.__getitem__)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_hundredfold_rate_is_too_high(tmp_path, optimizer):
    diagnosis = trained(tmp_path, lr=1.0, matrix_lr=2.0, optimizer=optimizer)
    assert names(diagnosis, SEVERE) == ["learning rate too high"]


def test_a_rate_that_moves_nothing_is_too_low(tmp_path):
    diagnosis = trained(tmp_path, lr=1e-7)
    assert names(diagnosis, SEVERE) == ["learning rate too low"]
    assert next(f for f in diagnosis.findings if f.name == "not learning").follows == "learning rate too low"


def test_without_layers_a_rate_that_moves_nothing_is_seen_by_the_loss(tmp_path):
    assert names(trained(tmp_path, lr=1e-7, watch_every=0), SEVERE) == ["not learning"]


def test_weights_ten_times_too_large(tmp_path):
    model = small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    diagnosis = trained(tmp_path, model, log_every=1, lr=3e-3)
    assert "bad initialisation" in names(diagnosis)
    assert set(names(diagnosis, SEVERE)) <= {"bad initialisation"}


def test_units_that_a_bias_keeps_off(tmp_path):
    model = small(activation="relu", gated=False, ffn_bias=True)
    with torch.no_grad():
        for block in model.blocks:
            block.feed_forward.up.bias.fill_(-10)
    diagnosis = trained(tmp_path, model)
    assert names(diagnosis, SEVERE) == ["dead units"]
    assert diagnosis.findings[0].figures["dead"] == {f"blocks.{i}": 1.0 for i in range(2)}


class Sigmoid(nn.Module):
    """A layer as before 2010: no residual stream, and a slope of a quarter at most."""

    def __init__(self, dim):
        super().__init__()
        self.layer = nn.Linear(dim, dim)

    def forward(self, x_BTD, context):
        return torch.sigmoid(self.layer(x_BTD))


def test_a_deep_stack_of_sigmoids_loses_its_gradient(tmp_path):
    model = small()
    torch.manual_seed(0)
    model.blocks = nn.ModuleList(Sigmoid(32) for _ in range(10))
    diagnosis = trained(tmp_path, model)
    assert names(diagnosis, SEVERE) == ["vanishing gradients"]
    assert diagnosis.findings[0].figures["first"] < 1e-3 * diagnosis.findings[0].figures["last"]


class Faulty(Chain):
    """Rows that are random from step `first` to `last`."""

    def __init__(self, first, last):
        super().__init__()
        self.first, self.last = first, last

    def batch(self, step, part=ALONE):
        if not self.first <= step < self.last:
            return super().batch(step, part)
        ids = np.random.default_rng(step).permuted(np.tile(np.arange(V), (8, 1)), axis=1)[:, : self.context + 1]
        return [make_batch(ids.tolist(), None, CPU)]


def test_bad_data_for_a_few_steps_is_a_spike_and_for_good_a_divergence(tmp_path):
    spike = trained(tmp_path / "spike", data=Faulty(45, 48), steps=81)
    assert names(spike, SEVERE) == []
    (finding,) = spike.wrong
    assert (finding.name, finding.step) == ("loss spikes", 48)
    lasting = trained(tmp_path / "lasting", data=Faulty(45, 81), steps=81)
    assert names(lasting, SEVERE) == ["divergence"]
    assert 36 <= lasting.findings[0].step <= 51


# --- not finite


def test_the_first_value_that_is_not_finite_is_named(tmp_path):
    model = small(layers=3)
    with torch.no_grad():
        model.blocks[2].attention.q.weight[0, 0] = math.inf
    with pytest.raises(UserError, match=r"blocks\.2\.attention\.q is the first"):
        trained(tmp_path, model)
    fault = json.loads((tmp_path / "fault.json").read_text())
    assert (fault["step"], fault["phase"], fault["where"]) == (1, "forward", "blocks.2.attention.q")
    assert fault["weights"] == ["blocks.2.attention.q.weight"]
    diagnosis = diagnose(tmp_path)
    assert names(diagnosis, SEVERE) == ["not finite"]
    assert "blocks.2.attention.q" in diagnosis.findings[0].evidence


class _Breaks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[override]
        return gradient * math.nan


def passes(model, factor=1.0):
    (batch,) = Chain().batch(0)

    def run():
        loss = nn.functional.cross_entropy(model(batch.inputs_BT).flatten(0, 1), batch.targets_BT.flatten())
        (loss * factor).backward()

    return run


def test_a_fault_of_the_backward_pass_and_of_the_loss():
    model = small()
    activation = model.blocks[1].feed_forward.activation
    model.blocks[1].feed_forward.activation = lambda x: _Breaks.apply(activation(x))
    fault = first_not_finite(model, passes(model))
    assert (fault.phase, fault.where) == ("backward", "blocks.1.feed_forward.gate")
    assert fault.after.startswith("blocks.1.feed_forward.")
    model = small()
    assert first_not_finite(model, passes(model, math.inf)).phase == "loss"
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("changes", [{}, {"positions": "alibi"}, {"window": 8}, {"experts": Experts(4, 2, 32)}])
def test_a_sound_step_has_no_fault(changes):
    model = small(**changes)
    assert first_not_finite(model, passes(model)).phase == "none"
    assert not any(module._forward_hooks for module in model.modules())


# --- the watch


def test_what_the_watch_measures():
    """Against the definitions, and with the gradient as it was before clipping."""
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    outputs = []
    handle = model.blocks[1].register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    watch = Watch(model)
    with watch:
        passes(model)()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        watch.gradients(norm, 0.01)
        optimizer.step()
    handle.remove()
    assert not any(module._forward_hooks for module in model.modules())
    inside = [name for name in before if name.startswith("blocks.1.")]
    found = watch.layers["blocks.1"]

    def size(tensors):
        return torch.cat([t.flatten() for t in tensors]).norm().item()

    matrices = [name for name in inside if before[name].ndim == 2]
    now = dict(model.named_parameters())
    moved = size([now[name].detach() - before[name] for name in matrices])
    expected = {
        "grad_norm": size([gradients[name] for name in inside]),
        "weight_norm": size([now[name].detach() for name in inside]),
        "update_ratio": moved / size([before[name] for name in matrices]),
        "rms": outputs[0].square().mean().sqrt().item(),
        "largest": outputs[0].abs().max().item(),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-3)
    assert sum(layer["grad_norm"] ** 2 for layer in watch.layers.values()) ** 0.5 == pytest.approx(
        float(norm), rel=1e-3
    )


def test_a_sample_stands_for_a_large_matrix():
    model = nn.Linear(300, 1000)
    watch = Watch(nn.ModuleDict({"layer": model}))
    torch.manual_seed(0)
    with watch, torch.no_grad():
        before = model.weight.clone()
        model.weight += 0.01 * torch.randn_like(model.weight)
    assert watch.layers["layer"]["update_ratio"] == pytest.approx(0.01 * 300_000**0.5 / float(before.norm()), rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"experts": Experts(4, 2, 32, shared=1)}, {"tie_embeddings": True}])
def test_every_parameter_is_in_one_layer(changes):
    model = small(**changes)
    layers = layers_of(model)
    listed = [id(p) for parameters in layers.values() for p in parameters]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert [name for name in layers if "." in name] == ["blocks.0", "blocks.1"]


def test_watching_changes_nothing(tmp_path):
    weights = []
    for every in (0, 1):
        model = small()
        trained(tmp_path / str(every), model, watch_every=every, steps=6)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("how", ["full", "selective", "compiled"])
def test_recomputed_and_compiled_blocks_are_seen(how):
    figures = []
    for changed in (False, True):
        model = small(activation="relu", gated=False, ffn_bias=True).train()
        with torch.no_grad():
            model.blocks[0].feed_forward.up.bias[:24].fill_(-10)
        if changed and how == "compiled":
            for block in model.blocks:
                block.compile(backend="eager")
            passes(model)()
            model.zero_grad()
        elif changed:
            from cairn.models.recompute import set_recompute

            set_recompute(model, how)
        watch = Watch(model)
        with watch:
            passes(model)()
            watch.gradients()
        figures.append(watch.layers)
    assert figures[0]["blocks.0"]["dead"] == pytest.approx(0.25, abs=0.03)
    for name, found in figures[0].items():
        assert figures[1][name] == pytest.approx(found, rel=1e-3)


# --- planted faults, by the record alone


def verdict(tmp_path, loss, every=10, train=None, facts=None, **columns):
    return diagnose(Run(tmp_path, rows_of(loss, every, **columns), train or {}, {"vocab_size": 120} | (facts or {})))


def test_a_curriculum_is_no_divergence(tmp_path):
    """Echoes are easy to learn, plain text is not: the loss jumps where the run goes over to it."""
    loss = np.concatenate([4.6 - 0.08 * np.arange(40), curve(1)])
    assert "divergence" in verdict(tmp_path, loss).verdict
    assert verdict(tmp_path, loss, facts={"echo_steps": 400}).verdict == "nothing wrong"


def test_no_better_than_the_frequencies_of_tokens(tmp_path):
    loss = 3.4 + 1.2 * np.exp(-np.arange(60) / 5) + 0.01 * np.random.default_rng(0).normal(size=60)
    assert verdict(tmp_path, loss).verdict == "nothing wrong"
    assert verdict(tmp_path, loss, facts={"unigram_entropy": 3.35}).verdict == "underfitting"


def test_validation_that_is_too_good(tmp_path):
    loss = curve(3)
    diagnosis = verdict(tmp_path, loss, valid_loss=0.6 * loss)
    assert diagnosis.verdict == "validation below training"
    with_dropout = verdict(tmp_path, loss, train={"dropout": 0.2}, valid_loss=0.6 * loss)
    assert with_dropout.verdict == "nothing wrong"
    assert "validation below training" in names(with_dropout, NOTE)


def test_overfitting_needs_more_than_noise(tmp_path):
    loss = curve(4)
    rng = np.random.default_rng(4)
    flat = np.maximum(loss, 3.0) + 0.05 * rng.normal(size=len(loss))
    assert verdict(tmp_path, loss, valid_loss=flat).verdict == "nothing wrong"
    turned = np.where(np.arange(120) < 60, flat, flat + 0.01 * (np.arange(120) - 60))
    diagnosis = verdict(tmp_path, loss, valid_loss=turned)
    assert diagnosis.verdict == "overfitting"
    assert 300 <= diagnosis.wrong[0].step <= 750


def test_pace(tmp_path):
    loss = curve(5)
    speed = np.where(np.arange(120) < 60, 1000.0, 500.0)
    tokens = np.arange(1, 121) * 1000.0
    train, facts = {"clip": 1.0, "optimizer": "sgd"}, {"corpus_tokens": 6000}
    norms = np.full(120, 3.0)
    diagnosis = verdict(tmp_path, loss, 10, train, facts, tokens_per_second=speed, tokens=tokens, grad_norm=norms)
    assert set(names(diagnosis)) >= {"throughput falls", "data repeated", "clipping always active"}
    assert diagnosis.verdict == "data repeated, clipping always active"
    calm = verdict(
        tmp_path,
        loss,
        10,
        train,
        {"corpus_tokens": 60_000},
        tokens_per_second=speed[:60].repeat(2),
        grad_norm=norms / 4,
    )
    assert not set(names(calm)) & {"throughput falls", "data repeated", "clipping always active"}


def test_gradients_over_time(tmp_path):
    loss, count = curve(6), 120
    growing = 0.5 * 2.0 ** (np.arange(count) / 10)
    assert verdict(tmp_path, loss, grad_norm=growing).verdict == "exploding gradients"
    stuck = np.full(count, 4.0) + 0.001 * np.random.default_rng(0).normal(size=count)
    assert "vanishing gradients" in verdict(tmp_path, stuck, grad_norm=1e-6 * np.ones(count)).verdict


def test_gradients_over_depth_explode(tmp_path):
    layers = {f"blocks.{i}": {"grad_norm": 10.0 ** (8 - i), "update_ratio": 1e-3} for i in range(9)}
    rows = [row | {"layers": layers} for row in rows_of(curve(7))]
    assert diagnose(Run(tmp_path, rows)).verdict == "exploding gradients"


# --- statistics


def test_theil_sen_is_scipys_and_bears_outliers():
    from scipy.stats import theilslopes

    rng = np.random.default_rng(0)
    for _ in range(20):
        x = np.sort(rng.random(40))
        y = 2 * x + rng.normal(size=40)
        ours, theirs = theil_sen(x, y), theilslopes(y, x, alpha=0.95)
        assert ours.value == pytest.approx(theirs.slope)
        assert (ours.low, ours.high) == pytest.approx((theirs.low_slope, theirs.high_slope), rel=0.1, abs=0.1)
    x = np.arange(100.0)
    y = 5 - 0.1 * x
    y[rng.choice(100, 25, replace=False)] += 1000
    assert theil_sen(x, y).value == pytest.approx(-0.1, rel=0.2)


def test_slopes_of_noise_are_seldom_significant():
    rng = np.random.default_rng(1)
    found = sum(
        slope.falls or slope.rises for slope in (theil_sen(np.arange(50.0), rng.normal(size=50)) for _ in range(400))
    )
    assert found <= 40  # 5 % are 20


def test_noise_is_that_of_the_points_whatever_the_trend():
    rng = np.random.default_rng(2)
    y = 10 - 0.5 * np.arange(500.0) + rng.normal(size=500)
    y[250:] += 100
    assert noise(y) == pytest.approx(1.0, rel=0.15)
    assert running_median(np.array([0, 0, 9, 0, 0.0])).max() == 0


# --- before a run


class Changed(Chain):
    """Batches after `change`."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def batch(self, step, part=ALONE):
        return [self.change(batch) for batch in super().batch(step, part)]


def test_one_batch_is_learned_and_the_model_untouched():
    model = small()
    before = [p.detach().clone() for p in model.parameters()]
    result = overfit_one_batch(model, CausalLM(), Chain(), TrainConfig(device="cpu"))
    assert result.passed, result.text
    assert result.losses[-1] < 0.1 * result.losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda b: dataclasses.replace(b, targets_BT=torch.full_like(b.targets_BT, IGNORED), counted=0),
            "no target counts",
        ),
        (lambda b: dataclasses.replace(b, targets_BT=b.inputs_BT), "the inputs themselves"),
        (lambda b: dataclasses.replace(b, targets_BT=b.targets_BT.roll(1, 1)), "shifted wrongly, or shuffled"),
        (lambda b: dataclasses.replace(b, inputs_BT=b.inputs_BT + V), "outside of the model's vocabulary of 64"),
    ],
    ids=["masked", "unshifted", "shuffled", "vocabulary"],
)
def test_a_broken_batch_is_named(change, says):
    result = overfit_one_batch(small(), CausalLM(), Changed(change), TrainConfig(device="cpu"))
    assert not result.passed
    assert says in result.text


def test_a_model_that_sees_ahead_is_named():
    result = overfit_one_batch(small(causal=False), CausalLM(), Chain(), TrainConfig(device="cpu"))
    assert "sees the tokens it is to predict" in result.text


def test_rates_that_do_not_fit_are_named():
    config = TrainConfig(device="cpu", optimizer="adamw", lr=1e-7)
    result = overfit_one_batch(small(), CausalLM(), Chain(), config, steps=70)
    assert "lr 1e-07 with adamw do not fit" in result.text


class Detached(Transformer):
    """Someone forgot that the gradient has to pass."""

    def embed_tokens(self, *args, **keywords):
        x_BTD, context = super().embed_tokens(*args, **keywords)
        return x_BTD.detach(), context


def test_weights_that_no_gradient_reaches_are_named():
    config = ModelConfig(vocab_size=V, dim=32, layers=1, heads=2, kv_heads=2, ffn_dim=32, max_positions=64)
    model = Detached(dataclasses.replace(config, tie_embeddings=False)).initialize(1)
    result = overfit_one_batch(model, CausalLM(), Chain(), TrainConfig(device="cpu", lr=1e-4, matrix_lr=1e-4), steps=5)
    assert result.problem == "no gradient reaches embed.weight"


def test_the_floor_of_a_batch():
    batch = make_batch([[1, 2, 3], [1, 2, 4], [5, 2, 3]], None, CPU)
    # After [1, 2] comes 3 or 4, twice ln 2 among six targets; all else follows surely.
    assert irreducible(batch) == pytest.approx(2 * math.log(2) / 6)
    documents_BT = torch.tensor([[0, 1], [0, 1], [0, 1]])
    apart = TokenBatch(batch.inputs_BT, batch.targets_BT, batch.counted, documents_BT)
    three = 3 * -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))  # after a lone 2: 3, 4, 3
    assert irreducible(apart) == pytest.approx(three / 6)


def test_the_range_test_finds_a_rate_that_trains_well():
    """Better than a tenth of it and ten times it, over as many steps."""
    config = TrainConfig(device="cpu", optimizer="adamw")
    model, data = small(), Chain()
    before = [p.detach().clone() for p in model.parameters()]
    test = rate_test(model, CausalLM(), data, config, RateTestConfig(steps=40))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert test.rates == sorted(test.rates)
    ends = []
    for times in (0.1, 1, 10):
        trial = Trial(model, CausalLM(), data, config)
        losses = [trial.step(data.batch(step), times * test.steepest / config.lr) for step in range(30)]
        ends.append(np.mean(losses[-5:]))
    assert ends[1] < ends[0] - 0.1, test.text
    assert ends[1] < ends[2] - 0.1, test.text
    ElementTree.fromstring(picture(test))


def test_the_range_test_stops_where_the_loss_breaks():
    config = TrainConfig(device="cpu", optimizer="adamw", clip=0)
    test = rate_test(small(), CausalLM(), Chain(), config, RateTestConfig(low=1e-3, high=1e3, steps=60))
    assert test.broke is not None
    assert test.steepest < test.broke
    with pytest.raises(UserError, match="must be above 0 and below high"):
        RateTestConfig(low=1.0, high=0.1)


def test_the_suggestion_of_a_known_curve():
    x = np.linspace(-6, 0, 100)
    falls = 4 - 2 / (1 + np.exp(-4 * (x + 3)))  # steepest at 1e-3
    steepest, lowest = suggest(10**x, falls + 3 * np.maximum(0, x + 1.5) ** 2)
    assert steepest == pytest.approx(1e-3, rel=0.2)
    assert 3e-3 < lowest < 3e-2


# --- files


def test_tensorboard_reads_back_what_was_written_live_and_after_going_on(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from cairn.training.tensorboard import EventLog, convert

    rows = [{"step": s, "loss": 4.0 - s, "layers": {"embed": {"rms": float(s)}}} for s in range(1, 5)]
    log = EventLog(tmp_path / "live")
    for row in rows:
        log.write(row)
    log.close()
    log = EventLog(tmp_path / "live", resume_step=2)  # steps 3 and 4 are made again
    for step in (3, 4, 5):
        log.write({"step": step, "loss": 10.0 + step})
    log.close()

    def read(folder, tag):
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        return [(event.step, event.value) for event in events.Scalars(tag)]

    assert read(tmp_path / "live", "loss") == [(1, 3.0), (2, 2.0), (3, 13.0), (4, 14.0), (5, 15.0)]
    assert read(tmp_path / "live", "layers/rms/embed") == [(1, 1.0), (2, 2.0)]
    convert(rows, tmp_path / "after", ended=1e9)
    assert read(tmp_path / "after", "loss") == [(row["step"], row["loss"]) for row in rows]
    with pytest.raises(UserError, match="already"):
        convert(rows, tmp_path / "after", ended=1e9)


def test_the_command(tmp_path, capsys):
    """A model directory with its run folder beside it; exit 1 where something is wrong."""
    folder = tmp_path / "base.run"
    folder.mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({"vocab_size": 120}))
    loss = np.concatenate([curve(1), 5 + 0.1 * np.arange(30)])
    text = "".join(json.dumps(row) + "\n" for row in rows_of(loss, grad_norm=np.ones(150), seconds=np.arange(150)))
    (folder / "metrics.jsonl").write_text(text + '[1]\n{"step": 1')
    made = {name: str(tmp_path / name) for name in ("out.json", "out.svg", "events")}
    options = ["--json", made["out.json"], "--picture", made["out.svg"]]
    assert main(["diagnose", str(tmp_path / "base"), *options]) == 1
    printed = capsys.readouterr().out
    assert "severe: divergence (step 1" in printed
    assert "1 lines of the record are no rows" in printed
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["verdict"].startswith("divergence")
    assert "divergence" in "".join(ElementTree.parse(made["out.svg"]).getroot().itertext())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(curve(1))))
    assert main(["diagnose", str(folder / "metrics.jsonl")]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_a_folder_without_a_record(tmp_path, capsys):
    assert main(["diagnose", str(tmp_path)]) == 2
    assert re.search(r"holds no record of a run .* its --out", capsys.readouterr().err)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["embed", "blocks.0", "rms"]), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["step", "loss", "grad_norm", "layers", "valid_loss", "tokens", "rate", "tokens_per_second"])


@given(rows=st.lists(st.dictionaries(KEYS, VALUES) | VALUES, max_size=30), facts=st.dictionaries(KEYS, VALUES))
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_any_record_is_read_or_refused(tmp_path_factory, rows, facts):
    folder = tmp_path_factory.mktemp("run")
    steps = [row | {"step": i} if isinstance(row, dict) and i % 2 else row for i, row in enumerate(rows)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    (folder / "run.json").write_text(json.dumps({"train": facts, "model": facts} | facts))
    try:
        run = read_run(folder)
    except UserError:
        return
    diagnosis = diagnose(run)
    json.dumps(diagnosis.to_json(), allow_nan=False)


# --- broken records


def _record(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_bytes(
        b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines)
    )
    return folder


def test_lines_that_cannot_be_read_are_left_out(tmp_path):
    long, deep = b'{"step": 1, "loss": ' + b"9" * 5000 + b"}", b"[" * 100_000
    folder = _record(tmp_path, [b"\xff\xfe\x00\x81", long, deep, {"step": 2, "loss": 3.0}, b'{"step": 3, "lo'])
    assert read_metrics(folder / "metrics.jsonl") == [{"step": 2, "loss": 3.0}]
    assert len(read_run(folder).rows) == 1


def test_losses_of_zero_and_rows_of_one_step_are_no_accident(tmp_path):
    zero = [{"step": i, "loss": 0.0, "valid_loss": 0.0} for i in range(1, 31)]
    assert diagnose(_record(tmp_path / "zero", zero)).verdict == "nothing wrong"
    one = [{"step": 5, "loss": 3.0 + i / 10} for i in range(30)]
    assert diagnose(_record(tmp_path / "one", one)).summary()["steps"] == 5


@pytest.mark.parametrize("key", ["loss", "grad_norm", "valid_loss"])
def test_null_in_a_row_is_not_finite(tmp_path, key):
    rows = [{"step": i, "loss": 3.0, "grad_norm": 1.0, "valid_loss": 3.0} for i in range(1, 10)]
    rows[4][key] = None
    found = diagnose(_record(tmp_path / "a", rows))
    assert next((f.name, f.step) for f in found.findings if f.severity == SEVERE) == ("not finite", 5)


def test_a_run_in_the_folder_one_is_in(tmp_path, monkeypatch):
    folder = _record(tmp_path / "base.run", [{"step": i, "loss": 3.0} for i in range(1, 4)])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"vocab_size": 64}')
    monkeypatch.chdir(folder)
    for name in ("metrics.jsonl", "."):
        assert read_run(name).fact("vocab_size") == 64


def test_tensorboard_and_pictures_have_somewhere_to_come_from_and_go(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    (tmp_path / "a.run").mkdir()
    (tmp_path / "a.run" / "fault.json").write_text('{"step": 3, "phase": "none"}')
    words = ["diagnose", str(tmp_path / "a"), "--tensorboard", str(tmp_path / "board")]
    assert main(words) == 2
    assert "no rows" in capsys.readouterr().err
    folder = _record(tmp_path / "b", [{"step": 1, "loss": 3.0}])
    assert main(["diagnose", str(folder), "--picture", str(tmp_path / "nowhere" / "p.svg")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
