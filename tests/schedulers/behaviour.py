"""What is promised on every scheduler; test_slurm.py and test_gridengine.py run it on theirs."""

import json
import re
import signal
import time
from itertools import combinations, pairwise

from tests.schedulers.loopback import wait_for


def spans(login, count: int) -> list[tuple[str, str, float, float]]:
    """GPU, node, start and end of the jobs that noted them."""
    found = []
    for number in range(count):
        gpu, node, start, end = (login.path / f"out/one_gpu{number}.txt").read_text().split()
        found.append((gpu, node, float(start), float(end)))
    return found


def most_at_once(jobs) -> int:
    return max(sum(start <= moment < end for _, _, start, end in jobs) for _, _, moment, _ in jobs)


def one_gpu_jobs(count: int) -> list[str]:
    return [f"out/one_gpu{number}.txt" for number in range(count)]


class Behaviour:
    """Inherited by a test class for each scheduler."""

    def test_the_whole_workflow_gives_the_same_bits_as_on_this_machine(self, login, finished_once):
        login.run("--set-threads", "train=1", "per_sample_gradients=1", "fim_eigen=1", "fim_eigen_at_minimum=1",
                  "trimmed_eigenvalues=1")  # fmt: skip
        local, cluster = finished_once.results(), login.results()
        assert local.keys() == cluster.keys()
        assert [name for name in local if local[name] != cluster[name]] == []
        log = (login.path / "logs/train/digits-fc-bs256-seed0-epochs0001-0002.log").read_text()
        for part in ("job ", "attempt 1, on tsubame", "peak memory"):
            assert part in log

    def five_jobs(self, login) -> list[tuple[str, str, float, float]]:
        """Five one-GPU jobs: four or more run at once, and no two have the same GPU of a node at the same time."""
        login.jobs(*one_gpu_jobs(5), seconds=25)
        jobs = spans(login, 5)
        for first, second in combinations(jobs, 2):
            together = first[2] < second[3] and second[2] < first[3]
            assert not (together and first[:2] == second[:2]), jobs
        assert most_at_once(jobs) >= 4
        return jobs

    def test_a_whole_node_has_four_workers_on_four_gpus(self, login):
        login.jobs("out/whole_node.json")
        seen = json.loads((login.path / "out/whole_node.json").read_text())
        assert sorted(seen["gpus"]) == ["0", "1", "2", "3"]
        assert seen["workers"] == [[[0, 4], "0"], [[1, 5], "1"], [[2], "2"], [[3], "3"]]

    def test_a_job_beyond_its_walltime_is_tried_again_with_more(self, login):
        login.jobs("out/too_slow.txt")
        assert (login.path / "out/attempts").read_text().split() == ["1", "2"]

    def test_a_job_that_fails_by_itself_is_not_run_again(self, login):
        output = login.jobs("out/faulty.txt", check=False)
        assert (login.path / "out/faults").read_text().split() == ["run"]
        assert "error: digits.npz: 10 classes expected, found 9" in output

    def test_a_cancelled_job_is_tried_again(self, login, scheduler):
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=8))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        (login.path / "out/one_gpu0.txt.part").unlink()
        scheduler.cancel(scheduler.job_ids()[0])
        assert process.wait(timeout=180) == 0, (login.path / "output.log").read_text()[-4000:]
        assert login.executions() == ["0"]

    def test_ctrl_c_cancels_what_waits_and_what_runs(self, login, scheduler):
        """Of jobs whose status it is just asking for, Snakemake cancels none, and stays until it would ask again."""
        asks = scheduler.program_that_asks()
        login.delay(asks, 3)
        seldom = ["--seconds-between-status-checks", "30"]
        if scheduler.name == "slurm":
            seldom += ["--slurm-init-seconds-before-status-checks", "30"]
        process = login.start(*login.arguments(*one_gpu_jobs(10), seconds=110), *seldom)
        wait_for(lambda: len(scheduler.job_ids()) == 10, 60, "ten jobs, before the first has ended")
        wait_for(lambda: login.runs(asks), 40, "a query, before the first has ended")
        login.signal(signal.SIGINT)
        wait_for(lambda: not scheduler.job_ids(), 30, "the end of all jobs")
        process.wait(timeout=120)
        assert login.executions() == [], (login.path / "output.log").read_text()[-4000:]
        login.jobs("out/one_gpu9.txt", seconds=3)  # what was cancelled is not taken for what still waits
        assert login.executions() == ["9"]

    def test_ctrl_c_during_a_submission_leaves_nothing(self, login, scheduler):
        """The scheduler has the job before Snakemake knows of it."""
        login.delay(scheduler.program_that_submits(), 6)
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=60))
        wait_for(scheduler.job_ids, 60, "the job")
        login.signal(signal.SIGINT)
        process.wait(timeout=60)
        wait_for(lambda: not scheduler.job_ids(), 40, "the end of the job")

    def test_a_killed_snakemake_leaves_jobs_that_the_next_one_adopts(self, login, scheduler):
        process = login.start(*login.arguments(*one_gpu_jobs(6), seconds=30))
        wait_for(lambda: len(scheduler.job_ids()) == 6, 90, "six jobs")
        before = sorted(scheduler.job_ids())
        login.signal(signal.SIGKILL)
        process.wait(timeout=30)
        login.run("-s", "jobs.smk", "--unlock")
        output = login.jobs(*one_gpu_jobs(6), seconds=30)
        assert [job for job in before if not re.search(rf"jobid '?{job}\b", output)] == []
        assert sorted(login.executions()) == [str(number) for number in range(6)]

    def test_jobs_of_other_parameters_are_ended_not_adopted(self, login, scheduler):
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=100))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 90, "the job")
        before = scheduler.job_ids()
        login.signal(signal.SIGKILL)
        process.wait(timeout=30)
        login.run("-s", "jobs.smk", "--unlock")
        login.set(analysis={"tolerance": 1e-3})
        output = login.jobs("out/one_gpu0.txt", seconds=1)
        assert "adopted" not in output
        assert set(before).isdisjoint(scheduler.job_ids())
        assert login.executions() == ["0"]

    def test_many_short_jobs(self, login, capsys):
        """No job lost or run twice, few queries, and what a job costs beyond its own work."""
        count, started = 200, time.monotonic()
        login.jobs(*(f"out/many{number}.txt" for number in range(count)))
        minutes = (time.monotonic() - started) / 60
        assert sorted(map(int, login.executions())) == list(range(count))
        queries = len(login.queries.read_text().splitlines())
        login.jobs("out/chained3.txt")
        moments = [(login.path / f"out/chained{n}.txt").read_text().split() for n in range(4)]
        gaps = [float(after[0]) - float(before[1]) for before, after in pairwise(moments)]
        with capsys.disabled():
            print(
                f"\n{login.machine.name}: {count} jobs in {minutes:.1f} min, {queries / minutes:.0f} queries a minute"
            )
            print(f"{login.machine.name}: {sum(gaps) / len(gaps):.1f} s from the end of a job to the start of the next")
        assert queries / minutes < 40
