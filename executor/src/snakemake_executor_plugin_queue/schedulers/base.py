"""What the executor asks of a scheduler."""

import re
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.programs import Answer, call
from snakemake_executor_plugin_queue.request import Request


class State(Enum):
    """What a scheduler says of a job."""

    LIVE = auto()  # waits or runs
    STUCK = auto()  # in an error that it will not leave by itself
    DONE = auto()  # ended, with exit code 0
    FAILED = auto()  # ended otherwise


@dataclass(frozen=True)
class Queued:
    """A job as the scheduler knows it."""

    name: str
    state: State
    why: str = ""  # of a job that is stuck or failed, in the scheduler's words


class Scheduler(ABC):
    """One scheduler: its programs, and what they answer."""

    OWN_ID: ClassVar[str]  # the job's id, as a shell expression within the job
    UNREACHABLE: ClassVar[re.Pattern]  # what its programs say when it is away
    BUSY: ClassVar[re.Pattern]  # what they say of a limit of jobs, or a closed queue, that may not last
    IGNORED: ClassVar[tuple[str, ...]] = ()  # keys of the site that have no effect

    @abstractmethod
    def submit_command(self, request: Request, site, name: str, script: str, log: str) -> list[str]:
        """What submits `script` under `name`; its output goes to `log`.

        Raises:
            Refused: the site has no entry for what is asked for.
        """

    @abstractmethod
    def job_id(self, output: str) -> str | None:
        """The job's id in the answer to a submission; banners may come before it."""

    @abstractmethod
    def queue(self) -> dict[str, Queued]:
        """All of the user's jobs that wait or run, by id; those that have ended may be among them.

        Raises:
            Unanswered: the scheduler gave no answer, which says nothing about jobs.
        """

    @abstractmethod
    def ended(self, ids: list[str]) -> dict[str, Queued]:
        """What is known of jobs that `queue` does not name: from history or accounting, which may come late.

        Raises:
            Unanswered: as for `queue`.
        """

    @abstractmethod
    def cancel_command(self, ids: list[str]) -> list[str]: ...

    def reason(self, job: str) -> str:
        """Why a job is stuck, where the queue does not tell."""
        return ""

    def submit(self, request: Request, site, name: str, script: str, log: str) -> str:
        """The id of a job that is submitted.

        Raises:
            Unanswered: nobody knows whether the scheduler has it.
            Busy: it takes none at present.
            Refused: it would never take this one.
        """
        command = self.submit_command(request, site, name, script, log)
        answer = call(command)
        if answer.code:
            if self.UNREACHABLE.search(answer.words):
                raise Unanswered(answer.words)
            raise (Busy if self.BUSY.search(answer.words) else Refused)(answer.words or f"exit code {answer.code}")
        if job := self.job_id(answer.output):
            return job
        raise Unanswered(f"no job id in the answer of {command[0]}: {answer.words!r}")

    def cancel(self, ids: list[str]) -> None:
        """End jobs that wait or run. Of one that has just ended a scheduler may complain, which says nothing.

        Raises:
            Unanswered: it is not known whether they were ended.
        """
        for start in range(0, len(ids), 500):  # a command line has an end
            self._answered(self.cancel_command(ids[start : start + 500]))

    def _answered(self, command: list[str]) -> Answer:
        """The answer of a program that reached its scheduler, whatever it says."""
        answer = call(command)
        if answer.code and self.UNREACHABLE.search(answer.words):
            raise Unanswered(answer.words)
        return answer


def account(site, option: str) -> list[str]:
    """The arguments that charge a job to an account: `option` is the scheduler's own way, which a site may replace."""
    return shlex.split((site.account_option or option).format(account=site.account)) if site.account else []


def walltime(minutes: int) -> str:
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:00"
