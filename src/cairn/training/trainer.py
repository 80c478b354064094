"""The one training loop. What is learned is an objective, what it is learned from is a data source; both are small.

data.batch(step) -> list of micro-batches, a pure function of the step, so that resuming needs no data state
objective.loss(model, micro_batch) -> (loss sum, weight, metrics sums): the step's loss is sum / weight over *all* of its
    micro-batches, so that accumulation equals the full batch whatever each micro-batch holds
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from cairn.core.compute import pick_device, rng_state, seed_all, set_rng_state
from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import fingerprint
from cairn.core.progress import Display, say
from cairn.core.record import MetricsLog
from cairn.models import Transformer
from cairn.training.checkpoints import load_checkpoint, save_checkpoint
from cairn.training.optimizers import Optimizer
from cairn.training.schedules import SCHEDULES, rate


@dataclass(frozen=True)
class TrainConfig:
    """How to train; what to train on and towards are the data source and the objective."""

    steps: int = option(1000, "optimizer steps", minimum=1)
    optimizer: str = option("muon", "optimizer of the matrices", choices=("muon", "adamw"))
    lr: float = option(3e-3, "peak rate of AdamW (embeddings and norms, or everything)", minimum=0)
    matrix_lr: float = option(0.02, "peak rate of Muon", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay of the matrices", minimum=0)
    beta2: float = option(0.95, "second moment decay of AdamW", minimum=0)
    schedule: str = option("linear", "learning-rate schedule", choices=SCHEDULES)
    warmup: int = option(50, "steps of linear warm-up", minimum=0)
    clip: float = option(1.0, "largest gradient norm; 0 turns clipping off", minimum=0)
    seed: int = option(1, "seed of data order and initialisation", minimum=0)
    log_every: int = option(10, "steps between rows of metrics.jsonl", minimum=1)
    checkpoint_every: int = option(100, "steps between checkpoints", minimum=1)
    device: str = option("auto", "auto, cpu, cuda or mps")
    precision: str = option("auto", "auto: bf16 on CUDA, else fp32", choices=("auto", "fp32", "bf16"))
    compile: bool = option(False, "torch.compile the blocks (worth it on a GPU)")


class Objective(Protocol):
    def loss(self, model: Transformer, batch: Any) -> tuple[torch.Tensor, float, dict[str, float]]: ...


class Data(Protocol):
    def batch(self, step: int) -> list[Any]: ...

    def weight(self, batch: Any) -> float:
        """What `loss` will divide by, known before the forward pass (tokens, or pairs)."""
        ...

    def tokens(self, batch: Any) -> int:
        """Tokens that go through the model, for the speed."""
        ...


@dataclass(frozen=True)
class TrainResult:
    steps: int
    seconds: float
    tokens: int
    last: dict[str, float]


def train(
    model: Transformer,
    objective: Objective,
    data: Data,
    config: TrainConfig,
    run: Path,
    *,
    title: str,
    inputs: Any,
    evaluate: Callable[[Transformer], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> TrainResult:
    """Train `model` in place. `run` receives metrics.jsonl and checkpoints/; run again with the same arguments, a killed
    run goes on where it was. `inputs` is what else determines the result (hashes of data and of the starting model): a
    checkpoint of other inputs is refused.
    """
    device = pick_device(config.device)
    precision = config.precision if config.precision != "auto" else ("bf16" if device.type == "cuda" else "fp32")
    model.to(device).train()
    seed_all(config.seed)
    optimizer = Optimizer(model, config.optimizer, config.lr, config.matrix_lr, config.weight_decay, config.beta2)
    identity = fingerprint([to_dict(config), inputs, to_dict(model.config)])
    state = load_checkpoint(run / "checkpoints", model, optimizer, identity)
    start, seconds, tokens = 0, 0.0, 0
    if state is not None:
        start, seconds, tokens = state["step"], state["seconds"], state["tokens"]
        set_rng_state(state["rng"])
        say(f"{title}: going on at step {start} of {config.steps}")
    if config.compile:
        for block in model.blocks:  # one compiled block serves all layers; objectives call more than `forward`
            block.compile()
    log = MetricsLog(run / "metrics.jsonl", resume_step=start)
    last: dict[str, float] = {}
    sums: dict[str, float] = {}
    weight = 0.0
    mark, marked_tokens = time.perf_counter(), tokens
    with Display(title, config.steps, "steps") as display:
        for step in range(start, config.steps):
            began = time.perf_counter()
            factor = rate(config.schedule, step, config.steps, config.warmup)
            optimizer.set_rate(factor)
            batches = data.batch(step)
            total = sum(data.weight(b) for b in batches)
            for batch in batches:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    loss_sum, _, metrics = objective.loss(model, batch)
                if total > 0:
                    (loss_sum / total).backward()
                tokens += data.tokens(batch)
                for key, value in metrics.items():
                    sums[key] = sums.get(key, 0.0) + value
            weight += total
            if total > 0:
                parameters = [p for p in model.parameters() if p.grad is not None]
                norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip if config.clip else float("inf"))
                if not torch.isfinite(norm):
                    raise UserError(
                        f"{title}: the gradient is not finite at step {step + 1}; lower --lr or --matrix-lr, or raise --warmup"
                    )
                optimizer.step()
            seconds += time.perf_counter() - began
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                now = time.perf_counter()
                speed = (tokens - marked_tokens) / (now - mark)
                mark, marked_tokens = now, tokens
                row = {k: v / max(weight, 1e-9) for k, v in sums.items()}
                row |= {"grad_norm": float(norm) if total > 0 else 0.0, "rate": factor}
                sums, weight = {}, 0.0
                last = row | {"tokens": tokens, "tokens_per_second": round(speed, 1), "seconds": round(seconds, 3)}
                last |= _utilisation(model, data, batches, speed, device)
                if evaluate and evaluate_every and (done % evaluate_every == 0 or done == config.steps):
                    model.eval()
                    last |= evaluate(model)
                    model.train()
                    mark = time.perf_counter()
                log.write({"step": done} | last)
                display.update(done, f"loss {row['loss']:.3f}  {speed:,.0f} tokens/s")
            if done % config.checkpoint_every == 0 and done < config.steps:
                # A row of metrics spans log_every steps: checkpoints fall on its borders, or its first half would be lost.
                extra = {"identity": identity, "seconds": seconds, "tokens": tokens, "rng": rng_state()}
                save_checkpoint(run / "checkpoints", done, model, optimizer, extra)
    log.close()
    model.eval()
    return TrainResult(config.steps, seconds, tokens, last)


def remove_checkpoints(run: Path) -> None:
    """After the model directory is written they are only weight."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


# Dense bf16 peak by vendor data sheets, FLOP/s, for the model FLOP utilisation.
GPU_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12, "3090": 71e12}


def _utilisation(model: Transformer, data: Data, batches: list, speed: float, device: torch.device) -> dict[str, float]:
    out: dict[str, float] = {"flops_per_second": round(speed * model.flops_per_token(model.config.max_positions))}
    if device.type == "cuda":
        out["memory"] = torch.cuda.max_memory_allocated(device)
        name = torch.cuda.get_device_name(device)
        peak = next((p for key, p in GPU_PEAK.items() if key in name), None)
        if peak:
            out["mfu"] = round(out["flops_per_second"] / peak, 4)
    return out
