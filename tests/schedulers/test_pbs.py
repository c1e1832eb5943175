"""PBS, without a server: recorded answers of an OpenPBS 23.06, and a stand-in that refuses what PBS refuses."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from fishertail.clusters import pbs
from tests.schedulers.conftest import HERE, LoginNode
from tests.schedulers.loopback import wait_for

RECORDED = HERE / "pbs" / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_the_number_of_a_job():
    assert pbs.job_id(recorded("qsub.txt")) == "26.tsubame"
    assert pbs.job_id("Welcome to the cluster\n12.pbs01.example.org\n") == "12.pbs01.example.org"
    assert pbs.job_id("qsub: refused\n") is None


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("24-live", "running"),
        ("26-live", "running"),  # waits
        ("24-deleted", "failed"),  # while it ran: Exit_status 0, but substate 91
        ("26-deleted", "failed"),  # while it waited: no Exit_status
        ("job-2", "success"),
        ("job-7", "failed"),  # beyond its walltime
        ("job-8", "failed"),  # by itself
        ("job-10", "success"),
    ],
)
def test_states(name, state):
    assert list(pbs.states(recorded(f"{name}.json"), 0).values()) == [state]


def test_no_answer_is_no_state():
    assert pbs.states("", 111) is None
    assert pbs.states("", 124) is None
    assert pbs.states("not JSON", 0) is None
    assert pbs.states("", 153) == {}  # the server does not know the job


def test_a_server_without_history_tells_what_is_in_the_queue():
    """qstat -x would end with 36: PBS is not configured to maintain job history."""
    assert "-x" not in pbs.query_command(["24.tsubame"])
    assert pbs.states("", 35) == {}
    assert pbs.outcome("", 36) is None


def test_reasons():
    assert "walltime" in pbs.reason(recorded("job-7.json"))
    assert "terminated by root" in pbs.reason(recorded("24-deleted.json"))


class StandIn:
    """Its programs, put on the PATH of the project's Snakemake."""

    name, profile = "pbs", "pbs"
    settings = MappingProxyType({"account": "project-1", "cpus_per_gpu": 2})

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for program in ("qsub", "qstat", "qdel"):
            shutil.copy(HERE / "pbs" / "stand_in.py", folder / program)
            (folder / program).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        state = {"PBS_STAND_IN": str(self.folder / "state")}
        return os.environ | state | {"PATH": f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def popen(self, *arguments: str, cwd: Path, **options) -> subprocess.Popen:
        return subprocess.Popen(arguments, cwd=cwd, **options)

    def program_that_asks(self) -> None:
        return None


@pytest.fixture
def login(tmp_path) -> LoginNode:
    path = tmp_path / "login"
    path.mkdir()
    return LoginNode(path, StandIn(tmp_path / "pbs"))


pytestmark = pytest.mark.workflow


def test_jobs_run(login):
    login.jobs("out/one_gpu0.txt", "out/one_gpu1.txt", seconds=1)
    assert sorted(login.executions()) == ["0", "1"]


def test_an_account_that_pbs_refuses_is_told(login):
    login.set(cluster={"account": None, "account_required": False})
    output = login.jobs("out/one_gpu0.txt", check=False)
    assert "a project is required (-P)" in output


def test_a_job_that_fails_by_itself_is_not_run_again(login):
    output = login.jobs("out/faulty.txt", check=False)
    assert (login.path / "out/faults").read_text().split() == ["run"]
    assert "error: digits.npz: 10 classes expected, found 9" in output


@pytest.mark.slow
def test_ctrl_c_and_adoption(login):
    process = login.start(*login.arguments("out/one_gpu0.txt", "out/one_gpu1.txt", seconds=20))
    wait_for(lambda: len(list(login.path.glob("out/*.part"))) == 2, 60, "the jobs")
    login.signal(signal.SIGKILL)
    process.wait(timeout=30)
    login.run("-s", "jobs.smk", "--unlock")
    output = login.jobs("out/one_gpu0.txt", "out/one_gpu1.txt", seconds=20)
    assert output.count("adopted job") == 2
    assert sorted(login.executions()) == ["0", "1"]
    process = login.start(*login.arguments("out/one_gpu2.txt", seconds=60))
    wait_for(lambda: (login.path / "out/one_gpu2.txt.part").exists(), 60, "the job")
    login.signal(signal.SIGINT)
    process.wait(timeout=60)
    state = login.machine.folder / "state" / "3.json"
    wait_for(lambda: '"job_state": "F"' in state.read_text(), 20, "the end of the job")


@pytest.mark.slow
def test_a_job_beyond_its_walltime_is_tried_again_with_more(login):
    login.jobs("out/too_slow.txt")
    assert (login.path / "out/attempts").read_text().split() == ["1", "2"]
