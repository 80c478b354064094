"""Ray: a driver that runs the command in Ray Train's workers, and a RayJob for clusters with KubeRay.

Ray starts the worker group again when a worker or a node is lost; each worker runs the same command, which goes on from
its newest checkpoint. The output must lie where all nodes see it.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.launch.files import JobFiles
from cairn.planning.launch.job import Job
from cairn.planning.launch.pods import SCRIPTS, PodConfig, check_pods, config_map, pod
from cairn.planning.launch.yaml import to_yaml

DRIVER, MANIFEST = "driver.py", "rayjob.yaml"

# The settings come first; what stands below them is the same for every job.
TEMPLATE = '''\
"""Ray Train driver of the job {name}. Run again after any interruption, it goes on from the newest checkpoint."""

import os

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

COMMAND = {command}
FOLDER = {folder}
ENVIRONMENT = {environment}
WORKERS, GPUS_EACH, CPUS_EACH = {workers}, {gpus}, {cpus}
RESTARTS = {restarts}  # of all workers, after one or its node was lost
STORAGE = {storage}


def work(config):
    """One process: Ray has set RANK, LOCAL_RANK and WORLD_SIZE and joined the process group."""
    from cairn.cli.main import main

    os.environ.update(ENVIRONMENT)
    if FOLDER:
        os.chdir(FOLDER)
    code = main(COMMAND)
    if code:
        raise RuntimeError(f"cairn ended with exit code {{code}}; its message stands above")


if __name__ == "__main__":
    resources = {{"CPU": CPUS_EACH}} | ({{"GPU": GPUS_EACH}} if GPUS_EACH else {{}})
    scaling = ScalingConfig(num_workers=WORKERS, use_gpu=GPUS_EACH > 0, resources_per_worker=resources)
    run = RunConfig(name={name!r}, storage_path=STORAGE, failure_config=FailureConfig(max_failures=RESTARTS))
    # Tensors on CPU and GPU go between processes, as they do under torchrun.
    torch_config = TorchConfig(backend="cpu:gloo,cuda:nccl" if GPUS_EACH else "gloo")
    trainer = TorchTrainer(
        work, train_loop_config={{}}, torch_config=torch_config, scaling_config=scaling, run_config=run
    )
    trainer.fit()
'''


@dataclass(frozen=True)
class RayConfig(PodConfig):
    address: str = option("http://127.0.0.1:8265", "dashboard of the cluster that the job is given to")
    storage: str = option("", "folder all nodes see, where Ray keeps its notes (default: ~/ray_results)")
    cpus_each: int = option(1, "CPU cores of a process", minimum=1)
    version: str = option("", "Ray version of the image, for a RayJob")


def ray_files(job: Job, config: RayConfig, out: Path, run_out: str | None) -> JobFiles:
    """driver.py, and rayjob.yaml where an image is named. run_out: where the command writes."""
    gpus = job.config.gpus
    if gpus and job.config.per_node != gpus:
        raise UserError(
            f"Ray gives each process a GPU of its own: {job.config.per_node} processes need as many GPUs, not {gpus}"
        )
    if config.image:
        check_pods(config, job.config, run_out, "ray")
    files = {DRIVER: driver(job, config, "" if config.image else str(Path.cwd()))}
    if config.image:
        documents = [config_map(config, job.config, files), ray_job(job, config)]
        files[MANIFEST] = to_yaml(*documents)
        return JobFiles(files, f"kubectl apply -f {shlex.quote(str(out.absolute() / MANIFEST))}")
    submit = ["ray", "job", "submit", "--address", config.address, "--working-dir", str(out.absolute())]
    notes = ["all nodes must see the command's inputs and --out under the same paths"]
    return JobFiles(files, shlex.join([*submit, "--", "python", DRIVER]), notes)


def driver(job: Job, config: RayConfig, folder: str) -> str:
    return TEMPLATE.format(
        name=job.config.name,
        command=repr(list(job.words[1:])),  # without the module: the driver calls it itself
        folder=repr(job.config.folder or folder),
        environment=repr(dict(entry.split("=", 1) for entry in job.config.env)),
        workers=job.config.total,
        gpus=1 if job.config.gpus else 0,
        cpus=config.cpus_each,
        restarts=job.config.restarts,
        storage=repr(config.storage or None),
    )


def ray_job(job: Job, config: RayConfig) -> dict[str, Any]:
    """A RayJob: its own cluster of a head without GPUs and a worker pod for each node, gone when the job ends."""
    head = pod(config, job.config, "ray-head", works=False)
    workers = pod(config, job.config, "ray-worker")
    cluster: dict[str, Any] = {
        "headGroupSpec": {
            # No training on the head: it has no GPU, and must not be lost for a worker's sake.
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
            "template": {"spec": head},
        },
        "workerGroupSpecs": [
            {
                "groupName": "nodes",
                "replicas": job.config.nodes,
                "minReplicas": job.config.nodes,
                "maxReplicas": job.config.nodes,
                "rayStartParams": {},
                "template": {"spec": workers},
            }
        ],
    }
    if config.version:
        cluster = {"rayVersion": config.version, **cluster}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": job.config.name, "namespace": config.namespace},
        "spec": {
            "entrypoint": f"python {SCRIPTS}/{DRIVER}",
            "shutdownAfterJobFinishes": True,
            "backoffLimit": config.retries,  # a new cluster and the same command, where even the head was lost
            "rayClusterSpec": cluster,
        },
    }
