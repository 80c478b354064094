"""The one training loop. What is learned is an objective, what it is learned from is a data source; both are small.

The step's loss is the sum of the objective's losses divided by the sum of the data's weights, over *all* micro-batches of
all processes: accumulation and data parallelism equal the full batch, whatever each micro-batch holds. Data and random
numbers are functions of the step, so that a checkpoint is weights, the optimizer's state and a few figures.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from cairn.core.compute import keep_freed_memory, seed_all, seed_step
from cairn.core.config import option, to_dict
from cairn.core.errors import UserError
from cairn.core.files import fingerprint, write_json
from cairn.core.progress import Display, say
from cairn.core.record import MetricsLog
from cairn.models.dropout import set_dropout
from cairn.models.model import Model
from cairn.models.recompute import RECOMPUTE, set_recompute
from cairn.models.transformer import Block
from cairn.planning.hardware import match_device
from cairn.planning.layout import Layout
from cairn.training import mup
from cairn.training.averaging import Average
from cairn.training.checkpoints import Checkpoints
from cairn.training.interrupt import Interrupt
from cairn.training.objective import Data, Objective
from cairn.training.optimizers import OPTIMIZERS, build_optimizer
from cairn.training.parallel import Worker, World, build_worker, clip_gradients, join
from cairn.training.precision import LossScale, pick_precision
from cairn.training.schedules import SCHEDULES, rate
from cairn.training.watch import Watch


@dataclass(frozen=True)
class TrainConfig:
    """How to train; what to train on and towards are the data source and the objective."""

    steps: int = option(1000, "optimizer steps", minimum=1)
    optimizer: str = option("muon", "optimizer (muon: of the matrices, AdamW for the rest)", choices=OPTIMIZERS)
    lr: float = option(3e-3, "peak rate of AdamW (embeddings and norms, or everything)", minimum=0)
    matrix_lr: float = option(0.02, "peak rate of Muon", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay of the matrices", minimum=0)
    beta2: float = option(0.95, "second moment decay of AdamW", minimum=0)
    momentum: float = option(0.95, "momentum of Muon and SGD", minimum=0)
    schedule: str = option("linear", "learning-rate schedule", choices=SCHEDULES)
    warmup: int = option(50, "steps of linear warm-up", minimum=0)
    final: float = option(0.0, "share of the peak rate that is left at the end", minimum=0)
    clip: float = option(1.0, "largest gradient norm; 0 turns clipping off", minimum=0)
    dropout: float = option(0.0, "share of activations set to zero while training", minimum=0)
    ema: float = option(0.0, "decay of the average of weights that becomes the model; 0 turns it off", minimum=0)
    mup_width: int = option(0, "width at which the rates were tuned (muP); 0 turns muP off", minimum=0)
    seed: int = option(1, "seed of data order, dropout and initialisation", minimum=0)
    log_every: int = option(10, "steps between rows of metrics.jsonl", minimum=1)
    checkpoint_every: int = option(100, "steps between checkpoints", minimum=1)
    keep: int = option(2, "newest checkpoints that are kept", minimum=1)
    evaluate_every: int = option(0, "steps between evaluations; 0 evaluates at the end alone", minimum=0)
    keep_best: bool = option(False, "end with the weights of the best evaluation")
    patience: int = option(0, "stop after this many evaluations without a better one; 0 never does", minimum=0)
    watch_every: int = option(0, "steps between statistics of every layer in metrics.jsonl; 0 never", minimum=0)
    tensorboard: bool = option(False, "write TensorBoard event files beside metrics.jsonl")
    device: str = option("auto", "auto, cpu, cuda or mps")
    precision: str = option(
        "auto", "auto: bf16 where the GPU or CPU multiplies it, else fp32", choices=("auto", "fp32", "bf16", "fp16")
    )
    recompute: str = option(
        "none", "compute blocks again in the backward pass: all but matrix products, or all", choices=RECOMPUTE
    )
    compile: bool = option(False, "torch.compile the blocks (worth it on a GPU)")
    parallel: Layout = option(Layout(), "processes under torchrun")

    def __post_init__(self) -> None:
        for name in ("dropout", "ema", "beta2", "momentum"):
            if getattr(self, name) >= 1:
                raise UserError(f"{name} must be below 1, got {getattr(self, name)}")
        for name in ("lr", "matrix_lr", "weight_decay", "clip"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"{name} must be a finite number; 0 turns it off")
        if self.final > 1:
            raise UserError(f"final is a share of the peak rate: at most 1, got {self.final}")
        if self.seed >= 2**63:
            raise UserError("seed must be below 2**63")
        if (self.patience or self.keep_best) and not self.evaluate_every:
            raise UserError("patience and keep_best compare evaluations: set evaluate_every")


@dataclass(frozen=True)
class TrainResult:
    steps: int
    seconds: float
    tokens: int
    last: dict[str, float]


@dataclass
class Progress:
    """What a run has behind it besides weights and moments: the rest of a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of the metrics since the last row, over all processes
    weight: float = 0.0
    best: float | None = None  # lowest loss of an evaluation
    worse: int = 0  # evaluations since
    best_row: dict[str, Any] = field(default_factory=dict)  # its figures
    last: dict[str, Any] = field(default_factory=dict)  # the newest row of metrics.jsonl
    scale: list[float] = field(default_factory=list)  # of float16
    threads: int = 1  # of the CPU: sums in another order are others in the last bit

    def add(self, sums: dict[str, float], weight: float, tokens: int) -> None:
        for key, value in sums.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.weight += weight
        self.tokens += tokens

    def row(self) -> dict[str, float]:
        """Means since the last row; begins anew."""
        row = {key: value / max(self.weight, 1e-9) for key, value in self.sums.items()}
        self.sums, self.weight = {}, 0.0
        return row

    def judge(self, loss: float) -> bool:
        """Whether an evaluation is the best so far."""
        better = math.isfinite(loss) and (self.best is None or loss < self.best)
        self.best, self.worse = (loss, 0) if better else (self.best, self.worse + 1)
        return better


