"""The command lines that submit jobs of three sizes at each site.

They are kept in commands.txt. To accept a change: python executor/tests/test_commands.py > executor/tests/commands.txt
"""

from pathlib import Path

import pytest
from snakemake_executor_plugin_queue import schedulers
from snakemake_executor_plugin_queue.errors import Refused
from snakemake_executor_plugin_queue.request import Request, job_name
from snakemake_executor_plugin_queue.schedulers import Submission
from snakemake_executor_plugin_queue.site import Site

HERE = Path(__file__).parent
TSUBAME_4 = {0: "cpu_4=1", 1: "node_q=1", 2: "node_h=1", 4: "node_f=1"}
SITES = {
    "TSUBAME 4, a group": {"scheduler": "gridengine", "account": "tga-group", "resource_types": TSUBAME_4},
    "TSUBAME 4, a trial run": {"scheduler": "gridengine", "trial_minutes": 10, "resource_types": TSUBAME_4},
    "TSUBAME 3": {
        "scheduler": "gridengine",
        "account": "tga-group",
        "resource_types": {0: "q_core=1", 1: "q_node=1", 2: "h_node=1", 4: "f_node=1"},
    },
    "PBS, a project": {"scheduler": "pbs", "account": "project-1", "cpus_per_gpu": 7},
    "ABCI 3.0": {
        "scheduler": "pbs",
        "account": "gaa50000",
        "queue": {0: "rt_HC", 1: "rt_HG", 8: "rt_HF"},
        "resource_types": {0: "1", 1: "1", 8: "1"},
        "node_gpus": 8,
    },
    "Miyabi": {
        "scheduler": "pbs",
        "account": "gz00",
        "account_option": "-W group_list={account}",
        "queue": "regular-g",
        "resource_types": {1: "1"},
    },
    "Slurm, an account": {
        "scheduler": "slurm",
        "account": "lab",
        "queue": {0: "cpu", 4: "gpu"},
        "options": ["--qos=normal"],
        "cpus_per_gpu": 7,
    },
    "Slurm, named GPUs": {
        "scheduler": "slurm",
        "queue": "gpu",
        "resource_types": {1: "gpu:a100:1", 4: "gpu:a100:4"},
        "walltime_limit": 90,
    },
}
JOBS = {"train": (1, 2, 120, 4000), "fim_eigen": (4, 8, 120, 12000), "ax_histogram": (0, 1, 30, 4000)}


def command_line(site: dict, rule: str) -> str:
    gpus, cpus, minutes, mem_mb = JOBS[rule]
    name = job_name(f"{rule}.mnist-fc-16-0-epochs0001-0010")
    request = Request(name, "key", "stamp", gpus, cpus, minutes, mem_mb)
    scheduler = schedulers.make(site["scheduler"])
    try:
        return " ".join(scheduler.submit_command(Submission(request, Site(**site), name, "job.sh", f"logs/{rule}.log")))
    except Refused as fault:
        return f"refused: {fault}"


def all_lines() -> str:
    lines = []
    for name, site in SITES.items():
        lines += [f"# {name}", *(command_line(site, rule) for rule in JOBS), ""]
    return "\n".join(lines)


def test_command_lines():
    assert all_lines() == (HERE / "commands.txt").read_text(), __doc__


@pytest.mark.parametrize(
    ("text", "name"), [("train.a b/c", "train.a_b_c"), ("7.x", "job.7.x"), ("fim_eigen." + "x" * 300, None)]
)
def test_names_of_jobs(text, name):
    assert job_name(text) == name or (name is None and len(job_name(text)) == 90)


def test_a_rule_may_name_its_queue():
    request = Request("train", "key", "stamp", 0, 1, 10, None, queue="long")
    job = Submission(request, Site(scheduler="slurm", queue="gpu"), "n", "s", "l")
    command = schedulers.make("slurm").submit_command(job)
    assert command[command.index("--partition") + 1] == "long"


if __name__ == "__main__":
    print(all_lines(), end="")
