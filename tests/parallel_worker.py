"""What each process of tests/test_parallel.py does, and a table of what comes out.

python tests/parallel_worker.py                                     # the table of docs/parallel.md, in three minutes
torchrun --standalone --nproc-per-node 2 tests/parallel_worker.py '[{"layout": {"data": 2}}]' some/folder
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import dataclasses
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from cairn.core.config import from_dict
from cairn.models import ModelConfig, Transformer, preset
from cairn.models.experts import RouterTraining, mixtures
from cairn.planning.layout import Layout
from cairn.training import CausalLM, TokenBatch, TrainConfig, train
from cairn.training.losses import IGNORED
from cairn.training.objective import Part
from cairn.training.parallel import build_worker, join

torch.set_num_threads(1)
CONTEXT, ENTRIES = 24, 512

# What a case may say, and what it means when it does not.
DEFAULTS: dict[str, Any] = {
    "layout": {},
    "model": {},  # changes to pebble
    "dtype": "float32",
    "optimizer": "adamw",
    "rows": 12,
    "micro_batches": 1,
    "clip": 0.5,  # below the first norms: clipping is at work
    "steps": 20,
    "recompute": "none",
    "ema": 0.0,
    "checkpoint_every": 1000,
    "documents": False,  # rows of two documents that do not see each other
    "silent": False,  # every other row has nothing to learn from: all that the second of two workers has
    "dies": -1,  # the step at which process 1 kills itself
}


class RandomRows:  # a `Data`
    """Counting in sevens, with noise: something to learn. Rows differ in how much of them counts; some count for nothing."""

    context = CONTEXT

    def __init__(self, case: dict[str, Any]):
        self.rows, self.micro_batches = case["rows"], case["micro_batches"]
        self.documents, self.silent, self.dies = case["documents"], case["silent"], case["dies"]

    def batch(self, step: int, part: Part) -> list[TokenBatch]:
        if step == self.dies and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(step)
        start = torch.randint(64, (self.rows, 1), generator=generator)
        ids = (start + torch.arange(CONTEXT + 1) * 7) % 64
        noise = torch.randint(ENTRIES, ids.shape, generator=generator)
        ids = torch.where(torch.rand(ids.shape, generator=generator) < 0.2, noise, ids)
        targets = ids[:, 1:].clone()
        targets[0::4] = IGNORED  # some micro-batches hold such rows alone
        targets[1, : CONTEXT // 2] = IGNORED
        if self.silent:
            targets[1::2], targets[::4] = IGNORED, ids[::4, 1:]
        mine = slice(part.index, self.rows, part.count)
        document = (torch.arange(CONTEXT) >= 9).long().expand(self.rows, -1)
        pieces = zip(*(tensor[mine].tensor_split(self.micro_batches) for tensor in (ids[:, :-1], targets, document)))
        return [TokenBatch(i, t, int((t != IGNORED).sum()), d if self.documents else None) for i, t, d in pieces]

    def weight(self, batch: TokenBatch) -> float:
        return float(batch.counted)

    def tokens(self, batch: TokenBatch) -> int:
        return batch.inputs_BT.numel()


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run of the trainer in `folder`: losses and gradient norms of the steps, the loss of an evaluation at the end, and the
    final weights."""
    case = DEFAULTS | case
    model = build(case)
    config = TrainConfig(
        steps=case["steps"],
        optimizer=case["optimizer"],
        schedule="constant",
        warmup=0,
        clip=case["clip"],
        ema=case["ema"],
        recompute=case["recompute"],
        log_every=1,
        checkpoint_every=case["checkpoint_every"],
        device="cpu",
        precision="fp32",  # layouts round differently, in 16 bits too much to compare
        parallel=Layout(**case["layout"]),
    )
    data = RandomRows(case)

    def evaluate(whole: Transformer) -> dict[str, float]:
        (batch,) = RandomRows(case | {"micro_batches": 1, "dies": -1}).batch(case["steps"], Part())
        with torch.no_grad():
            loss, _ = CausalLM().loss(whole, batch)
        return {"valid_loss": float(loss) / batch.counted}

    train(model, CausalLM(), data, config, folder, title="test", inputs="random rows", evaluate=evaluate)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [row["loss"] for row in rows],
        "valid_loss": rows[-1]["valid_loss"],
        "norms": [row["grad_norm"] for row in rows],
        "weights": {name: p.detach().double().flatten().tolist() for name, p in model.named_parameters()},
    }


