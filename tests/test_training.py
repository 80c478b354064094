"""The trainer: exact accumulation, exact resume, honest checkpoints; objectives and their masks."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import UserError
from cairn.models import Transformer, preset
from cairn.training import CausalLM, ExampleData, Part, ShardData, TrainConfig, make_batch, train
from cairn.training.causal import IGNORED, TokenBatch
from cairn.training.optimizers import Muon, orthogonalize
from cairn.training.schedules import SCHEDULES, rate


class ListData:
    """Fixed micro-batches, the same every step."""

    def __init__(self, batches):
        self.batches = batches

    context = 64

    def batch(self, step, part=Part()):
        return self.batches[part.index :: part.count]

    def weight(self, batch):
        return float(batch.counted)

    def tokens(self, batch):
        return batch.inputs_BT.numel()


def tiny(seed=1):
    return Transformer(preset("pebble")).initialize(seed)


def random_batch(rows, width, seed, keep=0.5):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 512, (rows, width)).tolist()
    masks = (rng.random((rows, width)) < keep).tolist()
    return make_batch(ids, masks, torch.device("cpu"))


def part(batch, start, end):
    targets = batch.targets_BT[start:end]
    return TokenBatch(batch.inputs_BT[start:end], targets, int((targets != IGNORED).sum()))


@pytest.mark.parametrize("cuts", [[0, 3, 6], [0, 1, 2, 6], [0, 5, 6]])
def test_accumulation_equals_the_full_batch(tmp_path, cuts):
    """In float64, with micro-batches of unequal weight: a mean of means would be wrong."""
    whole = random_batch(6, 12, 0, keep=0.4)
    pieces = [part(whole, a, b) for a, b in itertools.pairwise(cuts)]
    config = TrainConfig(steps=3, warmup=0, device="cpu", optimizer="adamw")
    results = []
    for name, batches in (("whole", [whole]), ("pieces", pieces)):
        model = tiny().double()
        train(model, CausalLM(), ListData(batches), config, tmp_path / name, title=name, inputs=name)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*results, atol=1e-7, rtol=0)  # the loss itself is float32 by design of the objective


def test_a_batch_without_targets_changes_nothing(tmp_path):
    empty = make_batch([[1, 2, 3, 4]], [[False] * 4], torch.device("cpu"))
    model = tiny()
    before = [p.detach().clone() for p in model.parameters()]
    config = TrainConfig(steps=2, log_every=1, device="cpu")
    result = train(model, CausalLM(), ListData([empty]), config, tmp_path, title="empty", inputs=0)
    assert result.last["loss"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    # beside a full micro-batch it counts for nothing, not for half
    full = random_batch(2, 8, 1)
    losses = []
    for batches in ([full], [full, empty]):
        out = train(
            tiny(), CausalLM(), ListData(batches), config, tmp_path / str(len(batches)), title="x", inputs=len(batches)
        )
        losses.append(out.last["loss"])
    assert losses[0] == losses[1]


def test_loss_is_the_mean_over_counted_targets():
    model, batch = tiny(), random_batch(4, 10, 3)
    total, _ = CausalLM().loss(model, batch)
    logits = model(batch.inputs_BT)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(total / batch.counted, expected)


def test_overfits_one_batch(tmp_path):
    batch = random_batch(4, 16, 5, keep=1.0)
    config = TrainConfig(steps=200, warmup=5, lr=0.01, device="cpu", log_every=5)
    result = train(tiny(), CausalLM(), ListData([batch]), config, tmp_path, title="one", inputs=0)
    assert result.last["loss"] < 0.5


# --- Muon against its definition


def test_orthogonalize_keeps_directions():
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16), (1, 8, 8)):
        g = torch.randn(shape)
        u, _, vh = torch.linalg.svd(g, full_matrices=False)
        out = orthogonalize(g)
        values = torch.linalg.svdvals(out)
        assert values.min() > 0.3
        assert values.max() < 1.3
        # singular vectors stay: the product with U V^T is nearly diagonal and positive
        torch.testing.assert_close(
            out, (u * (u.mT @ out @ vh.mT).diagonal(dim1=-2, dim2=-1)[:, None]) @ vh, atol=2e-3, rtol=0
        )


def test_muon_moves_as_torch_optim():
    """torch.optim.Muon iterates in bfloat16: directions agree to its precision."""
    torch.manual_seed(0)
    start = torch.randn(24, 12)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    a = Muon([ours], lr=0.1, momentum=0.95)
    b = torch.optim.Muon([theirs], lr=0.1, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original")
    for _ in range(5):
        g = torch.randn(24, 12)
        ours.grad, theirs.grad = g.clone(), g.clone()
        a.step()
        b.step()
    moved, expected = (ours - start).flatten(), (theirs - start).flatten()
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.999
    torch.testing.assert_close(moved.norm(), expected.norm(), rtol=0.02, atol=0)


@given(st.sampled_from(SCHEDULES), st.integers(2, 200), st.integers(0, 50))
def test_schedules_stay_in_bounds(kind, steps, warmup):
    values = [rate(kind, s, steps, warmup) for s in range(steps)]
    assert all(0 <= v <= 1 for v in values)
    assert values[: min(warmup, steps)] == sorted(values[: min(warmup, steps)])
    after = values[warmup:]
    assert after == sorted(after, reverse=True)


# --- data


class FakeShard:
    path = "fake"

    def __init__(self, size):
        self.tokens = np.arange(size, dtype=np.uint16)

    def __len__(self):
        return len(self.tokens)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(0, 9).map(lambda tenths: tenths / 10))
@settings(max_examples=40, deadline=None)
def test_shard_batches_depend_on_the_step_alone(step, rows, replay):
    shards = [FakeShard(2000), FakeShard(3000)]
    shares = [1 - replay, replay]
    one, two = (
        ShardData(shards, rows=rows, context=32, shares=shares, echo=0.3, seed=4, device="cpu") for _ in range(2)
    )
    two.batch(max(0, step - 1))  # what came before must not matter
    a, b = one.batch(step), two.batch(step)
    assert all(torch.equal(x.inputs_BT, y.inputs_BT) and torch.equal(x.targets_BT, y.targets_BT) for x, y in zip(a, b))
    assert sum(x.inputs_BT.shape[0] for x in a) == rows
    for x in a:
        assert torch.equal(x.inputs_BT[:, 1:], x.targets_BT[:, :-1])


def test_an_epoch_shows_every_row_once():
    data = ShardData([FakeShard(1000)], rows=1, context=20, seed=0, device="cpu")
    starts = {int(data.batch(s)[0].inputs_BT[0, 0]) for s in range(48)}
    assert len(starts) == 48
    assert len({s % 20 for s in starts}) == 1


def test_echo_rows_repeat():
    data = ShardData([FakeShard(5000)], rows=4, context=128, echo=1.0, echo_steps=1, seed=0, device="cpu")
    for step, width in ((0, 64), (1, 128)):
        for row in data.batch(step)[0].inputs_BT.tolist():
            period = next(p for p in range(1, width) if row[p] == row[0])
            assert len(row) == width
            assert all(row[i] == row[i % period] for i in range(width))


@given(st.lists(st.integers(2, 30), min_size=1, max_size=60), st.integers(16, 200))
@settings(max_examples=50, deadline=None)
def test_an_epoch_shows_every_example_once(lengths, batch_tokens):
    examples = [([i + 1] * n, [True] * n) for i, n in enumerate(lengths)]
    data = ExampleData(examples, batch_tokens=batch_tokens, context=64, device="cpu")
    seen = []
    for step in range(data.steps_per_epoch()):
        (batch,) = data.batch(step)
        assert batch.inputs_BT.numel() <= max(batch_tokens, batch.inputs_BT.shape[1])
        seen += batch.inputs_BT[:, 0].tolist()
    assert sorted(seen) == list(range(1, len(lengths) + 1))


def test_too_little_text_is_said():
    with pytest.raises(UserError, match="lower --context"):
        ShardData([FakeShard(50)], rows=1, context=64, device="cpu")


# --- resuming


def run_steps(tmp_path, steps_until_stop=None, *, checkpoint_every=4):
    """Train 20 steps; with `steps_until_stop`, stop before that step as a kill would, then run again."""
    shard = FakeShard(4000)
    shard.tokens = (shard.tokens * 7919) % 512
    config = TrainConfig(steps=20, checkpoint_every=checkpoint_every, log_every=2, device="cpu", warmup=3)

    class Stopping(ShardData):
        def batch(self, step, part=Part()):
            if step == steps_until_stop and not stopped:
                stopped.append(step)
                raise KeyboardInterrupt
            return super().batch(step, part)

    stopped = []
    for _ in range(2):
        model = tiny()
        data = Stopping([shard], rows=2, context=16, echo=0.2, seed=3, device="cpu")
        try:
            train(model, CausalLM(), data, config, tmp_path, title="t", inputs="same")
            break
        except KeyboardInterrupt:
            continue
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return torch.cat([p.detach().flatten() for p in model.parameters()]), [
        (r["step"], r["loss"], r["tokens"]) for r in rows
    ]


@pytest.mark.parametrize("stop", [0, 3, 4, 5, 11, 19])
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, stop):
    weights, rows = run_steps(tmp_path / "whole")
    again, again_rows = run_steps(tmp_path / "stopped", stop)
    assert torch.equal(weights, again)
    assert rows == again_rows
    assert [r[0] for r in rows] == [1, *range(2, 21, 2)]


def test_damaged_checkpoint_falls_back(tmp_path, capsys):
    weights, _ = run_steps(tmp_path / "whole")
    shard = FakeShard(4000)
    shard.tokens = (shard.tokens * 7919) % 512
    config = TrainConfig(steps=20, checkpoint_every=4, log_every=2, device="cpu", warmup=3)

    def go(stop):
        class Stopping(ShardData):
            def batch(self, step, part=Part()):
                if step == stop:
                    raise KeyboardInterrupt
                return super().batch(step, part)

        model = tiny()
        data = Stopping([shard], rows=2, context=16, echo=0.2, seed=3, device="cpu")
        train(model, CausalLM(), data, config, tmp_path / "run", title="t", inputs="same")
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with pytest.raises(KeyboardInterrupt):
        go(14)
    newest = tmp_path / "run" / "checkpoints" / "step-0000012" / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-3] ^= 1
    newest.write_bytes(data)
    assert torch.equal(go(None), weights)
    assert "damaged" in capsys.readouterr().err


def test_checkpoint_of_other_settings_is_refused(tmp_path):
    batch = random_batch(2, 8, 1)
    config = TrainConfig(steps=4, checkpoint_every=2, device="cpu")
    train(tiny(), CausalLM(), ListData([batch]), config, tmp_path, title="a", inputs=1)
    with pytest.raises(UserError, match="other settings"):
        train(tiny(), CausalLM(), ListData([batch]), config, tmp_path, title="a", inputs=2)


@pytest.mark.parametrize("command", ["corpus", "pretrain"])
def test_no_space_is_one_line_and_leaves_nothing_that_looks_complete(tmp_path, corpus, model_directory, command):
    """A file-size limit stands in for a full disk: the kernel answers the write with an error in the same place."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])));"
        "from cairn.cli.main import main; sys.exit(main(sys.argv[2:]))"
    )
    out = tmp_path / "out"
    words = {
        "corpus": ["60000", "corpus", "--out", out],
        "pretrain": [
            "150000",
            "pretrain",
            "--corpus",
            corpus.path,
            "--model",
            model_directory,
            "--out",
            out,
            "--train.steps",
            "4",
            "--train.checkpoint-every",
            "2",
            "--context",
            "32",
            "--threads",
            "1",
        ],
    }[command]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2
    assert [
        line for line in done.stderr.splitlines() if line.startswith("cairn: ")
    ] == done.stderr.strip().splitlines()[-1:]
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_interrupt_says_that_it_goes_on(tmp_path):
    words = ["journey", "--preset", "pebble", "--threads", "1", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "cairn.cli.main", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell that runs these tests in the background lets them ignore interrupts, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "run" / "journey.json").exists():  # it has begun
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "interrupted; the same command goes on where it was" in error
    assert "Traceback" not in error
