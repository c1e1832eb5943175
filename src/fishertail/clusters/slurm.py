"""Slurm: what Snakemake's own plugin is told by the settings, and what Slurm's programs answer."""

import re

UNREACHABLE = re.compile(r"unable to contact slurm controller|socket timed out|connection refused|communication", re.I)
_LIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "STAGE_OUT"}


def resources(gpus: int, cluster) -> dict[str, str | int]:
    """Resources of a rule as the plugin names them, from the key `cluster` of the configuration."""
    queues = {count: name for count, name in cluster.queues.items() if count >= gpus and (count > 0) == (gpus > 0)}
    found: dict[str, str | int] = {"nodes": 1}
    if gpus:
        types = {count: entry for count, entry in cluster.resource_types.items() if count >= gpus}
        found["gres"] = types[min(types)] if types else f"gpu:{gpus}"
        found["cpus_per_task"] = gpus * cluster.cpus_per_gpu
    if queues:
        found["slurm_partition"] = queues[min(queues)]
    if cluster.account:
        found["slurm_account"] = cluster.account
    if cluster.options:
        found["slurm_extra"] = " ".join(cluster.options)
    return found


def query_command(ids: list[str]) -> list[str]:
    return ["squeue", "-h", "--me", "-o", "%i|%T"]


def states(output: str, code: int) -> dict[str, str] | None:
    """running of every job that waits or runs; None where Slurm gave no answer."""
    if code:
        return None
    rows = (line.strip().partition("|") for line in output.splitlines())
    return {job: "running" for job, _, state in rows if state in _LIVE}


def cancel_command(jobs: list[str]) -> list[str]:
    return ["scancel", *jobs]
