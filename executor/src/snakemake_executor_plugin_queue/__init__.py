"""Snakemake's jobs in the queue of a cluster: submitted, watched, cancelled and adopted by Snakemake's own process.

Snakemake imports this module at each of its starts, on compute nodes too, so it imports little.
"""

import os
from dataclasses import dataclass, field
from typing import Optional  # Snakemake makes no option of "str | None"

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_queue.executor import Executor

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The options of the executor: --queue-site, --queue-logs and --queue-detach."""

    site: Optional[str] = field(
        default=None,
        metadata={
            "help": "YAML file with the settings of the site: scheduler, account, queue, ... (see the README)",
            "required": True,
        },
    )
    logs: str = field(
        default=".snakemake/queue/logs",
        metadata={"help": "folder for what the scheduler writes of each job"},
    )
    detach: bool = field(
        default=False,
        metadata={
            "help": "at Ctrl-C, SIGTERM or a hang-up leave the jobs in the queue; the next start adopts them. "
            "By default they are cancelled."
        },
    )

    def __post_init__(self):
        """As seen from where Snakemake is started: --directory and `workdir` leave that folder later."""
        if self.site:
            self.site = os.path.abspath(self.site)


common_settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)
