"""Runs Snakemake's jobs in the queue of a cluster: submits, watches, cancels and adopts them within Snakemake.

Snakemake imports this module whenever it starts, on compute nodes too, so it imports little.
"""

import os
from dataclasses import dataclass, field
from typing import Optional  # Snakemake turns no "str | None" into an option

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_queue.executor import Executor

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The options of the executor: --queue-site, --queue-logs and --queue-detach."""

    site: Optional[str] = field(
        default=None,
        metadata={
            "help": "YAML file with the settings of the site: scheduler, account, queue, and so on (see the README)",
            "required": True,
        },
    )
    logs: str = field(
        default=".snakemake/queue/logs",
        metadata={"help": "folder for the output of each job as the scheduler writes it"},
    )
    detach: bool = field(
        default=False,
        metadata={
            "help": "on Ctrl-C, SIGTERM or a hang-up, leave the jobs in the queue for the next start to adopt. "
            "By default they are cancelled."
        },
    )

    def __post_init__(self) -> None:
        """Resolve the path where Snakemake is started, before --directory or `workdir` change the folder."""
        if self.site:
            self.site = os.path.abspath(self.site)


common_settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)
