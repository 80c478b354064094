"""What the processes of tests/test_checkpoints.py do: save or load one model under some layout of its tensors."""

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from cairn.training.checkpoints import Checkpoints
from forks import Countdown, count_file_events

STATE = {"seconds": 0.1 + 0.2, "tokens": 12345678901}
STAGES = (("embed", "unembed"), ("up", "correction"), ("norm", "down"))  # who holds what in a pipeline


class Model(nn.Module):
    """Sizes that no number of processes divides, a tied matrix, and a buffer that a model learns."""

    def __init__(self, seed: int):
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.up = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(3)
        self.down = nn.Linear(7, 5)
        self.unembed = nn.Linear(5, 11, bias=False)
        self.unembed.weight = self.embed.weight
        self.register_buffer("correction", torch.zeros(6))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in [*self.parameters(), self.correction]:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))


class Moments:
    """An optimizer's state; seed 0 is that before the first step."""

    def __init__(self, model: nn.Module, seed: int):
        self.tensors: dict[str, torch.Tensor] = {}
        for name, weight in model.named_parameters():
            self.tensors[f"{name}/exp_avg"] = weight.detach() * (3 if seed else 0)
            self.tensors[f"{name}/step"] = torch.tensor(float(seed))

    def state_tensors(self) -> dict[str, torch.Tensor]:
        return self.tensors

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors


class Average:
    def __init__(self, model: nn.Module):
        self.kept = {name: weight.detach() * 2 for name, weight in model.named_parameters()}

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.kept

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        assert tensors.keys() == self.kept.keys()
        self.kept = tensors


def divide(model: Model, mesh: DeviceMesh) -> None:
    """Tensor parallelism: one matrix by rows, one by columns, the embedding by rows, the rest whole everywhere."""
    over = {"up.weight": Shard(0), "up.bias": Shard(0), "down.weight": Shard(1), "embed.weight": Shard(0)}
    for name, parameter in list(model.named_parameters()):
        module, key = name.split(".")
        placed = nn.Parameter(distribute_tensor(parameter.detach(), mesh, [over.get(name, Replicate())]))
        setattr(getattr(model, module), key, placed)
    model.unembed.weight = model.embed.weight


def build(seed: int, layout: str, rank: int, size: int) -> Model:
    model = Model(seed)
    if layout == "shard":
        mesh = init_device_mesh("cpu", (size,))
        fully_shard(model.up, mesh=mesh)
        fully_shard(model, mesh=mesh)
    elif layout == "tensor":
        divide(model, init_device_mesh("cpu", (size,)))
    elif layout == "both":
        mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("shard", "tensor"))
        divide(model, mesh["tensor"])
        fully_shard(model, mesh=mesh["shard"])
    elif layout == "pipeline":
        for stage, names in enumerate(STAGES):
            for name in names if stage % size != rank else ():
                delattr(model, name)
    return model


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check(model: nn.Module, moments: Moments, average: Average, seed: int) -> None:
    """Everything is, bit for bit, what the seed makes."""
    expected = Model(seed).state_dict()
    weights = model.state_dict(keep_vars=True)
    assert weights
    for name, weight in weights.items():
        assert torch.equal(whole(weight), expected[name]), name
    for name, _ in model.named_parameters():
        assert torch.equal(whole(moments.tensors[f"{name}/exp_avg"]), expected[name] * 3), name
        assert torch.equal(whole(moments.tensors[f"{name}/step"]), torch.tensor(float(seed))), name
        assert torch.equal(whole(average.kept[name]), expected[name] * 2), name
    assert len(moments.tensors) == 2 * len(list(model.named_parameters()))


def run(rank: int, size: int, store: Path, jobs: list[tuple[str, str, Path, int]]) -> None:
    """Each job: save or load, the layout, the folder, the seed of what is in it."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    for action, layout, folder, seed in jobs:
        world = SimpleNamespace(rank=rank, size=size)
        checkpoints = Checkpoints(folder, "same", world=world)  # type: ignore[arg-type]
        made = seed if action == "save" else seed + 1
        model = build(made, layout, rank, size)
        moments, average = Moments(model, seed if action == "save" else 0), Average(model)
        if action == "save":
            checkpoints.save(seed, model, moments, average, STATE)  # type: ignore[arg-type]
        else:
            state = checkpoints.load(model, moments, average)  # type: ignore[arg-type]
            assert state is not None
            assert {key: state[key] for key in ("step", *STATE)} == {"step": seed} | STATE
            check(model, moments, average, seed)
        checkpoints.close()
    if size > 1:
        dist.destroy_process_group()


def leave_at_once(folder: Path) -> None:
    """End without closing."""
    model = Model(1)
    Checkpoints(folder, "same").save(1, model, Moments(model, 1), Average(model), STATE)  # type: ignore[arg-type]


LOSSES = {1: 2.0, 2: 3.0, 3: 1.0, 4: 4.0}


def save_until_killed(folder: Path, count: int) -> None:
    """Four checkpoints, of which the newest and the best are kept; killed at the count-th thing done to a file."""
    torch.set_num_threads(1)
    count_file_events(folder, Countdown(count))
    checkpoints = Checkpoints(folder, "same", keep=1, keep_best=True)
    for step, loss in LOSSES.items():
        model = Model(step)
        checkpoints.save(step, model, Moments(model, step), Average(model), STATE, loss)  # type: ignore[arg-type]
    checkpoints.close()
