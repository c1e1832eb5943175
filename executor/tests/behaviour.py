"""What holds on every scheduler. The test files of the schedulers run it on theirs."""

import os
import pty
import re
import select
import signal
import threading
import time
from contextlib import suppress
from itertools import combinations, pairwise

import psutil
import pytest
from login import LoginNode, wait_for

OUTAGE = 40  # seconds


def spans(login, count: int) -> list[tuple[str, str, float, float]]:
    """GPU, node, start and end of each job of `one_gpu`."""
    found = []
    for number in range(count):
        gpu, node, start, end = (login.path / f"out/one_gpu{number}.txt").read_text().split()
        found.append((gpu, node, float(start), float(end)))
    return found


def most_at_once(jobs) -> int:
    return max(sum(start <= moment < end for _, _, start, end in jobs) for _, _, moment, _ in jobs)


def one_gpu(*numbers: int) -> list[str]:
    return [f"out/one_gpu{number}.txt" for number in numbers]


def seconds(count: int) -> list[str]:
    """Sets how long a job of `one_gpu` takes."""
    return ["--config", f"seconds={count}"]


def a_limit_of_jobs_is_waited_for(login, scheduler) -> None:
    scheduler.limit_jobs(2)
    try:
        output = login.run(*(f"out/short{number}.txt" for number in range(4, 8)))
    finally:
        scheduler.limit_jobs(None)
    assert "waiting until the scheduler takes more jobs" in output
    assert login.executions() == ["4", "5", "6", "7"]


