"""What the executor needs from a scheduler."""

import os
import pwd
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar

from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.programs import Answer, call
from snakemake_executor_plugin_queue.request import Request

if TYPE_CHECKING:  # it imports the schedulers, and pydantic
    from snakemake_executor_plugin_queue.site import Site


class State(Enum):
    """What a scheduler says of a job."""

    LIVE = auto()  # waiting or running
    STUCK = auto()  # in an error state that it will not leave by itself
    DONE = auto()  # ended with exit code 0
    FAILED = auto()  # ended in any other way


@dataclass(frozen=True)
class Queued:
    """A job as the scheduler knows it."""

    name: str
    state: State
    why: str = ""  # for a job that is stuck or failed: the reason, in the scheduler's words


@dataclass(frozen=True)
class Submission:
    """A job as it is submitted: what its rule asks for, as the site provides it."""

    request: Request
    site: "Site"
    name: str
    script: str  # path of the script
    log: str  # path of the file for what the script prints

    @property
    def gpus(self) -> int:
        return self.request.gpus

    @property
    def cpus(self) -> int:
        """CPU cores: those that the rule asks for, or those that come with its GPUs, whichever is more."""
        return max(self.request.cpus, self.request.gpus * self.site.cpus_per_gpu)

    @property
    def mem_mb(self) -> int | None:
        return self.request.mem_mb

    @property
    def minutes(self) -> int:
        """Walltime, within the limits of the site."""
        return self.site.minutes(self.request.minutes)

    @property
    def queue(self) -> str | None:
        """The queue that the rule names, otherwise the site's for its number of GPUs.

        Raises:
            Refused: no queue of the site has enough GPUs.
        """
        return self.request.queue or self.site.entry("queues", self.gpus)

    @property
    def resource_type(self) -> str | None:
        """The site's entry of `resource_types` for the number of GPUs; None where the site has no such table.

        Raises:
            Refused: no entry has enough GPUs.
        """
        return self.site.entry("resource_types", self.gpus)

    @property
    def options(self) -> list[str]:
        """More options of the submit command, from the site."""
        return self.site.options

    def account(self, template: str) -> list[str]:
        """The arguments that charge the job to the site's account; none without an account.

        Args:
            template: the scheduler's own option, such as `-P {account}`, which the site's `account_option` replaces.
        """
        words = shlex.split(self.site.account_option or template) if self.site.account else []
        return [word.format(account=self.site.account) for word in words]