def train(
    model: Model,
    objective: Objective,
    data: Data,
    config: TrainConfig,
    run: Path,
    *,
    title: str,
    inputs: Any,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    about: dict[str, Any] | None = None,
) -> TrainResult:
    """Train `model` in place. `run` receives metrics.jsonl and checkpoints/; run again with the same arguments, a killed
    run goes on where it was. `inputs` is what else determines the result (hashes of data and of the starting model): a
    checkpoint of other inputs is refused.

    evaluate gives figures of the model, "valid_loss" among them. Where an average of the weights is kept it is the average
    that is evaluated and that the model becomes at the end. Interrupted, it leaves a checkpoint and raises KeyboardInterrupt.
    """
    if config.evaluate_every and evaluate is None:
        raise UserError(
            f"{title}: nothing is held out to evaluate on: set evaluate_every, patience and keep_best to nothing"
        )
    world = join(config.parallel, config.device)
    precision = pick_precision(config.precision, model, world.device)
    keep_freed_memory()
    if config.mup_width:
        mup.scale(model, config.mup_width)
    model.to(world.device).train()
    set_dropout(model, config.dropout)
    set_recompute(model, config.recompute)
    seed_all(config.seed)
    identity = fingerprint([decisive(to_dict(config)), inputs, to_dict(model.config)])
    worker = build_worker(model, objective, precision, world)
    trained = worker.model  # what this process trains: the model, or its part of it
    optimizer = build_optimizer(trained, config)
    average = Average(trained, config.ema) if config.ema else None
    watch = Watch(trained) if config.watch_every else None
    checkpoints = Checkpoints(run / "checkpoints", identity, keep=config.keep, keep_best=config.keep_best, world=world)
    scale, progress = LossScale(precision), Progress(threads=torch.get_num_threads())
    state = checkpoints.load(trained, optimizer, average)
    if state is not None:
        progress = Progress(**state["progress"])
        scale.load(progress.scale)
        say(f"{title}: going on at step {progress.step} of {config.steps}")
        if progress.threads != torch.get_num_threads() and world.device.type == "cpu":
            say(
                f"{title}: with {progress.threads} threads as before: sums in another order would be others in the last bit"
            )
            torch.set_num_threads(progress.threads)
    if config.compile:
        for module in trained.modules():
            if isinstance(module, Block):  # one compiled block serves all layers; objectives call more than `forward`
                module.compile()
    records: list[Any] = _records(run, title, model, config, about, progress.step) if world.is_main else []
    clock = _Clock(progress.tokens)
    with (
        Display(title, config.steps, "steps", shown=world.is_main) as display,
        Interrupt() as interrupt,
        contextlib.closing(checkpoints),
    ):
        while progress.step < config.steps and not _patience_is_out(config, progress):
            began = time.perf_counter()
            step, done = progress.step, progress.step + 1
            seed_step(config.seed, step, world.part.index)
            factor = rate(config.schedule, step, config.steps, config.warmup, config.final)
            optimizer.set_rate(factor)
            batches = data.batch(step, world.part)
            (total,) = world.sum([sum(data.weight(batch) for batch in batches)])
            watching = watch if _due(done, config.watch_every) else None
            with watching or contextlib.nullcontext():
                sums = worker.run(batches, scale.scale / total if total > 0 else 0.0)
                norm = clip_gradients(trained, (config.clip or math.inf) * scale.scale, world)
                norm, counts = scale.unscale(trained, norm)
                if counts and not torch.isfinite(norm):  # in float16 a large scale may be why: then it does not count
                    raise UserError(_fault(title, run, worker, batches, config, step, world))
                if watching is not None:
                    watching.gradients(float(norm), config.clip)
                if counts and total > 0:  # nothing to learn from changes nothing, weight decay and momentum included
                    optimizer.step()
                    if average is not None:
                        average.update()
            trained.zero_grad(set_to_none=True)
            *values, tokens = world.sum([float(v) for v in sums.values()] + [sum(data.tokens(b) for b in batches)])
            progress.add(dict(zip(sums, values)), total, int(tokens))
            progress.step = done
            progress.seconds += time.perf_counter() - began

            finished = done == config.steps
            evaluating = evaluate is not None and (finished or _due(done, config.evaluate_every))
            better = False
            if done == 1 or finished or evaluating or watching is not None or _due(done, config.log_every):
                speed = clock.speed(progress.tokens)
                row: dict[str, Any] = progress.row() | {"grad_norm": float(norm) if total > 0 else 0.0, "rate": factor}
                row |= {"tokens": progress.tokens, "tokens_per_second": round(speed, 1)}
                row |= {"seconds": round(progress.seconds, 3)} | utilisation(
                    model, data.context, speed, precision, world
                )
                if watching is not None:
                    row["layers"] = watching.layers
                if evaluate is not None and evaluating:
                    row |= _evaluate(worker, average, evaluate)
                    better = progress.judge(row["valid_loss"])
                    clock.start(progress.tokens)
                progress.last = row = {key: _number(value) for key, value in row.items()}
                if better:
                    progress.best_row = {"best_step": done} | {k: v for k, v in row.items() if k.startswith("valid_")}
                for record in records:
                    record.write({"step": done} | row)
                display.update(done, _note(row))
            interrupted = world.any(interrupt.asked) and not finished
            best = progress.best if better and config.keep_best else None
            if interrupted or best is not None or (_due(done, config.checkpoint_every) and not finished):
                progress.scale = scale.state()
                checkpoints.save(done, trained, optimizer, average, {"progress": asdict(progress)}, best)
            if interrupted:
                raise KeyboardInterrupt
    if _patience_is_out(config, progress):
        say(f"{title}: {progress.worse} evaluations without a better one: stopped after step {progress.step}")
    for record in records:
        record.close()
    last = progress.last
    if config.keep_best and checkpoints.load_best(trained, optimizer, average) is not None:
        last = last | progress.best_row  # the figures of the weights that stay
    if average is not None:
        average.apply()
    worker.finish()
    if config.mup_width:
        mup.fold(model, config.mup_width)
    model.eval()
    return TrainResult(progress.step, progress.seconds, progress.tokens, last)


