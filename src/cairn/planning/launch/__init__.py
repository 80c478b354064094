"""Job files for a training command: Slurm, Kubernetes, Ray, torchrun; configuration files of Accelerate and DeepSpeed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cairn.core.config import option
from cairn.planning.launch.engines import AccelerateConfig, DeepSpeedConfig, accelerate_files, deepspeed_files
from cairn.planning.launch.files import JobFiles, write_files
from cairn.planning.launch.job import Job, JobConfig, check_layout
from cairn.planning.launch.kubernetes import kubernetes_files
from cairn.planning.launch.pods import PodConfig
from cairn.planning.launch.ray import RayConfig, ray_files
from cairn.planning.launch.slurm import SlurmConfig, slurm_files
from cairn.planning.launch.torchrun import torchrun_files


@dataclass(frozen=True)
class LaunchConfig(JobConfig):
    slurm: SlurmConfig = option(SlurmConfig(), "Slurm")
    kubernetes: PodConfig = option(PodConfig(), "Kubernetes")
    ray: RayConfig = option(RayConfig(), "Ray")
    accelerate: AccelerateConfig = option(AccelerateConfig(), "Accelerate")
    deepspeed: DeepSpeedConfig = option(DeepSpeedConfig(), "DeepSpeed")


# target -> the files of (job, settings, folder to write, where the command writes)
TARGETS: dict[str, Callable[[Job, LaunchConfig, Path, str | None], JobFiles]] = {
    "slurm": lambda job, config, out, _: slurm_files(job, config.slurm, out),
    "kubernetes": lambda job, config, out, run_out: kubernetes_files(job, config.kubernetes, out, run_out),
    "ray": lambda job, config, out, run_out: ray_files(job, config.ray, out, run_out),
    "torchrun": lambda job, config, out, _: torchrun_files(job, out),
    "accelerate": lambda job, config, out, _: accelerate_files(job, config.accelerate, out),
    "deepspeed": lambda job, config, out, _: deepspeed_files(job, config.deepspeed, out),
}
ENGINES = ("accelerate", "deepspeed")  # these train with the recipe, not with cairn's trainer

__all__ = ["ENGINES", "TARGETS", "Job", "JobConfig", "JobFiles", "LaunchConfig", "check_layout", "write_files"]
