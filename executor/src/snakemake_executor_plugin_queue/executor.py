"""The executor: Snakemake's side in the main thread, the scheduler's side in one thread of its own."""

import asyncio
import os
import shlex
import signal
import stat
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_plugin_queue import schedulers
from snakemake_executor_plugin_queue.errors import Refused, Unanswered
from snakemake_executor_plugin_queue.ledger import Entry, Ledger
from snakemake_executor_plugin_queue.request import Job, Request, job_key, members_of, outputs_of
from snakemake_executor_plugin_queue.schedulers import Submission
from snakemake_executor_plugin_queue.watch import Task, Watch

_LOOK = 2.0  # seconds between looks at the exit codes that jobs have left, which do not involve the scheduler
_PATIENCE = 60.0  # seconds for which cancelling is repeated while the scheduler does not answer
_TAIL = 20  # lines shown of the scheduler's log of a job


class Executor(RemoteExecutor):
    """Jobs in a cluster's queue.

    `run_job` only accepts a job. All communication with the scheduler takes place in Snakemake's thread for status
    checks, so that no signal can come between the scheduler's answer and the note of it, and a slow or absent scheduler
    delays nothing else. When Snakemake ends, this thread ends first, and then the main thread cancels what is left.
    """

    workflow: Any  # more is read of Snakemake's workflow and DAG than its interface declares
    dag: Any

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._woken = threading.Event()
        self._watch: Watch | None = None  # until there is something to watch; the thread starts earlier
        self._signals_set = False
        self._made_logs: set[Path] = set()  # written in place of a rule's own
        self._said: dict[str | None, str] = {}
        super().__init__(workflow, logger)

    def __post_init__(self) -> None:
        from snakemake_executor_plugin_queue import site  # imports pydantic, which jobs' own Snakemake does not need

        own = self.workflow.executor_settings
        self._site_file = own.site
        self._detaches = own.detach
        self._tasks: dict[str, Task] = {}  # by key, including those whose end Snakemake has yet to record
        try:
            self._site = site.load(self._site_file)
            self._scheduler = schedulers.make(self._site.scheduler)
            self._ledger = Ledger()
            earlier = self._ledger.entries()
            logs = Path(own.logs).absolute()
            logs.mkdir(parents=True, exist_ok=True)
            self._check_requests()
        except (Refused, OSError, ValueError) as error:
            self.shutdown()
            raise WorkflowError(str(error)) from None
        # by output, since jobs may be grouped differently at the next start
        self._earlier = {output: entry for entry in earlier for output in entry.outputs}
        self._watch = Watch(
            self._scheduler,
            self._site,
            self._ledger,
            logs=logs,
            interval=self.next_seconds_between_status_checks,
            latency=self.workflow.execution_settings.latency_wait,
            inform=self._inform,
        )

    # ---- Snakemake's main thread -----------------------------------------------------------------------------------

    def run_job(self, job: Job) -> None:
        self._set_signals()
        request, outputs = Request.of(job), outputs_of(job)
        self._stem = f"{request.key}.{uuid.uuid4().hex[:8]}"
        try:
            work = self.jobscript.format(properties=job.properties(), exec_job=self.format_job_exec(job))
        except KeyError as name:
            raise WorkflowError(f"--jobscript: {{properties}} and {{exec_job}} expected, found {{{name}}}") from None
        found = {entry.token: entry for output in outputs if (entry := self._earlier.pop(output, None))}
        task = Task(request, work, outputs, self._is_forced(job), before=list(found.values()))
        self._tasks[request.key] = task
        for log in self._made_logs & set(_logs_of(job)):  # from the previous attempt
            log.unlink(missing_ok=True)
        self.report_job_submission(SubmittedJobInfo(job, aux={"task": task}))
        self._woken.set()

    def _is_forced(self, job: Job) -> bool:
        """Whether the user forces a job to run. Snakemake's own flag is also set for incomplete outputs."""
        asked = self.workflow.dag_settings
        names = {str(name) for name in [*asked.forcerun, *(asked.targets if asked.forcetargets else ())]}
        return asked.forceall or not names.isdisjoint([*job.rules, *map(str, job.output)])

    def handle_job_success(self, job: Job) -> None:
        """Called once Snakemake has recorded the outputs of a job."""
        self._forget(job)

    def handle_job_error(self, job: Job) -> None:
        """Called once Snakemake has recorded the failure of a job."""
        task = self._forget(job)
        if task is not None and task.final:
            # its failure would happen again: let this be the last attempt, with the resources that it had
            resources = job._resources
            job.attempt = job.restart_times + 1
            job._resources = resources

    def _forget(self, job: Job) -> Task | None:
        task = self._tasks.pop(job_key(job), None)
        if task is not None and task.entry is not None:
            with suppress(OSError):
                self._ledger.forget(task.entry)
        return task

    def additional_general_args(self) -> str:
        """Arguments for the Snakemake inside a job.

        Without `persistence` in --shared-fs-usage, it leaves its outputs marked as incomplete until the main Snakemake
        has recorded them. Otherwise the outputs of a job that ends while no Snakemake runs would count as complete
        without metadata, whatever their parameters. Jobs must then be given the folders below .snakemake by name.
        """
        shared = self.workflow.storage_settings.shared_fs_usage - {SharedFSUsage.PERSISTENCE}
        names = sorted(usage.item_to_choice() for usage in shared) or ["none"]
        persistence = self.workflow.persistence
        arguments = ["--shared-fs-usage", *names]
        arguments += ["--shadow-prefix", shlex.quote(os.path.dirname(str(persistence.shadow_path)))]
        arguments += ["--conda-prefix", shlex.quote(str(persistence.conda_env_path))]
        if "apptainer" in {method.item_to_choice() for method in self.workflow.deployment_settings.deployment_method}:
            arguments += ["--apptainer-prefix", shlex.quote(str(persistence.container_img_path))]
        return " ".join(arguments)

    def _check_requests(self) -> None:
        """Refuse what the site cannot provide before anything is submitted, by one job of each rule that will run."""
        seen: set[str] = set()
        faults = []
        for job in self.dag.needrun_jobs():
            if job.is_local or job.rule.name in seen:
                continue
            seen.add(job.rule.name)
            try:
                self._scheduler.submit_command(Submission(Request.of(job), self._site, "name", "script", "log"))
            except Refused as fault:
                faults.append(f"  rule {job.rule.name}: {fault}")
        if faults:
            head = f"nothing is submitted, because the site has no entry for some jobs ({self._site_file}):"
            raise Refused("\n".join([head, *faults]))
        if self._site.is_trial and seen:
            self._inform("warning", f"no account, so jobs are trial runs of at most {self._site.trial_minutes} min")

    # ---- the thread for status checks ------------------------------------------------------------------------------

    # the interface declares a coroutine, but Snakemake iterates over the result
    async def check_active_jobs(  # type: ignore[override]
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Take every job a step further, with at most one query of the scheduler per interval."""
        if not active_jobs or self._watch is None:
            return
        try:
            if self._watch.look([_task(info) for info in active_jobs], stopping=lambda: not self.wait):
                self._woken.set()
        except Exception as error:  # an exception would end Snakemake and leave the jobs behind
            self._inform(
                "error", f"jobs are still watched after an error: {type(error).__name__}: {error}", once="fault"
            )
        for info in active_jobs:
            task = _task(info)
            info.external_jobid = task.entry.job if task.entry else None
            if task.outcome is None:
                yield info
            elif task.outcome.succeeded:
                self.report_job_success(info)
            else:
                self._report_failure(info)

    def _report_failure(self, info: SubmittedJobInfo) -> None:
        """Say why a job failed. A missing log of its rule, which Snakemake shows, is filled from the scheduler's."""
        task = _task(info)
        why, tail = task.outcome.why if task.outcome else "", ""
        if task.entry is not None:
            with suppress(OSError):
                tail = "\n".join(
                    Path(task.entry.log).read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
                )
        self._inform("error", f"{task.request.name}: {why}")
        own_logs = _logs_of(info.job)
        for own in own_logs:
            with suppress(OSError):
                if not own.exists():
                    own.parent.mkdir(parents=True, exist_ok=True)
                    own.write_text(f"{task.request.name}: {why}\n{tail}\n", encoding="utf-8")
                    self._made_logs.add(own)
        if not own_logs and tail and task.entry is not None:
            self._inform("error", f"{task.entry.log} ends:\n{tail}")
        self.report_job_error(info, msg=f"{why.rstrip('.')}. ")

    async def sleep(self) -> None:
        """Wait for something new, in small steps, since Snakemake waits for this thread when it ends."""
        end = time.monotonic() + min(_LOOK, self.next_seconds_between_status_checks)
        while self.wait and time.monotonic() < end and not self._woken.is_set():
            await asyncio.sleep(0.1)
        self._woken.clear()

    # ---- the end ---------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End what is in the queue, or leave it there. Snakemake's own list lacks the jobs that are being checked."""
        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt | SystemExit)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with suppress(ValueError):  # not in the main thread
                signal.signal(number, lambda *_: None)
        self.shutdown()
        left = [entry for task in list(self._tasks.values()) for entry in task.left]
        if not self._detaches:
            wanted = {str(output) for job in self.dag.needrun_jobs() for output in job.output}
            earlier = {entry.token: entry for output, entry in self._earlier.items() if output in wanted}
            self._cancel([*left, *earlier.values()])
            return
        text = f"{len(left)} jobs are left in the queue; the next start adopts them"
        if interrupted:
            # an exception, because after a normal return Snakemake removes the empty output folders of running jobs
            raise WorkflowError(text)
        self._inform("info", text)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Required by the interface. Snakemake calls `cancel`, which is overridden."""

    def _cancel(self, left: list[Entry]) -> None:
        if not left or self._watch is None:
            return
        self._inform("info", f"cancelling {len(left)} jobs in the queue")
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._watch.cancel(left)
                return
            except (Unanswered, Refused, OSError) as error:
                if time.monotonic() > deadline:
                    jobs = ", ".join(entry.job for entry in left if entry.job)
                    self._inform("error", f"jobs may be left in the queue, which the next start ends: {jobs} ({error})")
                    return
                time.sleep(2)

    def shutdown(self) -> None:
        """End the thread. The folder of scripts stays, since jobs wait for it (--wait-for-files)."""
        with self.lock:
            self.wait = False
        self.wait_thread.join()

    @property
    def tmpdir(self) -> str:
        """Where Snakemake puts the scripts of jobs."""
        return str(self._ledger.scripts)

    def get_jobscript(self, job: Job) -> str:
        """The stem of a file that a waiting job reads. Snakemake's own number for a job changes with every start."""
        return str(self._ledger.scripts / self._stem)

    def _set_signals(self) -> None:
        """Let SIGTERM and a hang-up end Snakemake as Ctrl-C does. Late, since Snakemake sets its own handlers late."""
        if self._signals_set:
            return
        self._signals_set = True
        for number in (signal.SIGTERM, signal.SIGHUP):
            with suppress(ValueError):  # not in the main thread
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    signal.signal(number, _interrupt)

    def _inform(self, level: str, text: str, once: str | None = None) -> None:
        """Log a text, unless it was the last one logged under the name `once`. The terminal may be gone."""
        if once is not None and self._said.get(once) == text:
            return
        self._said[once] = text
        with suppress(Exception):
            getattr(self.logger, level)(text)


def _task(info: SubmittedJobInfo) -> Task:
    task: Task = (info.aux or {})["task"]
    return task


def _logs_of(job: Job) -> list[Path]:
    """The logs of a job, or of the jobs of a group."""
    return [Path(str(name)) for member in members_of(job) for name in member.log]


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        _leave_terminal()
    raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Write no more to a terminal that is closed: the error would keep Snakemake from ending its jobs."""
    with open(os.devnull, "r+", encoding="utf-8") as nowhere:
        for stream in range(3):
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(stream).st_mode):
                    os.dup2(nowhere.fileno(), stream)
