"""The programs of a cluster-generic profile, by the name of the scheduler."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fishertail.clusters.request import ClusterError, settings
from fishertail.clusters.scheduler import SCHEDULERS
from fishertail.clusters.status import status
from fishertail.clusters.submit import submit


def submit_program(scheduler: str) -> None:
    """Print the id of the job for the script that is the last argument."""
    undisturbed(lambda: print(submit(sys.argv[-1], SCHEDULERS[scheduler], settings())))


def status_program(scheduler: str) -> None:
    """Print running, success or failed for the job that is the argument."""
    try:
        print(status(sys.argv[1], SCHEDULERS[scheduler]))
    except (ClusterError, OSError) as error:  # a full or stale file system must not end the whole run
        print(f"warning: {error}", file=sys.stderr)
        print("running")


def undisturbed(work: Callable[[], None]) -> NoReturn:
    """Do something in a session of its own, which goes on to its end when Ctrl-C or Snakemake ends the program.

    Between the scheduler's answer and the note of it, that would leave a job that nobody knows.
    """
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setsid()
    code = 1
    with suppress(BrokenPipeError):  # nobody listens any more
        try:
            work()
            code = 0
        except (ClusterError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
        sys.stdout.flush()
    os._exit(code)
