"""Kubernetes: an indexed Job, a pod a node, that replaces the pods it loses without counting them as failures."""

import shlex
from pathlib import Path
from typing import Any

from cairn.planning.launch.files import JobFiles
from cairn.planning.launch.job import GRACE, Job
from cairn.planning.launch.pods import SCRIPTS, PodConfig, check_pods, config_map, pod
from cairn.planning.launch.yaml import to_yaml

MANIFEST, SCRIPT = "job.yaml", "run.sh"


def kubernetes_files(job: Job, config: PodConfig, out: Path, run_out: str | None) -> JobFiles:
    """job.yaml: the script as a ConfigMap, a headless Service by which pods find the first one, and the Job.

    run_out: where the command writes, which must lie in a volume.
    """
    check_pods(config, job.config, run_out, "kubernetes")
    documents = [config_map(config, job.config, {SCRIPT: _script(job)}), *manifests(job, config)]
    path = shlex.quote(str(out.absolute() / MANIFEST))
    notes = [f"a job that has ended goes on after: kubectl replace --force -f {path}"]
    return JobFiles({MANIFEST: to_yaml(*documents)}, f"kubectl apply -f {path}", notes)


def _script(job: Job) -> str:
    # With a subdomain, pod N of an indexed Job has the name JOB-N under the Service.
    name = job.config.name
    return job.script(head=f"{name}-0.{name}", rank="$JOB_COMPLETION_INDEX", python="python")


def manifests(job: Job, config: PodConfig) -> list[dict[str, Any]]:
    """Service (with several nodes) and Job."""
    name, nodes = job.config.name, job.config.nodes
    metadata = {"name": name, "namespace": config.namespace, "labels": {"app.kubernetes.io/name": name}}
    template = pod(config, job.config, "train", command=["bash", f"{SCRIPTS}/{SCRIPT}"])
    template |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "selector": {"batch.kubernetes.io/job-name": name},
            "publishNotReadyAddresses": True,  # pods meet while they start
            "ports": [{"name": "rendezvous", "port": job.config.port}],
        },
    }
    if nodes > 1:
        template["subdomain"] = name
    spec = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimitPerIndex": config.retries,
        "maxFailedIndexes": 0,  # all nodes are needed: one that fails for good ends the job
        "podReplacementPolicy": "Failed",  # not before the old pod has let go of its volumes and GPUs
        "podFailurePolicy": {
            # Preempted, drained, evicted: replaced as often as it takes, and cairn goes on from its newest checkpoint.
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": template},
    }
    job_manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    return [service, job_manifest] if nodes > 1 else [job_manifest]
