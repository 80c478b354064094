"""What the pods of Kubernetes and of KubeRay share: image, GPUs, volumes, and where a run may leave what it makes."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.launch.job import NAME, JobConfig

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|[KMGTP]i?)?")  # of cores or bytes
VOLUME = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?):(/[^:]*)")
LABEL = re.compile(r"[A-Za-z0-9./_-]+=[A-Za-z0-9._-]*")
SCRIPTS = "/etc/cairn"  # where the ConfigMap of the job's script is seen


@dataclass(frozen=True)
class PodConfig:
    image: str = option("", "container image with cairn in it")
    namespace: str = option("default", "namespace of the job")
    volumes: tuple[str, ...] = option((), "persistent volume claims, CLAIM:/PATH; the run's --out must lie in one")
    gpu_resource: str = option("nvidia.com/gpu", "name under which the cluster counts GPUs")
    cpus: str = option("", "CPU cores of a pod, as in 16 or 500m")
    memory: str = option("", "memory of a pod, as in 200Gi")
    shared_memory: str = option("16Gi", "size of /dev/shm, over which the processes of a node exchange data")
    node_selector: tuple[str, ...] = option((), "labels a node must have, NAME=VALUE")
    retries: int = option(10, "times a pod that failed is replaced; lost nodes do not count", minimum=0)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.namespace):
            raise UserError(f"namespace {self.namespace!r} must be small letters, digits and dashes")
        for name in ("cpus", "memory", "shared_memory"):
            value = getattr(self, name)
            if value and not QUANTITY.fullmatch(value):
                raise UserError(f"{name} {value!r} is not a quantity of Kubernetes, such as 16 or 200Gi")
        for volume in self.volumes:
            if not VOLUME.fullmatch(volume):
                raise UserError(f"volumes {volume!r} must be CLAIM:/PATH, a claim and where it is mounted")
        for label in self.node_selector:
            if not LABEL.fullmatch(label):
                raise UserError(f"node_selector {label!r} must be NAME=VALUE")


def check_pods(config: PodConfig, job: JobConfig, out: str | None, target: str) -> None:
    """Refuse what could not start, or would lose the run with its pod. out: where the command writes."""
    if not config.image or re.search(r"\s", config.image):
        raise UserError(f"give the container image that holds cairn with --{target}.image")
    path = PurePosixPath(job.folder, out or "")
    mounts = [PurePosixPath(_mount(volume)) for volume in config.volumes]
    if out is not None and (".." in path.parts or not any(path.is_relative_to(mount) for mount in mounts)):
        raise UserError(
            f"--out {out} of the command lies in no volume and would be lost with its pod: give --{target}.volumes "
            "CLAIM:/PATH and an --out under that path"
        )


def _mount(volume: str) -> str:
    return volume.partition(":")[2]


def pod(config: PodConfig, job: JobConfig, name: str, *, works: bool = True, **container: Any) -> dict[str, Any]:
    """The spec of a pod with one container: volumes, the job's scripts, shared memory, resources.

    works: whether it trains, and needs the resources for it. container: further fields, such as the command.
    """
    limits = {config.gpu_resource: job.gpus} if works and job.gpus else {}
    requests = {k: v for k, v in {"cpu": config.cpus, "memory": config.memory}.items() if v and works}
    volumes: list[dict[str, Any]] = [{"name": "scripts", "configMap": {"name": job.name}}]
    mounts: list[dict[str, Any]] = [{"name": "scripts", "mountPath": SCRIPTS, "readOnly": True}]
    volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": config.shared_memory}})
    mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    for number, volume in enumerate(config.volumes):
        claim, _, path = volume.partition(":")
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"volume-{number}", "mountPath": path})
    spec: dict[str, Any] = {
        "containers": [
            {
                "name": name,
                "image": config.image,
                **container,
                "resources": {k: v for k, v in {"limits": limits, "requests": requests}.items() if v},
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    if config.node_selector:
        spec["nodeSelector"] = dict(label.split("=", 1) for label in config.node_selector)
    return spec


def config_map(config: PodConfig, job: JobConfig, scripts: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": job.name, "namespace": config.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": scripts}