# Settings that do not decide what is learned: a run goes on with other ones, also on another number of processes.
FREE = ("log_every", "checkpoint_every", "keep", "watch_every", "tensorboard", "parallel", "recompute", "compile")


def decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a TrainConfig's values that do."""
    return {key: value for key, value in settings.items() if key not in FREE}


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _evaluate(worker: Worker, average: Average | None, evaluate: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    worker.model.eval()
    with average.swapped() if average is not None else contextlib.nullcontext(), worker.whole() as model:
        figures = evaluate(model)
    worker.model.train()
    return figures


def _records(
    run: Path, title: str, model: Model, config: TrainConfig, about: dict[str, Any] | None, step: int
) -> list[Any]:
    """What takes the rows; beside them run.json says what was set out to be done, also of a run that fails."""
    settings = {"title": title, "train": to_dict(config), "model": to_dict(model.config)}
    write_json(run / "run.json", settings | {"parameters": model.parameter_count()} | (about or {}))
    (run / "fault.json").unlink(missing_ok=True)
    records: list[Any] = [MetricsLog(run / "metrics.jsonl", resume_step=step)]
    if config.tensorboard:
        from cairn.training.tensorboard import EventLog

        records.append(EventLog(run / "tensorboard", resume_step=step))
    return records


def _fault(
    title: str, run: Path, worker: Worker, batches: list[Any], config: TrainConfig, step: int, world: World
) -> str:
    """What to tell of a gradient that is not finite: where it began, found by running the step again."""
    from cairn.training.fault import first_not_finite

    def again() -> None:
        seed_step(config.seed, step, world.part.index)
        worker.run(batches, 1.0)

    fault = first_not_finite(worker.model, again)
    if world.is_main:
        write_json(run / "fault.json", {"step": step + 1} | asdict(fault))
    where = f"{title}: the gradient is not finite at step {step + 1}"
    return f"{where}: {fault.text}; lower --train.lr or --train.matrix-lr, or raise --train.warmup"


class _Clock:
    """Tokens a second since the last row, evaluations left out."""

    def __init__(self, tokens: int):
        self.start(tokens)

    def start(self, tokens: int) -> None:
        self.since, self.tokens = time.perf_counter(), tokens

    def speed(self, tokens: int) -> float:
        speed = (tokens - self.tokens) / max(time.perf_counter() - self.since, 1e-9)
        self.start(tokens)
        return speed


def _number(value: Any) -> Any:
    """NaN and infinity are no JSON: null stands for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _patience_is_out(config: TrainConfig, progress: Progress) -> bool:
    return bool(config.patience) and progress.worse >= config.patience


def _note(row: dict[str, Any]) -> str:
    """What stands beside the bar."""
    note = "".join(
        f"{name} {'not finite' if row[key] is None else format(row[key], '.3f')}  "
        for name, key in (("loss", "loss"), ("valid", "valid_loss"))
        if key in row
    )
    note += f"{row['tokens_per_second']:,.0f} tokens/s"
    note += f"  MFU {row['mfu']:.0%}" if "mfu" in row else ""
    return note + (f"  {row['memory'] / 1e9:.1f} GB" if "memory" in row else "")


def remove_checkpoints(run: Path) -> None:
    """After the model directory is written they are only weight."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


def utilisation(model: Model, context: int, speed: float, precision: str, world: World) -> dict[str, float]:
    """Model FLOPs a second and, where the device's peak is known, their share of it; the most memory taken so far."""
    out: dict[str, float] = {"flops_per_second": round(speed * model.flops_per_token(context))}
    if world.device.type == "cuda":
        out["memory"] = torch.cuda.max_memory_allocated(world.device)
        device = match_device(torch.cuda.get_device_name(world.device))
        peak = device.rate(precision) if device is not None else None
        if peak:
            out["mfu"] = round(out["flops_per_second"] / (peak * world.size), 4)
    return out
