"""Accelerate and DeepSpeed: their configuration files, and a script that trains with them (training/recipes).

Accelerate starts the processes in both cases; with DeepSpeed it hands model and optimizer to DeepSpeed's engine, whose
file is deepspeed.json.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.launch.files import JobFiles
from cairn.planning.launch.job import Job, one_command, options
from cairn.planning.launch.torchrun import SCRIPT, notes_on_each, submit_on_each
from cairn.planning.launch.yaml import to_yaml

ACCELERATE, DEEPSPEED = "accelerate.yaml", "deepspeed.json"


@dataclass(frozen=True)
class AccelerateConfig:
    shard: bool = option(
        False, "divide weights, gradients and optimizer over the processes (FSDP2); else replicas (DDP)"
    )
    precision: str = option("no", "mixed precision", choices=("no", "bf16", "fp16"))


@dataclass(frozen=True)
class DeepSpeedConfig:
    zero: int = option(2, "what is divided: 1 optimizer, 2 and gradients, 3 and weights", choices=(1, 2, 3))
    offload: str = option(
        "none",
        "what waits in the memory of the CPU (parameters: the optimizer as well)",
        choices=("none", "optimizer", "parameters"),
    )
    precision: str = option("bf16", "mixed precision", choices=("no", "bf16", "fp16"))

    def __post_init__(self) -> None:
        if self.offload == "parameters" and self.zero != 3:
            raise UserError("deepspeed.offload parameters needs deepspeed.zero 3, which divides them")


def accelerate_files(job: Job, config: AccelerateConfig, out: Path) -> JobFiles:
    """accelerate.yaml and run.sh: CPU processes, one GPU, DDP or FSDP2."""
    if config.shard and not job.config.gpus:
        raise UserError("accelerate shards on GPUs alone: give --gpus, or leave out --accelerate.shard")
    settings = _machines(job, config.precision)
    if config.shard and job.config.total > 1:
        settings["distributed_type"] = "FSDP"
        settings["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",  # block by block, as transformers names them
            "fsdp_reshard_after_forward": True,  # weights too (ZeRO-3)
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",  # each process writes its part of a checkpoint
            "fsdp_offload_params": False,
            "fsdp_activation_checkpointing": False,
            "fsdp_cpu_ram_efficient_loading": False,  # the recipe loads the model itself
        }
    return _files(job, out, {ACCELERATE: to_yaml(settings)})


def deepspeed_files(job: Job, config: DeepSpeedConfig, out: Path) -> JobFiles:
    """deepspeed.json, the accelerate.yaml that names it, and run.sh."""
    if not job.config.gpus:
        raise UserError("Accelerate starts DeepSpeed on GPUs alone: give --gpus, or use cairn launch accelerate")
    # Accelerate takes the precision from DeepSpeed's file, and refuses a second word on it.
    settings = _machines(job, None)
    settings["distributed_type"] = "DEEPSPEED"
    settings["deepspeed_config"] = {
        "deepspeed_config_file": str(out.absolute() / DEEPSPEED),
        "deepspeed_multinode_launcher": "standard",  # run.sh runs on every node, nobody needs ssh
        "zero3_init_flag": False,  # the recipe loads the weights before they are divided
    }
    engine = json.dumps(deepspeed_engine(config), indent=2) + "\n"
    return _files(job, out, {ACCELERATE: to_yaml(settings), DEEPSPEED: engine})


def deepspeed_engine(config: DeepSpeedConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration. "auto" is what the recipe fills in from its options."""
    zero: dict[str, Any] = {"stage": config.zero, "overlap_comm": True, "contiguous_gradients": True}
    if config.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True  # or there is no model to save at the end
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if config.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    engine: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": zero,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
    }
    if config.offload != "none":
        # The recipe's AdamW is torch's: DeepSpeed would ask for its own, which has to be compiled.
        engine |= {"zero_force_ds_cpu_optimizer": False}
    return engine


def _machines(job: Job, precision: str | None) -> dict[str, Any]:
    total, cpu = job.config.total, not job.config.gpus
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        # Several processes on CPUs as well: `accelerate launch` starts those of MULTI_CPU by MPI alone, without it just one.
        "distributed_type": "NO" if total == 1 else "MULTI_GPU",
        "num_machines": job.config.nodes,
        "num_processes": total,
        "main_training_function": "main",
        "use_cpu": cpu,
        # Processes that fail are started again, and find each other again.
        "rdzv_backend": "c10d" if job.config.nodes > 1 else "static",
    }
    return settings | ({"mixed_precision": precision} if precision else {})


def _files(job: Job, out: Path, files: dict[str, str]) -> JobFiles:
    python = shlex.quote(job.config.python or sys.executable)
    first = f"exec {python} -m accelerate.commands.launch"
    parts = [first, f"--config_file {shlex.quote(str(out.absolute() / ACCELERATE))}"]
    if job.config.nodes > 1:
        parts += ['--machine_rank "${NODE_RANK:?}"', '--main_process_ip "${HEAD:?}"']
    parts += [
        f"--main_process_port {job.config.port}",
        f"--max_restarts {job.config.restarts}",
        *options(["-m", *job.words]),
    ]
    files[SCRIPT] = job.preamble(str(Path.cwd())) + one_command(parts)
    path = shlex.quote(str(out.absolute() / SCRIPT))
    return JobFiles(files, submit_on_each(job, path), notes_on_each(job))