def build(case: dict[str, Any]) -> Transformer:
    shape = from_dict(ModelConfig, case["model"], preset("pebble"))
    model = Transformer(shape).initialize(1).to(getattr(torch, case["dtype"])).train()
    for mixture in mixtures(model):
        # Balance is a property of the rows that pass together: the one thing that is not a sum over rows.
        mixture.router_training = RouterTraining(balance=0.0)
    return model


class Counter(TorchDispatchMode):
    """How often each collective is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # ask again with what it does to the parts
        name = func.overloadpacket.__name__.strip("_")
        if func.namespace in ("c10d", "_c10d_functional") and name in (
            "all_reduce",
            "allgather_base",
            "reduce_scatter_base",
        ):
            self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def look(case: dict[str, Any]) -> dict[str, Any]:
    """What a process trains, by name; the collectives of a step of two micro-batches; what it has whole after one that is
    not the last."""
    case = DEFAULTS | case | {"micro_batches": 2}
    world = join(Layout(**case["layout"]), "cpu")
    worker: Any = build_worker(build(case), CausalLM(), "fp32", world)
    batches = RandomRows(case).batch(0, world.part)
    worker.run(batches, 1.0)  # the first step sets up what the others find
    with Counter() as counter:
        worker.run(batches, 1.0)
    found = {"names": [name for name, _ in worker.model.named_parameters()], "calls": counter.calls}
    if world.layout.shard > 1:
        with worker.communicating(False):
            loss, _ = worker.module(batches[0])
            loss.backward()
        weight = worker.model.blocks[0].feed_forward.down.weight
        found["weights"] = not isinstance(weight, DTensor)
        found["gradients"] = weight.grad is not None and not isinstance(weight.grad, DTensor)
    return found


def launch(processes: int, cases: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The cases one after the other under torchrun, the n-th in folder/n: what the first process saw."""
    done = torchrun(processes, cases, folder)
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((folder / "out.json").read_text())


def torchrun(processes: int, cases: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += [__file__, json.dumps(cases), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=540)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Between a layout and one process: largest of the losses (also of the evaluation), their mean and its standard error,
    largest of the gradient norms, largest of the final weights."""

    loss: float
    mean: float
    error: float
    norm: float
    weight: float


def difference(one: dict[str, Any], many: dict[str, Any]) -> Difference:
    losses = [b - a for a, b in zip(one["losses"], many["losses"], strict=True)]
    norms = [abs(b - a) for a, b in zip(one["norms"], many["norms"], strict=True)]
    assert one["weights"].keys() == many["weights"].keys()
    weights = [
        abs(b - a) for name in one["weights"] for a, b in zip(one["weights"][name], many["weights"][name], strict=True)
    ]
    mean, error = statistics.mean(losses), statistics.stdev(losses) / len(losses) ** 0.5
    largest = max(map(abs, [*losses, many["valid_loss"] - one["valid_loss"]]))
    return Difference(largest, mean, error, max(norms), max(weights))


TABLE: dict[int, list[dict[str, Any]]] = {
    2: [
        {"data": 2},
        {"shard": 2, "zero": 1},
        {"shard": 2, "zero": 2},
        {"shard": 2, "zero": 3},
        {"tensor": 2},
        {"pipeline": 2},
    ],
    4: [
        {"shard": 2, "tensor": 2},
        {"data": 2, "shard": 2},
        {"data": 2, "tensor": 2},
        {"pipeline": 2, "data": 2},
        {"pipeline": 2, "shard": 2},
        {"pipeline": 2, "tensor": 2},
    ],
}


def print_table(folder: Path) -> None:
    one = {t: run({"dtype": t, "micro_batches": 3}, folder / t) for t in ("float32", "float64")}
    print("| layout | loss, float32 | its mean | gradient norm | weights | loss, float64 | weights |")
    print("|---|---|---|---|---|---|---|")
    for processes, layouts in TABLE.items():
        cases = [{"layout": layout, "dtype": t, "micro_batches": 3} for layout in layouts for t in one]
        found = iter(launch(processes, cases, folder / str(processes)))
        for layout in layouts:
            plain, double = (difference(one[t], next(found)) for t in one)
            print(
                f"| {Layout(**layout).describe()} | {plain.loss:.1e} | {plain.mean:+.1e} ± {plain.error:.1e} "
                f"| {plain.norm:.1e} | {plain.weight:.1e} | {double.loss:.1e} | {double.weight:.1e} |"
            )


def main() -> None:
    if "RANK" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            print_table(Path(folder))
        return
    cases, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    results = [look(case) if case.get("look") else run(case, folder / str(i)) for i, case in enumerate(cases)]
    if os.environ["RANK"] == "0":
        (folder / "out.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
