"""What an earlier start has left: adopted, ended first, or run again, and never done twice."""

from pathlib import Path

import pytest
from in_memory import done, look, lost_answer, task
from snakemake_executor_plugin_queue.ledger import Ledger
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.watch import Task


def test_a_group_that_is_put_together_otherwise_ends_the_old_ones_first(queue, start):
    old = [Task(Request(f"g.{n}", f"old{n}", "s", 1, 1, 1, None), "true", [f"o{n}", f"p{n}"]) for n in range(2)]
    look(start(), *old)
    new = Task(Request("g.new", "new", "s", 1, 1, 1, None), "true", ["o0", "o1"], before=Ledger().entries())
    watched = start()
    look(watched, new, times=3)
    assert new.entry is None
    assert set(queue.cancelled) == {"1", "2"}
    queue.jobs.clear()
    look(watched, new, times=3)
    assert new.entry.job == "3"


def test_a_forced_job_is_run_though_an_ended_one_is_the_same(queue, start):
    look(start(), task())
    queue.run("1")
    watched, job = start(), task(forced=True)
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_a_submission_that_was_heard_though_its_answer_was_lost_is_adopted(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job, times=3)
    assert job.entry.job == "1"
    assert len(queue.scripts) == 1


def test_a_submission_that_was_not_heard_is_sent_again(queue, start):
    queue.faults = [lost_answer(heard=False), lost_answer(heard=False)]
    watched, job = start(), task()
    look(watched, job, times=6)
    assert job.entry.job == "1"
    assert job.outcome is None


def test_a_submission_that_is_heard_late_does_no_work(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job)
    queue.jobs.clear()  # not visible yet
    look(watched, job, times=3)
    assert job.entry.job == "2"
    queue.run("1")
    assert done() == []
    queue.run("2")
    assert done() == ["done"]


@pytest.mark.parametrize("moment", ["waits", "runs", "has ended"])
def test_the_next_start_adopts(queue, start, moment):
    look(start(), task())
    if moment == "has ended":
        queue.run("1")
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.entry.job == "1"
    if moment != "has ended":
        queue.run("1")
        look(watched, job)
    assert job.outcome.succeeded
    assert done() == ["done"]


def test_a_job_that_ends_between_the_start_and_its_turn_is_adopted(queue, start):
    look(start(), task())
    watched, job = start(), task()
    other = Task(Request("other.1", "other", "stamp", 1, 1, 10, None), "true", ["else"])
    look(watched, other)  # the scheduler's answer still has the job
    queue.run("1")
    look(watched, job, other, times=2)
    assert job.outcome.succeeded
    assert done() == ["done"]


def test_a_job_of_other_parameters_is_ended_and_gone_before_the_new_one(queue, start):
    look(start(), task())
    watched, job = start(), task(stamp="another")
    look(watched, job, times=2)
    assert "1" in queue.cancelled
    assert job.entry is None
    del queue.jobs["1"]
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_an_ended_job_of_other_parameters_does_not_count(queue, start):
    look(start(), task())
    queue.run("1")
    watched, job = start(), task(stamp="another")
    look(watched, job)
    assert job.entry.job == "2"


def test_an_ended_job_whose_outputs_are_gone_does_not_count(queue, start):
    look(start(), task())
    queue.run("1")
    Path("out").unlink()
    watched, job = start(), task()
    look(watched, job)
    assert job.entry.job == "2"


def test_a_failed_job_of_an_earlier_start_is_run_again(queue, start):
    look(start(), task(work="exit 1"))
    queue.run("1")
    watched, job = start(), task()
    look(watched, job)
    assert job.entry.job == "2"


def test_a_cancelled_job_is_not_adopted(queue, start):
    watched, job = start(), task()
    look(watched, job)
    watched.cancel([job.entry])
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.entry is None  # it may still end
    del queue.jobs["1"]
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_a_job_that_had_ended_before_it_was_cancelled_is_adopted(queue, start):
    watched, job = start(), task()
    look(watched, job)
    queue.run("1")
    watched.cancel(job.left)
    job = task()
    look(start(), job)
    assert job.outcome.succeeded
    assert queue.cancelled == []


def test_a_cancelled_submission_without_an_answer_never_starts(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job)
    watched.cancel(job.left)
    watched.cancel(job.left)  # again, without waiting for anything
    queue.run("1")
    assert done() == []


def test_a_start_while_the_scheduler_is_away_submits_nothing_twice(queue, start):
    look(start(), task())
    queue.is_away = True
    watched, job = start(), task()
    look(watched, job, times=3)
    assert job.entry is None
    queue.is_away = False
    look(watched, job, times=2)
    assert job.entry.job == "1"
