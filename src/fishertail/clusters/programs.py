"""The three programs of a cluster-generic profile, by the name of the scheduler."""

import os
import subprocess
import sys

from fishertail.clusters.request import ClusterError, settings
from fishertail.clusters.scheduler import SCHEDULERS
from fishertail.clusters.status import status
from fishertail.clusters.submit import cancel, submit


def submit_program(scheduler: str) -> None:
    """Print the id of the job for the script that is the last argument."""
    try:
        print(submit(sys.argv[-1], SCHEDULERS[scheduler], settings()))
    except ClusterError as error:
        sys.exit(f"error: {error}")


def status_program(scheduler: str) -> None:
    """Print running, success or failed for the job that is the argument."""
    try:
        print(status(sys.argv[1], SCHEDULERS[scheduler]))
    except (ClusterError, OSError) as error:  # a full or stale file system must not end the whole run
        print(f"warning: {error}", file=sys.stderr)
        print("running")


def cancel_program(scheduler: str) -> None:
    """End the jobs that are the arguments. Snakemake waits two seconds: a process of its own goes on."""
    if os.environ.get("FISHERTAIL_CANCELLING") is None:
        environment = os.environ | {"FISHERTAIL_CANCELLING": "1"}
        quiet = subprocess.DEVNULL
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env=environment,
            start_new_session=True,
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
        )
        return
    cancel(sys.argv[1:], SCHEDULERS[scheduler])
