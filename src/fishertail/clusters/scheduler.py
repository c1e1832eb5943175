"""What differs between schedulers, by name, and how their programs are called."""

import subprocess
import time
from types import ModuleType

from fishertail.clusters import gridengine, pbs
from fishertail.clusters.request import ClusterError

SCHEDULERS: dict[str, ModuleType] = {"gridengine": gridengine, "pbs": pbs}
PATIENCE = 300  # seconds in which a scheduler that does not answer is asked again
PAUSE = 10  # seconds between two tries
_LIMIT = 60  # seconds that a program of a scheduler may take


def call(command: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; code 124 where there was no answer in a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not on PATH: this profile runs on a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        return 124, "", f"{command[0]}: timed out"
    return done.returncode, done.stdout, done.stderr


def call_patiently(command: list[str], scheduler: ModuleType) -> str:
    """stdout of a command that must succeed; a scheduler that cannot be reached is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        code, output, error = call(command)
        if code == 0:
            return output
        unreachable = code == 124 or scheduler.UNREACHABLE.search(output + error)
        if not unreachable or time.monotonic() > deadline:
            raise ClusterError(f"{' '.join(command)}\nrefused (exit code {code}): {(error + output).strip()}")
        time.sleep(PAUSE)
