"""Submission when answers are lost: whatever happens, the work of a job is done once."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

from fishertail.clusters import spool, status, submit
from fishertail.clusters.request import RUN_VARIABLE, ClusterError

CLUSTER = {"account": "a", "trial_minutes": None, "modules": [], "whole_nodes": False}
QSUB = """
echo "$1" >> submitted
number=$(wc -l < submitted)
{answer}
"""
LOST = '[ $number = 1 ] && { echo "timed out" >&2; exit 1; }; echo $number'
LOST_BUT_STARTED = '[ $number = 1 ] && { JOB_ID=7 bash "$1"; echo "timed out" >&2; exit 1; }; echo $number'


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """One whose qsub is a shell script, and whose queue is a list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RUN_VARIABLE, "run")
    monkeypatch.setattr(submit, "PAUSE", 0)
    monkeypatch.setattr(submit, "of_this_run", lambda job, scheduler: None)
    queue = {}
    monkeypatch.setattr(status, "_queue", lambda scheduler, job: queue)
    return SimpleNamespace(
        OWN_ID="$JOB_ID",
        UNREACHABLE=re.compile("timed out"),
        submit_command=lambda request, cluster, script, log: ["bash", "qsub.sh", script],
        job_id=lambda output: output.strip() or None,
        cancel_command=lambda jobs: ["touch", *(f"cancelled.{job}" for job in jobs)],
        queue=queue,
    )


def write(folder, answer: str, **properties) -> str:
    (folder / "qsub.sh").write_text(QSUB.format(answer=answer))
    what = {"rule": "train", "output": ["out"], "params": {"seed": 0}, "resources": {}} | properties
    (folder / "job.sh").write_text(f"# properties = {json.dumps(what)}\necho done >> work\n")
    return "job.sh"


def run_all(folder) -> None:
    """As the scheduler does, whoever still wants them."""
    for number, script in enumerate((folder / "submitted").read_text().split(), 1):
        subprocess.run(["bash", script], env={"JOB_ID": str(number), "PATH": "/usr/bin:/bin"}, check=False)


def work(folder) -> list[str]:
    return (folder / "work").read_text().split()


def test_a_submission_whose_answer_is_lost_is_sent_again_and_done_once(scheduler, tmp_path):
    assert submit.submit(write(tmp_path, LOST), scheduler, CLUSTER) == "2"
    run_all(tmp_path)
    assert work(tmp_path) == ["done"]


def test_a_job_that_started_before_its_answer_was_lost_is_known_by_its_own_word(scheduler, tmp_path):
    assert submit.submit(write(tmp_path, LOST_BUT_STARTED), scheduler, CLUSTER) == "7"
    assert work(tmp_path) == ["done"]
    assert status.status("7", scheduler) == "success"


def test_a_submission_that_was_killed_before_the_answer_does_no_work(scheduler, tmp_path):
    script = write(tmp_path, "exit 1")  # the job is there, but nobody was told
    with pytest.raises(ClusterError, match=r"qsub.sh .*\nfailed \(exit code 1\)"):
        submit.submit(script, scheduler, CLUSTER)
    assert submit.submit(write(tmp_path, "echo $number"), scheduler, CLUSTER) == "2"
    run_all(tmp_path)
    assert work(tmp_path) == ["done"]


def test_what_is_in_the_queue_is_adopted_and_what_has_other_parameters_is_ended(scheduler, tmp_path):
    answer = "echo $number"
    assert submit.submit(write(tmp_path, answer), scheduler, CLUSTER) == "1"
    scheduler.queue["1"] = "running"
    assert submit.submit(write(tmp_path, answer), scheduler, CLUSTER) == "1"
    scheduler.cancel_command = lambda jobs: ["touch", scheduler.queue.clear() or "cancelled.1"]
    assert submit.submit(write(tmp_path, answer, params={"seed": 1}), scheduler, CLUSTER) == "2"
    assert (tmp_path / "cancelled.1").exists()


def test_a_job_of_its_own_fault_is_not_sent_again_in_the_same_run(scheduler, tmp_path, monkeypatch):
    spool.note_own_fault("train.log", "error: 10 classes expected, found 9")
    script = write(tmp_path, "echo $number", log=["train.log"])
    with pytest.raises(ClusterError, match="10 classes expected"):
        submit.submit(script, scheduler, CLUSTER)
    assert "10 classes expected" in (tmp_path / "train.log").read_text()
    monkeypatch.setenv(RUN_VARIABLE, "another")
    assert submit.submit(script, scheduler, CLUSTER) == "1"
