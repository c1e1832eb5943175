"""The command lines that submit `train` and `fim_eigen`, as the settings of each profile make them.

They are kept in commands.txt. To accept a change:
python -m tests.schedulers.test_commands > tests/schedulers/commands.txt
"""

import json
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from fishertail import config
from fishertail.clusters import gridengine, pbs, slurm
from fishertail.clusters.request import ClusterError, Request, job_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SITES = {
    "TSUBAME 4, a group": ("tsubame", {"account": "tga-group"}),
    "TSUBAME 4, a trial run": ("tsubame", {}),
    "TSUBAME 3": (
        "tsubame",
        {"account": "tga-group", "resource_types": {0: "q_core=1", 1: "q_node=1", 2: "h_node=1", 4: "f_node=1"}},
    ),
    "PBS, a project": ("pbs", {"account": "project-1"}),
    "ABCI 3.0": (
        "pbs",
        {
            "account": "gaa50000",
            "queue": {0: "rt_HC", 1: "rt_HG", 8: "rt_HF"},
            "resource_types": {0: "1", 1: "1", 8: "1"},
            "node_gpus": 8,
        },
    ),
    "Miyabi": (
        "pbs",
        {
            "account": "gz00",
            "account_option": "-W group_list={account}",
            "queue": "regular-g",
            "resource_types": {1: "1"},
        },
    ),
    "Slurm, an account": ("slurm", {"account": "lab", "queue": {0: "cpu", 4: "gpu"}, "options": ["--qos=normal"]}),
    "Slurm, named GPUs": ("slurm", {"queue": "gpu", "resource_types": {1: "gpu:a100:1", 4: "gpu:a100:4"}}),
}
JOBS = {
    "train": (1, 2, 120, 4000),
    "fim_eigen": (4, 8, 120, 12000),
    "ax_histogram": (0, 1, 30, 4000),
}


def request_of(rule: str) -> Request:
    gpus, cpus, minutes, mem_mb = JOBS[rule]
    name = job_name(f"{rule}.mnist-fc-16-0-epochs0001-0010")
    return Request("", rule, name, "key", "stamp", gpus, cpus, minutes, mem_mb)


def command_line(profile: str, changes: dict, rule: str) -> str:
    settings = yaml.safe_load((ROOT / f"profiles/{profile}/settings.yaml").read_text())
    cluster = config.load({"cluster": settings["cluster"] | changes}, check_sources=False).cluster
    request = request_of(rule)
    if profile == "slurm":
        return _by_the_plugin(cluster, request)
    program = {"tsubame": gridengine, "pbs": pbs}[profile]
    values = cluster.model_dump() | {"queue": cluster.queues}
    try:
        arguments = program.submit_command(request, json.loads(json.dumps(values)), "job.sh", f"logs/{rule}.log")
    except ClusterError as error:
        return f"refused: {error}"
    return " ".join(arguments)


class _Job:
    """As the plugin sees a job of Snakemake."""

    def __init__(self, request: Request, resources: dict):
        self.name, self.threads = request.rule, request.cpus
        self.resources = _Resources(resources | {"runtime": request.minutes, "mem_mb": request.mem_mb, "mpi": False})

    def is_group(self) -> bool:
        return False


class _Resources(dict):
    __getattr__ = dict.get


def _by_the_plugin(cluster, request: Request) -> str:
    resources = slurm.resources(request.gpus, cluster)
    where = {
        "account": f" -A {cluster.account}" if cluster.account else "",
        "partition": f" -p {resources['slurm_partition']}" if "slurm_partition" in resources else "",
    }
    names = {"run_uuid": "RUN", "slurm_logfile": "%j.log", "comment_str": f"rule_{request.rule}", "workdir": "."}
    job = _Job(request, resources)
    return " ".join((get_submit_command(job, names | where) + set_gres_string(job)).split())


def all_lines() -> str:
    lines = []
    for site, (profile, changes) in SITES.items():
        lines.append(f"# {site}")
        lines += [command_line(profile, changes, rule) for rule in JOBS]
        lines.append("")
    return "\n".join(lines)


def test_command_lines():
    kept = (HERE / "commands.txt").read_text()
    assert all_lines() == kept, __doc__


def test_a_job_that_fits_no_entry_is_refused():
    line = command_line("tsubame", {"account": "g", "resource_types": {1: "gpu_1=1"}}, "fim_eigen")
    assert line == "refused: cluster.resource_types: an entry for 4 GPUs expected (rule fim_eigen), found [1]"


@pytest.mark.parametrize(
    ("text", "name"), [("train.a b/c", "train.a_b_c"), ("7.x", "job.7.x"), ("fim_eigen." + "x" * 300, None)]
)
def test_names_of_jobs(text, name):
    assert job_name(text) == name or (name is None and len(job_name(text)) == 100)


if __name__ == "__main__":
    print(all_lines(), end="")
