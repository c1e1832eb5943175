"""One process at a time measures into a folder; two Watches of one process keep each other's steps."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys

import pytest

import fishertail
from fishertail.errors import StorageError
from fishertail.execution.live import run_folder
from tests.docs.code_blocks import ROOT
from tests.execution.watching import network, samples, table

OTHER_PROCESS = """
import os, sys, time
import fishertail
from tests.execution.watching import network, samples
watch = fishertail.Watch(network(), *samples(), folder=sys.argv[1], schedule="every 1", device="cpu")
watch(0)
worker = os.fork()  # as a DataLoader does; it outlives this process
if worker:
    print(worker, flush=True)
time.sleep(300)
"""


def made(folder):
    return fishertail.Watch(network(), *samples(), folder=folder, schedule="every 1", device="cpu")


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = int(first.stdout.readline())
    try:
        (tmp_path / ".step-in-hand").mkdir()
        with pytest.raises(StorageError, match=f"{tmp_path}: another process measures into this folder"):
            made(tmp_path)
        assert (tmp_path / ".step-in-hand").exists()
        first.kill()
        first.wait()
        again = made(tmp_path)
        assert not (tmp_path / ".step-in-hand").exists()
        assert again(0) == {}
        assert again(1)
    finally:
        first.kill()
        os.kill(worker, signal.SIGKILL)
        first.stdout.close()
    assert table(tmp_path, "metrics.csv")["step"].tolist() == [0, 1]


def test_two_watches_of_a_process_keep_each_others_steps(tmp_path):
    one, other, third = made(tmp_path), made(tmp_path), made(tmp_path)
    for step in range(3):
        one(2 * step)
        other(2 * step + 1)
    del one, other
    third(9)
    assert table(tmp_path, "norms.parquet")["step"].unique().tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert made(tmp_path)._done == {0, 1, 2, 3, 4, 5, 9}


def test_watches_of_two_runs_made_before_a_step_do_not_mix(tmp_path):
    one = made(tmp_path)
    other = fishertail.Watch(network()[0], *samples(), folder=tmp_path, schedule="every 1", device="cpu")
    one(0)
    with pytest.warns(UserWarning, match="step 0: files failed: .*a run with model .* expected"):
        other(0)
    assert list(table(tmp_path, "norms.parquet"))[-4:] == ["0", "1", "4", "network"]


def test_the_lock_is_that_of_the_folder_that_is_there(tmp_path):
    old = made(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    made(tmp_path / "run")(0)
    new = made(tmp_path / "run")
    with (tmp_path / "run" / ".lock").open("rb+") as file:
        assert os.path.sameopenfile(file.fileno(), new._folder._lock.descriptor)
        assert not os.path.sameopenfile(file.fileno(), old._folder._lock.descriptor)


def test_a_file_system_without_locks_is_gone_on_without(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    watch = made(tmp_path)
    assert watch._folder._lock is None
    assert watch(0)


def test_only_the_rank_that_writes_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(run_folder, "locked", lambda folder: pytest.fail("locked"))
    watch = made(tmp_path)
    assert watch(0) == {}
    assert not list(tmp_path.iterdir())
