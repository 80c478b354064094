"""Every parallel layout learns what one process learns: the same losses, gradient norms and weights, step by step."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import parallel_worker
from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.models import ModelConfig, Transformer, preset
from cairn.planning.layout import Layout
from cairn.training import CausalLM, TokenBatch
from cairn.training.objective import Part
from cairn.training.parallel import World, build_worker, join
from cairn.training.parallel.clip import clip_gradients
from cairn.training.parallel.pipeline import StageModule, cut
from cairn.training.parallel.tensor import check
from cairn.training.parallel.whole import copy_structure, release
from parallel_worker import Difference, difference, launch, run, torchrun

GPT2 = {
    "family": "gpt2",
    "kv_heads": 2,
    "norm": "layernorm",
    "positions": "learned",
    "qkv_bias": True,
    "out_bias": True,
    "activation": "gelu_tanh",
    "gated": False,
    "ffn_bias": True,
    "tie_embeddings": False,
    "head_bias": True,
}


def compare(processes: int, cases: list[dict], folder: Path) -> list[Difference]:
    """Each case against one process."""
    alone: dict[str, dict] = {}
    for case in cases:
        plain = case | {"layout": {}}
        key = json.dumps(plain, sort_keys=True)
        if key not in alone:
            alone[key] = run(plain, folder / f"alone-{len(alone)}")
    many = launch(processes, cases, folder)
    return [
        difference(alone[json.dumps(c | {"layout": {}}, sort_keys=True)], m) for c, m in zip(cases, many, strict=True)
    ]


def assert_equal(found: Difference, *, exact: bool) -> None:
    """exact: in float64, where nothing is left but the order of sums."""
    bound = 1e-12 if exact else 3e-6
    assert found.loss < bound, found
    assert found.norm < bound, found
    assert found.weight < (1e-9 if exact else 2e-4), found  # Adam divides by roots of tiny squares
    # Differences lean to no side: their mean is within their noise, or below what the format resolves of a loss of 6.
    assert abs(found.mean) < max(4 * found.error, 1e-15 if exact else 1e-6), found


def test_two_replicas_learn_what_one_process_learns(tmp_path):
    """The quick one: DDP in float32, with accumulation, rows that count differently, and clipping."""
    case = {"layout": {"data": 2}, "micro_batches": 3}
    (many,) = launch(2, [case], tmp_path)
    one = run(case | {"layout": {}}, tmp_path / "alone")
    assert_equal(difference(one, many), exact=False)
    assert one["losses"][-1] < one["losses"][0] - 1  # it did learn
    assert min(one["norms"]) > parallel_worker.DEFAULTS["clip"]  # and was clipped


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_every_layout_learns_what_one_process_learns(processes, tmp_path):
    layouts = parallel_worker.TABLE[processes]
    ways = [("float32", 3), ("float64", 3), ("float64", 1)]
    cases = [{"layout": layout, "dtype": dtype, "micro_batches": n} for layout in layouts for dtype, n in ways]
    for case, found in zip(cases, compare(processes, cases, tmp_path), strict=True):
        print(case, found)
        assert_equal(found, exact=case["dtype"] == "float64")


@pytest.mark.slow
def test_other_models_optimizers_and_settings(tmp_path):
    two = [{"data": 2}, {"shard": 2}, {"tensor": 2}, {"pipeline": 2}]
    changes = [
        {"model": GPT2},
        {"optimizer": "muon"},
        {"recompute": "full"},
        {"recompute": "selective", "documents": True},
        {"silent": True},
        {"rows": 7, "micro_batches": 2, "model": GPT2},  # parts of 4 and of 3 rows, micro-batches of two sizes
    ]
    cases = [change | {"layout": layout} for change in changes for layout in two]
    cases += [
        {"layout": {"tensor": 2}, "model": {"kv_heads": 2, "qk_norm": "head"}},
        {"layout": {"pipeline": 2}, "model": {"layers": 3, "norm_place": "post", "final_norm": False}},
        # Few tokens a micro-batch: some experts get none.
        {"layout": {"data": 2}, "micro_batches": 6, "model": {"experts": {"count": 32, "per_token": 1, "inner": 16}}},
    ]
    cases = [{"steps": 5, "dtype": "float64", "micro_batches": 3} | case for case in cases]
    for case, found in zip(cases, compare(2, cases, tmp_path), strict=True):
        print(case, found)
        assert found.loss < 1e-12, case
        assert found.weight < 1e-9, case


@pytest.mark.slow
def test_the_norm_of_a_head_that_all_processes_make(tmp_path):
    """One head of keys, its norm in float32 whatever the model's type: parts of its gradient are rounded before their sum."""
    case = {"layout": {"tensor": 2}, "dtype": "float64", "steps": 5, "model": {"qk_norm": "head"}}
    (found,) = compare(2, [case], tmp_path)
    assert found.loss < 1e-7
    assert found.weight < 1e-5


