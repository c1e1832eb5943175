"""How the programs of a scheduler are called."""

import os
import subprocess
from dataclasses import dataclass

from snakemake_executor_plugin_queue.errors import Refused, Unanswered

_LIMIT = 60  # seconds that a program may take
# of the login node, or of the job that Snakemake itself runs in: a job has its own
_NOT_HANDED_ON = ("SNAKEMAKE_PROFILE", "CUDA_VISIBLE_DEVICES", "TMPDIR")
_OF_SLURMS_PROGRAMS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    code: int
    output: str
    error: str = ""

    @property
    def words(self) -> str:
        """For a user to read."""
        return " ".join(line.strip() for line in (self.error + "\n" + self.output).splitlines() if line.strip())


def call(command: list[str]) -> Answer:
    """Run a program in a session of its own, which Ctrl-C does not reach.

    Raises:
        Unanswered: it did not end within a minute, or could not be started for lack of memory or the like.
        Refused: there is no such program.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(),
        )
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not on PATH: expected on a login node of the cluster") from None
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace").strip()  # such as that it tries again and again
        raise Unanswered(f"{command[0]} did not answer within {_LIMIT} s{said and f': {said}'}") from None
    except OSError as error:
        raise Unanswered(f"{command[0]}: {error}") from None
    return Answer(done.returncode, done.stdout, done.stderr)


def _environment() -> dict[str, str]:
    """SLURM_CPUS_PER_TASK and the like, of a job that Snakemake runs in, would be taken for options."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_HANDED_ON and (not name.startswith("SLURM_") or name in _OF_SLURMS_PROGRAMS)
    }