class Behaviour:
    """Inherited by a test class for each scheduler."""

    def five_jobs(self, login) -> list[tuple[str, str, float, float]]:
        """Runs five one-GPU jobs: at least four run at once, and no two share a GPU of a node."""
        login.run(*one_gpu(*range(5)), *seconds(30))
        jobs = spans(login, 5)
        for first, second in combinations(jobs, 2):
            together = first[2] < second[3] and second[2] < first[3]
            assert not (together and first[:2] == second[:2]), jobs
        assert most_at_once(jobs) >= 4
        return jobs

    # ---- how jobs end ----------------------------------------------------------------------------------------------

    def test_a_job_beyond_its_walltime_is_tried_again_with_more(self, login):
        output = login.run("out/too_slow.txt")
        assert (login.path / "out/attempts").read_text().split() == ["1", "3"]
        assert re.search(r"^too_slow: (walltime exceeded|\w+ enforced h_rt)", output, re.MULTILINE), output

    def test_a_job_that_says_so_is_not_tried_again(self, login):
        output = login.run("out/faulty.txt", check=False)
        assert (login.path / "out/faults").read_text().split() == ["run"]
        assert "10 classes expected, found 9" in output

    def test_a_job_that_fails_otherwise_is_tried_again(self, login):
        login.run("out/unlucky.txt")
        assert (login.path / "out/attempts").read_text().split() == ["run", "run"]

    def test_a_cancelled_job_is_tried_again(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(8))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        (login.path / "out/one_gpu0.txt.part").unlink()
        scheduler.cancel(scheduler.job_ids()[0])
        login.end(process)
        assert login.executions() == ["0"]

    def test_a_job_that_dies_before_its_log_exists_shows_the_schedulers(self, login):
        login.set_site(modules=["no-such-module"])
        output = login.run("out/logged.txt", check=False)
        assert "no-such-module" in output or "module: command not found" in output
        assert "Traceback" not in output

    def test_a_refusal_is_shown_once_in_the_schedulers_words(self, login, scheduler):
        login.set_site(queue="nowhere")
        output = login.run(*one_gpu(0), check=False)
        assert len(re.findall(scheduler.unknown_queue, output)) == 1, output
        assert login.executions() == []

    # ---- the scheduler is away, or takes no jobs -------------------------------------------------------------------

    @pytest.mark.long
    def test_an_outage_while_jobs_are_submitted_run_and_end(self, login, scheduler):
        process = login.start(*one_gpu(0, 1), "out/chained4.txt", *seconds(20))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        time.sleep(8)  # for up to 5 s slurmctld has not saved a submission, and would reuse its number
        scheduler.stop_master()
        time.sleep(OUTAGE)
        scheduler.start_master()
        output = login.end(process)
        assert "waiting for the scheduler" in output
        assert login.executions() == ["0", "1", *(f"chained{number}" for number in range(5))]
        assert "Trying to restart" not in output

    def test_a_start_during_an_outage_submits_when_it_is_over(self, login, scheduler):
        scheduler.stop_master()
        process = login.start(*one_gpu(0), *seconds(1))
        try:
            wait_for(lambda: "waiting for the scheduler" in login.output(), 90, "the sentence")
        finally:
            scheduler.start_master()
        output = login.end(process)
        assert login.executions() == ["0"]
        assert "Trying to restart" not in output

    # ---- Snakemake ends --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
    def test_an_interrupt_cancels_what_waits_and_what_runs(self, login, scheduler, number):
        """During a slow query, when Snakemake's own list of jobs is empty."""
        login.delay(scheduler.program_that_asks, 3)
        process = login.start(*one_gpu(*range(10)), *seconds(110))
        wait_for(lambda: len(scheduler.job_ids()) == 10, 60, "ten jobs, before the first has ended")
        wait_for(lambda: login.runs(scheduler.program_that_asks), 40, "a query, before the first has ended")
        login.signal(number)
        wait_for(lambda: not scheduler.job_ids(), 60, "the end of all jobs")
        login.end(process, check=False, seconds=60)
        assert login.executions() == []

        login.run(*one_gpu(9), *seconds(3))  # a cancelled job is not mistaken for one that still waits
        assert login.executions() == ["9"]

    def test_a_terminal_that_is_closed_cancels_all(self, login, scheduler):
        main, terminal = pty.openpty()
        process = login.machine.popen(
            *login.snakemake, *one_gpu(0, 1), *seconds(100),
            cwd=login.path, env=login.environment, stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(terminal)
        closing = threading.Event()
        reader = threading.Thread(target=_read_all, args=[main, closing])
        reader.start()
        wait_for(lambda: len(scheduler.job_ids()) == 2, 60, "two jobs")
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        closing.set()
        reader.join()
        os.close(main)  # the kernel hangs up on all that have this terminal
        wait_for(lambda: not scheduler.job_ids(), 60, "the end of all jobs")
        process.wait(timeout=60)
        assert login.executions() == []

    def test_an_interrupt_during_a_submission_leaves_nothing(self, login, scheduler):
        """The scheduler has the job before Snakemake knows of it."""
        login.delay(scheduler.program_that_submits, 6)
        process = login.start(*one_gpu(0), *seconds(120))
        wait_for(scheduler.job_ids, 60, "the job")
        login.signal(signal.SIGINT)
        login.end(process, check=False, seconds=60)
        wait_for(lambda: not scheduler.job_ids(), 60, "the end of the job")

    def test_detached_jobs_go_on_and_the_next_start_adopts_them(self, login, scheduler):
        targets = [f"folders/{number}/result.txt" for number in range(6)]
        process = login.start(*targets, "--queue-detach")
        wait_for(lambda: len(scheduler.job_ids()) == 6, 60, "six jobs")
        wait_for((login.path / "folders/0").exists, 60, "a running job")
        login.signal(signal.SIGINT)
        output = login.end(process, check=False, seconds=60)
        assert "6 jobs are left in the queue; the next start adopts them" in output
        assert len(scheduler.job_ids()) == 6
        process = login.start(*targets)
        wait_for(lambda: login.output().count("adopted job") == 6, 120, "six adopted jobs")
        (login.path / "go").touch()
        login.end(process)
        assert login.executions() == ["0", "1", "2", "3", "4", "5"]

    # ---- the next start --------------------------------------------------------------------------------------------

    def test_a_killed_snakemake_leaves_jobs_that_the_next_one_adopts(self, login, scheduler):
        process = login.start(*one_gpu(*range(6)), *seconds(20))
        wait_for(lambda: len(scheduler.job_ids()) == 6, 90, "six jobs")
        before = sorted(scheduler.job_ids())
        login.kill(process)
        output = login.run(*one_gpu(*range(6)), *seconds(20))
        assert [job for job in before if f"adopted job {job}," not in output] == []
        assert login.executions() == [str(number) for number in range(6)]

    def test_jobs_of_other_parameters_are_ended_first(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(100))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 90, "the job")
        before = scheduler.job_ids()
        login.kill(process)
        output = login.run(*one_gpu(0), *seconds(1))
        assert f"job {before[0]} has other outputs, parameters, inputs or code, and is ended first" in output
        assert set(before).isdisjoint(scheduler.job_ids())
        assert login.executions() == ["0"]

    def test_a_job_that_ended_unseen_is_recorded_and_rerun_for_other_parameters(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(5))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 90, "the job")
        login.kill(process)
        wait_for(lambda: not scheduler.job_ids(), 60, "its end")
        output = login.run(*one_gpu(0), *seconds(5))
        assert "adopted job" in output
        assert login.executions() == ["0"]
        assert "rule one_gpu" not in login.run("-n", *one_gpu(0), *seconds(5))
        assert "rule one_gpu" in login.run("-n", *one_gpu(0), *seconds(6))

    def test_a_job_that_ended_unseen_is_run_again_by_force(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(5))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 90, "the job")
        login.kill(process)
        wait_for(lambda: not scheduler.job_ids(), 60, "its end")
        login.run(*one_gpu(0), *seconds(5), "--forcerun", "one_gpu")
        assert login.executions() == ["0", "0"]

    @pytest.mark.long
    def test_killed_at_any_moment_nothing_is_lost_or_run_twice(self, login, scheduler):
        targets = [f"out/short{number}.txt" for number in range(60)]
        for moment in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.5, 8.0):
            process = login.start(*targets)
            wait_for(lambda: "Building DAG" in login.output(), 60, "Snakemake")
            time.sleep(moment)
            if process.poll() is None:
                with suppress(AssertionError):  # it has just ended
                    login.kill(process)
            process.wait(timeout=60)
        login.run(*targets)
        assert sorted(map(int, login.executions())) == list(range(60))

    # ---- files, users, numbers -------------------------------------------------------------------------------------

    def test_outputs_that_are_seen_late_are_waited_for(self, login):
        """As on a file system where files of another node appear after some seconds."""
        hidden = "mv out/one_gpu0.txt out/one_gpu0.hidden"
        (login.path / "late.sh").write_text(f"#!/bin/bash\n# properties = {{properties}}\n{{exec_job}} && {hidden}\n")
        process = login.start(*one_gpu(0), *seconds(1), "--jobscript", "late.sh")
        late = login.path / "out/one_gpu0.hidden"
        wait_for(late.exists, 90, "the end of the job")
        time.sleep(6)
        late.rename(login.path / "out/one_gpu0.txt")
        assert "Trying to restart" not in login.end(process)
        assert login.executions() == ["0"]

    def test_two_checkouts_of_one_user_do_not_mix(self, login, scheduler, tmp_path):
        other = LoginNode(tmp_path / "other", scheduler)
        first, second = login.start(*one_gpu(*range(3)), *seconds(4)), other.start(*one_gpu(*range(3)), *seconds(4))
        login.end(first)
        other.end(second)
        assert login.executions() == other.executions() == ["0", "1", "2"]

    @pytest.mark.long
    def test_many_short_jobs(self, login, capsys):
        """No job is lost or run twice, and there are few queries. Prints what a job costs beyond its own work."""
        count, started = 200, time.monotonic()
        login.run(*(f"out/short{4 * number}.txt" for number in range(count)))
        minutes = (time.monotonic() - started) / 60
        assert sorted(map(int, login.executions())) == list(range(0, 4 * count, 4))
        queries = len(login.queries.read_text().splitlines())
        login.run("out/chained3.txt")
        moments = [(login.path / f"out/chained{n}.txt").read_text().split() for n in range(4)]
        gaps = [float(after[0]) - float(before[1]) for before, after in pairwise(moments)]
        name = login.machine.name
        with capsys.disabled():
            print(f"\n{name}: {count} jobs in {minutes:.1f} min, {queries / minutes:.0f} queries a minute")
            print(f"{name}: {sum(gaps) / len(gaps):.1f} s from the end of a job to the start of the next")
        assert queries / minutes < 40

    @pytest.mark.long
    def test_a_thousand_jobs_held_and_cancelled(self, login, scheduler, capsys):
        login.set_site(options=scheduler.hold)
        process = login.start(*(f"out/short{number}.txt" for number in range(1000)), "--jobs", "1000")
        wait_for(lambda: len(scheduler.job_ids()) == 1000, 400, "a thousand jobs")
        time.sleep(10)
        snakemake = psutil.Process(login.snakemake_pid())
        before, asked = _cpu(snakemake), len(login.queries.read_text().splitlines())
        time.sleep(60)
        spent, polls = _cpu(snakemake) - before, len(login.queries.read_text().splitlines()) - asked
        login.signal(signal.SIGINT)
        started = time.monotonic()
        wait_for(lambda: not scheduler.job_ids(), 60, "the end of all jobs")
        with capsys.disabled():
            cost = f"{1000 * spent / polls:.0f} ms CPU a poll ({polls} polls)"
            print(f"\n{login.machine.name}: 1,000 jobs: {cost}, cancelled in {time.monotonic() - started:.1f} s")
        login.end(process, check=False, seconds=60)
        assert spent / polls < 0.05


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of Snakemake itself, without the scheduler's programs."""
    times = process.cpu_times()
    return times.user + times.system


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _read_all(descriptor: int, closing: threading.Event) -> None:
    while not closing.is_set():
        if select.select([descriptor], [], [], 0.2)[0]:
            os.read(descriptor, 65536)


__all__ = ["Behaviour", "a_limit_of_jobs_is_waited_for", "most_at_once", "one_gpu", "seconds", "spans"]
