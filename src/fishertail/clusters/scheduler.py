"""What differs between schedulers, by name, and how their programs are called."""

import subprocess
import time
from types import ModuleType

from fishertail.clusters import gridengine, pbs, slurm
from fishertail.clusters.request import ClusterError

SCHEDULERS: dict[str, ModuleType] = {"gridengine": gridengine, "pbs": pbs, "slurm": slurm}
PATIENCE = 300  # seconds in which a scheduler that does not answer is asked again
PAUSE = 10  # seconds between two tries
NO_ANSWER = 124  # for an exit code
_LIMIT = 60  # seconds that a program of a scheduler may take


def call(command: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; NO_ANSWER where there was no answer in a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not on PATH: this profile runs on a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        return NO_ANSWER, "", f"{command[0]}: timed out"
    return done.returncode, done.stdout, done.stderr


def call_patiently(command: list[str], scheduler: ModuleType) -> str:
    """stdout of a command that must succeed; a scheduler that cannot be reached is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        code, output, error = call(command)
        if code == 0:
            return output
        if not is_unreachable(scheduler, code, output + error) or time.monotonic() > deadline:
            raise refusal(command, code, error + output)
        time.sleep(PAUSE)


def is_unreachable(scheduler: ModuleType, code: int, said: str) -> bool:
    """Whether a command failed because the scheduler did not answer, not because it refused."""
    return code == NO_ANSWER or scheduler.UNREACHABLE.search(said) is not None


def refusal(command: list[str], code: int, said: str) -> ClusterError:
    how = "no answer" if code == NO_ANSWER else f"exit code {code}"
    return ClusterError(f"{' '.join(command)}\nfailed ({how}): {said.strip()}")
