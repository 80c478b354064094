"""What the settings of the trainer promise: precision, dropout, recomputing, averages, early stopping, signals."""

import json
import math
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from cairn.core.compute import seed_step
from cairn.core.errors import UserError
from cairn.models import Transformer, preset
from cairn.models.dropout import set_dropout
from cairn.models.recompute import RECOMPUTE, set_recompute
from cairn.models.recurrent import RecurrentConfig, RecurrentLM
from cairn.training import CausalLM, Part, TokenBatch, TrainConfig, train
from cairn.training.interrupt import Interrupt
from cairn.training.precision import FIRST_SCALE, GROWTH_STEPS, LossScale

CPU = torch.device("cpu")


class Counting:
    """Rows that count upwards: soon learned."""

    context = 16

    def __init__(self, rows=4, micro=1, on_step=None):
        self.rows, self.micro, self.on_step = rows, micro, on_step

    def batch(self, step, part=Part()):
        if self.on_step:
            self.on_step(step)
        first = torch.randint(0, 400, (self.rows, 1), generator=torch.Generator().manual_seed(step))
        mine = part.share(first + torch.arange(self.context + 1))
        return [TokenBatch(ids[:, :-1], ids[:, 1:], ids[:, 1:].numel()) for ids in mine.chunk(self.micro)]

    def weight(self, batch):
        return float(batch.counted)

    def tokens(self, batch):
        return batch.inputs_BT.numel()


def tiny(seed=1):
    return Transformer(preset("pebble")).initialize(seed)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def go(run, config, *, model=None, data=None, **more):
    model = model or tiny()
    result = train(model, CausalLM(), data or Counting(), config, run, title="t", inputs=0, **more)
    return model, result


SHORT = TrainConfig(steps=6, log_every=1, warmup=0, device="cpu")


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd", "adafactor", "adamw8bit"])
def test_every_optimizer_learns(tmp_path, optimizer):
    lr = {"sgd": 0.5, "adafactor": 0.05}.get(optimizer, 3e-3)
    go(tmp_path, replace(SHORT, steps=40, optimizer=optimizer, lr=lr))
    rows = rows_of(tmp_path)
    assert rows[0]["loss"] == pytest.approx(math.log(512), abs=0.1)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5