@pytest.mark.slow
def test_three_workers_share_rows_that_three_does_not_divide(tmp_path):
    case = {"rows": 11, "dtype": "float64", "steps": 5, "model": GPT2}
    cases = [case | {"layout": layout} for layout in ({"data": 3}, {"shard": 3})]
    for found in compare(3, cases, tmp_path):
        assert found.loss < 1e-12
        assert found.weight < 1e-9


@pytest.mark.slow
def test_names_what_is_kept_whole_and_what_is_sent(tmp_path):
    """What docs/parallel.md says of each layout; pebble has two blocks and one head of keys."""
    layouts = [{"shard": 2, "zero": zero} for zero in (1, 2, 3)] + [{"tensor": 2}, {"pipeline": 2}]
    cases: list[dict] = [{"layout": layout, "look": True} for layout in layouts]
    cases.append({"layout": {"tensor": 2}, "look": True, "model": {"kv_heads": 2}})
    found = launch(2, cases, tmp_path)
    whole = [name for name, _ in Transformer(preset("pebble")).named_parameters()]
    assert [one["names"] for one in found[:4]] == [whole] * 4
    assert found[4]["names"] == [name for name in whole if name.startswith(("embed", "blocks.0."))]
    assert [(one["weights"], one["gradients"]) for one in found[:3]] == [(True, True), (True, False), (False, False)]
    # Two blocks and the rest; two micro-batches; zero 3 gathers blocks twice in each.
    assert found[0]["calls"] == {"allgather_base": 3, "reduce_scatter_base": 3}
    assert found[1]["calls"] == {"allgather_base": 3, "reduce_scatter_base": 6}
    assert found[2]["calls"] == {"allgather_base": 10, "reduce_scatter_base": 6}
    assert found[3]["calls"] == {"all_reduce": 2 * 2 * 6}
    assert found[5]["calls"] == {"all_reduce": 2 * 2 * 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [({"shard": 2}, {"pipeline": 2}), ({"tensor": 2}, {}), ({"pipeline": 2, "data": 2}, {"shard": 2, "tensor": 2})],
)
def test_a_killed_run_goes_on_in_another_layout(before, after, tmp_path):
    case = {"dtype": "float64", "optimizer": "muon", "checkpoint_every": 4, "micro_batches": 2, "ema": 0.9, "steps": 10}
    alone = run(case, tmp_path / "alone")
    killed = torchrun(Layout(**before).size, [case | {"layout": before, "dies": 6}], tmp_path)
    assert killed.returncode != 0
    assert (tmp_path / "0/checkpoints/step-0000004").exists()
    if after:
        (resumed,) = launch(Layout(**after).size, [case | {"layout": after}], tmp_path)
    else:
        resumed = run(case, tmp_path / "0")
    found = difference(alone, resumed)
    assert found.loss < 1e-12
    assert found.weight < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"data": 2}, {"shard": 2}, {"tensor": 2}, {"pipeline": 2}])
