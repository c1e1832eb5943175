"""How the programs of a scheduler are called."""

import os
import re
import subprocess
from dataclasses import dataclass

from snakemake_executor_plugin_queue.errors import Refused, Unanswered

_LIMIT = 60  # seconds that a program may take
# these belong to the login node, or to the job that Snakemake itself runs in; a job has its own
_NOT_HANDED_ON = ("SNAKEMAKE_PROFILE", "CUDA_VISIBLE_DEVICES", "TMPDIR")


@dataclass(frozen=True)
class Answer:
    """What a program answered."""

    code: int
    output: str
    error: str = ""

    @property
    def words(self) -> str:
        """Errors and output in one line, for a user to read."""
        return " ".join(line.strip() for line in (self.error + "\n" + self.output).splitlines() if line.strip())


def call(command: list[str], *, withheld: str = "") -> Answer:
    """Run a program in a session of its own, which Ctrl-C does not reach.

    Args:
        withheld: a regular expression for the start of names of environment variables that it must not see.

    Raises:
        Unanswered: it did not end within a minute, or could not be started, for example for lack of memory.
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
            env=_environment(withheld),
        )
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not on PATH: expected on a login node of the cluster") from None
    except subprocess.TimeoutExpired as error:
        message = (error.stderr or b"").decode(errors="replace").strip()  # for example that it keeps trying
        raise Unanswered(f"{command[0]} did not answer within {_LIMIT} s{message and f': {message}'}") from None
    except OSError as error:
        raise Unanswered(f"{command[0]}: {error}") from None
    return Answer(done.returncode, done.stdout, done.stderr)


def _environment(withheld: str) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_HANDED_ON and not (withheld and re.match(withheld, name))
    }