class Scheduler(ABC):
    """One scheduler: its programs, and how to read their answers.

    Patterns are regular expressions. Those for messages are searched for without regard to case.
    """

    OWN_ID: ClassVar[str]  # the job's id as a shell expression inside the job
    JOB_ID: ClassVar[str]  # matches a line of the answer to a submission; its one group is the job's id
    UNREACHABLE: ClassVar[str]  # messages of the programs when the scheduler is away
    BUSY: ClassVar[str]  # messages about a limit on jobs or a closed queue, which may not last
    CANCEL: ClassVar[str]  # the program that ends the jobs whose ids follow it
    ACCOUNT: ClassVar[str]  # how the submit command takes the account, such as "-P {account}"
    RESOURCE_TYPES: ClassVar[str] = ""  # what an entry of the site's `resource_types` is, for the README
    IGNORED: ClassVar[tuple[str, ...]] = ()  # keys of the site that have no effect
    WITHHELD: ClassVar[str] = ""  # environment variables that the programs would take for options

    @abstractmethod
    def submit_command(self, job: Submission) -> list[str]:
        """The command that submits `job.script` under `job.name`, with its output in `job.log`.

        Raises:
            Refused: the site has no entry for what the job asks for.
        """

    @abstractmethod
    def queue(self) -> dict[str, Queued]:
        """All jobs of the user that wait or run, by id; some that have ended may be among them.

        Raises:
            Unanswered: the scheduler gave no answer, which says nothing about the jobs.
        """

    def ended(self, ids: list[str]) -> dict[str, Queued]:
        """What history or accounting, which may be late, knows of jobs that `queue` does not name; by default nothing.

        Raises:
            Unanswered: as for `queue`.
        """
        return {}

    def reason(self, job: str) -> str:
        """Why a job is stuck, for schedulers whose queue does not say so."""
        return ""

    @classmethod
    def faults(cls) -> list[str]:
        """What is missing or wrong in the class, for a clear error before anything is submitted."""
        from snakemake_executor_plugin_queue.site import Site

        required = [name for name in Scheduler.__annotations__ if not hasattr(Scheduler, name)]
        missing = [*(name for name in required if not hasattr(cls, name)), *sorted(cls.__abstractmethods__)]
        found = [f"{name} is missing" for name in missing]
        for name in ("JOB_ID", "UNREACHABLE", "BUSY", "WITHHELD"):
            try:
                groups = re.compile(getattr(cls, name, "")).groups
            except (re.error, TypeError) as error:
                found.append(f"{name}: a regular expression expected: {error}")
                continue
            if name == "JOB_ID" and name not in missing and groups != 1:
                found.append(f"{name}: a regular expression with one group expected, found {groups}")
        found += [f"IGNORED: no such key of a site: {key}" for key in cls.IGNORED if key not in Site.model_fields]
        return found

    def submit(self, job: Submission) -> str:
        """Submit a job and return its id.

        Raises:
            Unanswered: it is not known whether the scheduler has the job.
            Busy: the scheduler takes no jobs at present.
            Refused: the scheduler would never take this job.
        """
        command = self.submit_command(job)
        answer = self._call(command)
        if answer.code:
            if self._is_away(answer):
                raise Unanswered(answer.words)
            is_busy = re.search(self.BUSY, answer.words, re.I)
            raise (Busy if is_busy else Refused)(answer.words or f"exit code {answer.code}")
        if found := self.job_id(answer.output):
            return found
        raise Unanswered(f"no job id in the answer of {command[0]}: {answer.words!r}")

    def job_id(self, output: str) -> str | None:
        """The id in the answer to a submission: the last, since a site's banner may come first."""
        found = [match[1] for match in re.finditer(self.JOB_ID, output, re.M)]
        return found[-1] if found else None

    def cancel(self, ids: list[str]) -> None:
        """End jobs that wait or run. Complaints about a job that has just ended are ignored.

        Raises:
            Unanswered: it is not known whether they were ended.
        """
        for start in range(0, len(ids), 500):  # the length of a command line is limited
            self._answered([self.CANCEL, *ids[start : start + 500]])

    def _call(self, command: list[str]) -> Answer:
        return call(command, withheld=self.WITHHELD)

    def _is_away(self, answer: Answer) -> bool:
        return re.search(self.UNREACHABLE, answer.words, re.I) is not None

    def _answered(self, command: list[str]) -> Answer:
        """The answer of a program that reached its scheduler, whatever the answer is."""
        answer = self._call(command)
        if answer.code and self._is_away(answer):
            raise Unanswered(answer.words)
        return answer

    def _output(self, command: list[str], unless: str | None = None) -> str:
        """What a program prints. Every failure counts as no answer, unless its message matches `unless`."""
        answer = self._call(command)
        if answer.code and not (unless and re.search(unless, answer.words, re.I)):
            raise Unanswered(answer.words)
        return answer.output


def user() -> str:
    """The name of the user whose jobs these are, whatever the environment calls them."""
    return pwd.getpwuid(os.getuid()).pw_name


def option(name: str, value: str | None) -> list[str]:
    """An option of a command with its value; nothing without a value."""
    return [name, value] if value else []


def table(output: str, *, done: str, failed: Mapping[str, str]) -> dict[str, Queued]:
    """Jobs by id, from lines of ID|STATE|NAME.

    Args:
        done: the state of jobs that ended with exit code 0.
        failed: the states of jobs that ended in any other way, and what each means. All further states, those of
            later versions included, are taken for jobs that may still run: better to wait than to run one twice.
    """
    found = {}
    for line in output.splitlines():
        job, state, name = [*line.strip().split("|", 2), "", ""][:3]
        state = state.partition(" ")[0]  # Slurm: CANCELLED by 1000
        if job and state == done:
            found[job] = Queued(name, State.DONE)
        elif job and state in failed:
            found[job] = Queued(name, State.FAILED, failed[state])
        elif job and state:
            found[job] = Queued(name, State.LIVE)
    return found


def walltime(minutes: int) -> str:
    """Minutes as H:MM:SS."""
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:00"