def test_when_a_process_dies_the_other_ends_with_an_error(layout, tmp_path):
    """Without torchrun, which would end it anyway."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    case = json.dumps([{"layout": layout, "dies": 2, "steps": 100_000}])
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, parallel_worker.__file__, case, str(tmp_path)]
    both = [
        subprocess.Popen(command, env=shared | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    try:
        assert both[1].wait(120) == -signal.SIGKILL
        died = time.monotonic()
        _, told = both[0].communicate(timeout=60)
        assert both[0].returncode not in (0, -signal.SIGKILL)
        assert "Connection" in told, told[-3000:]
        assert time.monotonic() - died < 60
    finally:
        for process in both:
            process.kill()


# --- refusals, each with what to change


def test_another_number_of_processes_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/cairn", "pretrain", "--out", "my model"])
    for started in ("1", "3"):
        monkeypatch.setenv("WORLD_SIZE", started)
        with pytest.raises(UserError, match=rf"shard \(zero 3\) 2 x tensor 2 needs 4 processes, not {started}") as told:
            join(Layout(shard=2, tensor=2), "cpu")
        command = "torchrun --nproc-per-node 4 --no-python cairn pretrain --out 'my model'"
        assert str(told.value).endswith(f"start it with: {command}")
    with pytest.raises(UserError, match=r"started 3 processes.*--train\.parallel\.data 3"):
        join(Layout(), "cpu")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(UserError, match=r"torchrun --nproc-per-node 2 train\.py$"):
        join(Layout(data=2), "cpu")


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join(Layout(), "cpu")
    assert (world.rank, world.size, world.part, world.mesh, world.is_main) == (0, 1, Part(), None, True)
    assert world.sum([1.5]) == [1.5]
    assert world.any(True)
    assert not world.any(False)
    world.barrier()
    model = Transformer(preset("pebble"))
    worker = build_worker(model, CausalLM(), "fp32", world)
    assert worker.model is model
    with worker.whole() as whole:
        assert whole is model


def imagined(**layout: int) -> World:
    """The first process of a layout, alone."""
    shape = Layout(**layout)
    return World(0, shape.size, torch.device("cpu"), Part(0, shape.rows), shape)


@pytest.mark.parametrize("layout", [{"shard": 2}, {"tensor": 2}, {"pipeline": 2}, {"shard": 2, "data": 2}])
def test_experts_are_not_divided(layout):
    shape = from_dict(ModelConfig, {"experts": {"count": 4}}, preset("pebble"))
    with pytest.raises(UserError, match=r"mixture of experts.*use --train\.parallel\.data alone"):
        build_worker(Transformer(shape), CausalLM(), "fp32", imagined(**layout))


@pytest.mark.parametrize(
    ("change", "degree", "told"),
    [
        ({}, 4, r"heads \(2\)"),
        ({"heads": 4, "kv_heads": 2}, 4, r"key and value heads \(2, unless there is 1\)"),
        ({"ffn_dim": 87}, 2, r"inner width \(87\)"),
        ({"positions": "alibi"}, 2, "ALiBi"),
        ({"qk_norm": "width"}, 2, "qk_norm width"),
    ],
)
def test_what_tensor_parallelism_cannot_divide(change, degree, told):
    with pytest.raises(UserError, match=told):
        check(from_dict(ModelConfig, change, preset("pebble")), degree)


def test_what_a_pipeline_cannot_cut():
    with pytest.raises(UserError, match="pipeline 3 is more than the model's 2 blocks"):
        cut(Transformer(preset("pebble")), imagined(pipeline=3))
    with pytest.raises(UserError, match="not a Linear"):
        cut(nn.Linear(2, 2), imagined(pipeline=2))


class Twice(CausalLM):
    def loss(self, model, batch):
        model.hidden(batch.inputs_BT)
        return super().loss(model, batch)


class Never(CausalLM):
    def loss(self, model, batch):
        return torch.zeros((), requires_grad=True), {"loss": 0.0}


@pytest.mark.parametrize("objective", [Twice(), Never()])
def test_a_pipeline_refuses_an_objective_that_does_not_call_the_model_once(objective):
    ids = torch.arange(6)[None]
    stage = StageModule(Transformer(preset("pebble")), objective, "fp32", imagined())
    stage.begin([TokenBatch(ids, ids, 6)], 1.0)
    with pytest.raises(UserError, match=r"does not call the model exactly once a batch.*use shard"):
        stage()


# --- parts


def test_a_released_model_keeps_its_shapes_and_its_copy_the_weights():
    model = Transformer(preset("pebble")).initialize(1)
    expected, count = {n: p.detach().clone() for n, p in model.named_parameters()}, model.parameter_count()
    flops = model.flops_per_token(8)
    copy = copy_structure(model)
    release(model)
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in expected.items()}
    assert (model.parameter_count(), model.flops_per_token(8)) == (count, flops)
    assert sum(p.untyped_storage().nbytes() for p in model.parameters()) == 4 * len(expected)
    assert model.unembed.weight is model.embed.weight
    assert all(torch.equal(p, expected[n]) for n, p in copy.named_parameters())
    assert copy.unembed.weight is copy.embed.weight


def test_clipping_in_one_process_is_torchs():
    models = [Transformer(preset("pebble")).initialize(1) for _ in range(2)]
    for model in models:
        model.hidden(torch.arange(6)[None]).square().sum().backward()
    parameters = [p for p in models[0].parameters() if p.grad is not None]
    expected = torch.nn.utils.clip_grad_norm_(parameters, 0.1)
    assert torch.equal(clip_gradients(models[1], 0.1, imagined()), expected)
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)