def test_accumulation_equals_the_full_batch_exactly_in_float64(tmp_path):
    weights = []
    for micro in (1, 2, 4):
        model, _ = go(tmp_path / str(micro), SHORT, model=tiny().double(), data=Counting(micro=micro))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(weights[2], weights[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", RECOMPUTE[1:])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_computing_blocks_again_changes_nothing(kind, dropout):
    """Not one bit, with dropout as well."""
    batch = Counting().batch(0)[0]
    found = []
    for way in ("none", kind):
        model = tiny().train()
        set_dropout(model, dropout)
        set_recompute(model, way)
        seed_step(1, 2)
        CausalLM().loss(model, batch)[0].backward()
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_recomputing_keeps_less():
    def kept(kind):
        model, sizes = Transformer(replace(preset("pebble"), layers=4)).initialize(1).train(), {}
        set_recompute(model, kind)

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model.hidden(Counting().batch(0)[0].inputs_BT)
        return sum(sizes.values())

    assert kept("full") < 0.3 * kept("none")


def test_what_cannot_be_is_refused(tmp_path):
    recurrent = RecurrentLM(RecurrentConfig(vocab_size=512, dim=16)).initialize(1)
    with pytest.raises(UserError, match="no dropout layers"):
        go(tmp_path, replace(SHORT, dropout=0.1), model=recurrent)
    with pytest.raises(UserError, match="cannot compute its blocks again"):
        go(tmp_path, replace(SHORT, recompute="full"), model=recurrent)
    with pytest.raises(UserError, match="set evaluate_every"):
        TrainConfig(patience=3)
    for wrong in ({"dropout": 1.0}, {"momentum": 1.5}, {"final": 2.0}, {"lr": math.inf}, {"seed": 2**63}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TrainConfig(**wrong)
    with pytest.raises(UserError, match="nothing is held out"):
        go(tmp_path, replace(SHORT, evaluate_every=2))
    with pytest.raises(UserError, match="rows cannot be shared by 3"):
        Part(0, 3).share(range(4))


def test_dropout_is_a_function_of_the_step_and_off_in_the_end(tmp_path):
    config = replace(SHORT, dropout=0.5)
    first, _ = go(tmp_path / "a", config)
    again, _ = go(tmp_path / "b", config)
    without, _ = go(tmp_path / "c", SHORT)
    ids = torch.arange(12)[None]
    assert torch.equal(first(ids), again(ids))
    assert not torch.allclose(first(ids), without(ids))
    assert torch.equal(first(ids), first(ids))  # evaluation draws nothing


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_learn_as_thirty_two(tmp_path, precision):
    config = replace(SHORT, steps=40, optimizer="adamw", lr=0.01)
    go(tmp_path / "32", config)
    go(tmp_path / "16", replace(config, precision=precision))
    whole, half = (rows_of(tmp_path / name)[-1]["loss"] for name in ("32", "16"))
    assert whole < 5
    assert half == pytest.approx(whole, abs=0.15)


def test_the_scale_of_float16_is_that_of_torch():
    """Overflows here and there: the same scale after every step, and the same steps left out."""
    ours, theirs = LossScale("fp16"), torch.amp.GradScaler("cpu", init_scale=FIRST_SCALE, growth_interval=GROWTH_STEPS)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    model = torch.nn.ParameterList([parameter])
    for step in range(2 * GROWTH_STEPS + 100):
        overflow = step in (3, 4, 50, 2500)
        theirs.scale(torch.zeros(1))
        parameter.grad = torch.full((1,), float("inf") if overflow else 2.0 * ours.scale)
        norm, counts = ours.unscale(model, parameter.grad.norm())
        assert counts != overflow
        if counts:
            assert norm == 2.0
            assert parameter.grad == 2.0
            parameter.grad *= theirs.get_scale()
        before = parameter.item()
        theirs.step(optimizer)
        theirs.update()
        assert (parameter.item() == before) == overflow
        assert ours.scale == theirs.get_scale()
    kept = LossScale("fp16")
    kept.load(ours.state())
    assert (kept.scale, kept.good_steps) == (ours.scale, ours.good_steps)


def test_an_overflow_in_float16_leaves_the_step_out(tmp_path, monkeypatch):
    """A first scale that is too large: the first steps are skipped, the rest is made, and every row is JSON."""
    monkeypatch.setattr("cairn.training.precision.FIRST_SCALE", 2.0**40)
    _, result = go(tmp_path, replace(SHORT, steps=40, precision="fp16"))
    assert result.steps == 40
    norms = [row["grad_norm"] for row in rows_of(tmp_path)]
    skipped = norms.count(None)
    assert 0 < skipped < 40
    assert norms[:skipped] == [None] * skipped
    assert rows_of(tmp_path)[-1]["loss"] < 6.2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_that_breaks_says_where(tmp_path, precision):
    model = tiny()
    with torch.no_grad():
        model.blocks[1].feed_forward.down.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"not finite at step \d+: .*blocks\.1\.feed_forward\.down"):
        go(tmp_path, replace(SHORT, steps=60, precision=precision), model=model)
    assert json.loads((tmp_path / "fault.json").read_text())["step"] >= 1


def test_the_average_becomes_the_model(tmp_path):
    seen = []

    def evaluate(model):
        seen.append(model.embed.weight.detach().clone())
        return {"valid_loss": 1.0}

    averaged, _ = go(tmp_path / "a", replace(SHORT, ema=0.5, evaluate_every=6), evaluate=evaluate)
    plain, _ = go(tmp_path / "b", SHORT)
    assert torch.equal(averaged.embed.weight, seen[-1])
    assert not torch.equal(averaged.embed.weight, plain.embed.weight)


def test_early_stopping_ends_with_the_best(tmp_path):
    losses, weights = iter([3.0, 2.0, 2.5, 2.2, 2.1, 0.1]), []

    def evaluate(model):
        weights.append(model.embed.weight.detach().clone())
        return {"valid_loss": next(losses)}

    config = replace(SHORT, steps=40, evaluate_every=2, keep_best=True, patience=3)
    model, result = go(tmp_path, config, evaluate=evaluate)
    assert result.steps == 10  # evaluations 3.0, 2.0, and three that are worse
    assert torch.equal(model.embed.weight, weights[1])
    assert (result.last["valid_loss"], result.last["best_step"]) == (2.0, 4)


def test_stopping_early_is_not_undone_by_a_second_run(tmp_path):
    losses = iter([1.0, 2.0, 3.0, 4.0])
    config = replace(SHORT, steps=40, evaluate_every=2, patience=2, checkpoint_every=2)
    first, stopped = go(tmp_path, config, evaluate=lambda model: {"valid_loss": next(losses)})
    again, result = go(tmp_path, config, evaluate=lambda model: {"valid_loss": 0.0})
    assert (result.steps, result.last) == (stopped.steps, stopped.last)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))


def test_a_validation_loss_that_is_not_finite_is_a_bad_one(tmp_path):
    losses = iter([2.0, float("nan"), 1.0])
    config = replace(SHORT, evaluate_every=2, keep_best=True)
    _, result = go(tmp_path, config, evaluate=lambda model: {"valid_loss": next(losses)})
    assert [row.get("valid_loss") for row in rows_of(tmp_path)] == [None, 2.0, None, None, None, 1.0]
    assert result.last["best_step"] == 6


def test_a_signal_leaves_a_checkpoint_of_its_step(tmp_path):
    def interrupt(step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "a", SHORT, data=Counting(on_step=interrupt))
    assert (tmp_path / "a" / "checkpoints" / "step-0000004").is_dir()
    resumed, _ = go(tmp_path / "a", SHORT)
    whole, _ = go(tmp_path / "b", SHORT)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters()))
    assert [row["step"] for row in rows_of(tmp_path / "a")] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in rows_of(tmp_path / "a")] == [row["loss"] for row in rows_of(tmp_path / "b")]


def test_signals_ask_once_and_ctrl_c_twice_insists():
    with Interrupt() as interrupt:
        for _ in range(3):  # a cluster's and torchrun's own
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=lambda: Interrupt().__enter__())
    thread.start()  # elsewhere than in the main thread Python gives no signals: nothing is raised
    thread.join()


def test_other_free_settings_go_on_and_others_are_refused(tmp_path):
    def stop(step):
        if step == 4:
            raise RuntimeError("killed")

    config = replace(SHORT, checkpoint_every=2)
    with pytest.raises(RuntimeError, match="killed"):
        go(tmp_path, config, data=Counting(on_step=stop))
    with pytest.raises(UserError, match="other settings"):
        go(tmp_path, replace(config, lr=0.1))
    _, result = go(tmp_path, replace(config, log_every=3, checkpoint_every=5, recompute="full"))
    assert result.steps == 6


def test_compiled_blocks_learn_the_same(tmp_path):
    config = replace(SHORT, steps=3, precision="fp32")
    try:
        compiled, _ = go(tmp_path / "a", replace(config, compile=True))
    except Exception as error:  # the compiler of torch is no part of cairn
        if "Inductor" in type(error).__name__ or "CppCompile" in repr(error) or "compiler" in str(error).lower():
            pytest.skip(f"no compiler here: {type(error).__name__}")
        raise
    plain, _ = go(tmp_path / "b", config)
    for a, b in zip(compiled.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_mup_ends_as_an_ordinary_model(tmp_path):
    model, _ = go(tmp_path, replace(SHORT, optimizer="adamw", mup_width=16))
    assert model.config == preset("pebble")
