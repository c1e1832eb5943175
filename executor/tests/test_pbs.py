"""PBS without a server: recorded answers of OpenPBS 23.06, and a stand-in that answers and refuses as it does."""

import signal
from pathlib import Path

import pytest
from behaviour import one_gpu, seconds
from login import LoginNode, wait_for
from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.programs import Answer
from snakemake_executor_plugin_queue.schedulers import State, base, make, pbs
from stand_in import StandIn

HERE = Path(__file__).parent
RECORDED = HERE / "pbs" / "recorded"


def recorded(name: str) -> Answer:
    """What the program of a real server printed, and its exit code, which is in the last line."""
    lines = (RECORDED / "several" / f"{name}.txt").read_text().splitlines()
    return Answer(int(lines[-1].strip("[]").split()[1]), "\n".join(lines[1:-1]) + "\n")


def test_the_number_of_a_job():
    scheduler = make("pbs")
    assert scheduler.job_id((RECORDED / "qsub.txt").read_text()) == "26.tsubame"
    assert scheduler.job_id("Welcome to the cluster\n12.pbs01.example.org\n") == "12.pbs01.example.org"
    assert scheduler.job_id("qsub: refused\n") is None


def test_several_jobs_of_which_one_has_ended():
    """The server names the live ones, and gives the exit code of the one that has ended."""
    found = pbs.parse(recorded("dsv-live-and-ended").output)
    assert {job: (each.name, each.state) for job, each in found.items()} == {
        "0.tsubame": ("rec1", State.LIVE),
        "1.tsubame": ("rec2", State.LIVE),
        "4.tsubame": ("rec5", State.LIVE),
    }


def test_the_queue_is_asked_by_two_programs(monkeypatch):
    """qselect names the user's jobs; one of them has ended before qstat is asked, which gives an exit code."""
    asked = []

    def call(command, withheld):
        asked.append(command)
        return recorded("qselect-user" if command[0] == "qselect" else "dsv-live-and-ended")

    monkeypatch.setattr(base, "call", call)
    assert list(make("pbs").queue()) == ["0.tsubame", "1.tsubame", "4.tsubame"]
    assert asked[1] == ["qstat", "-f", "-F", "dsv", *(f"{number}.tsubame" for number in range(5))]


def test_a_server_that_is_away_gives_no_empty_queue(monkeypatch):
    monkeypatch.setattr(base, "call", lambda command, withheld: recorded("server-down-qstat"))
    with pytest.raises(Unanswered, match="cannot connect to server"):
        make("pbs").queue()


def test_history_says_how_a_job_ended():
    found = pbs.parse(recorded("dsv-history-live-and-ended").output)
    assert found["5.tsubame"].state is State.FAILED
    assert "failed" in found["5.tsubame"].why
    assert found["0.tsubame"].state is State.LIVE


def test_an_unknown_job_hides_no_other():
    assert list(pbs.parse(recorded("dsv-unknown").output)) == ["0.tsubame"]


def test_by_json_the_server_shows_one_live_job_of_three():
    """The reason why JSON is not used: the other two would count as lost, and be submitted while they run."""
    assert recorded("json-three-live").output.count('"Job_Name"') == 1


@pytest.mark.parametrize("program", ["qstat", "qsub", "qdel"])
def test_a_server_that_is_away_has_said_nothing_of_jobs(program):
    assert make("pbs")._is_away(recorded(f"server-down-{program}"))


@pytest.mark.parametrize(
    ("fields", "state", "why"),
    [
        ({"job_state": "R"}, State.LIVE, ""),
        ({"job_state": "H"}, State.LIVE, ""),
        ({"job_state": "F", "substate": "92", "Exit_status": "0"}, State.DONE, ""),
        (
            {"job_state": "F", "substate": "91", "Exit_status": "0", "comment": "terminated by root"},
            State.FAILED,
            "root",
        ),
        ({"job_state": "F", "substate": "91"}, State.FAILED, "unknown"),  # deleted while it waited
        ({"job_state": "F", "substate": "93", "Exit_status": "-29"}, State.FAILED, "walltime exceeded"),
        ({"job_state": "F", "substate": "93", "Exit_status": "1"}, State.FAILED, "exit code 1"),
    ],
)
def test_states(fields, state, why):
    record = "|".join(["Job Id: 7.server", "Job_Name=train", *(f"{name}={value}" for name, value in fields.items())])
    (found,) = pbs.parse(record + "\n").values()
    assert found.state is state
    assert why in found.why


def test_an_environment_of_several_lines_with_bars():
    record = (
        "Job Id: 7.server|Job_Name=train|job_state=R|Variable_List=A=1,F=() {\n  a|Job_Name=other\n}|substate=42\n\n"
    )
    (found,) = pbs.parse(record).values()
    assert (found.name, found.state) == ("train", State.LIVE)


@pytest.mark.parametrize(("code", "known"), [(36, {}), (255, None)])
def test_a_server_without_history(monkeypatch, code, known):
    """qstat -x ends with 36: PBS is not configured to maintain job history."""
    monkeypatch.setattr(base, "call", lambda command, withheld: Answer(code, ""))
    if known is None:
        with pytest.raises(Unanswered):
            make("pbs").ended(["1.server"])
    else:
        assert make("pbs").ended(["1.server"]) == known


class Server(StandIn):
    """pbs/stand_in.py under the name of each program."""

    def __init__(self, folder: Path):
        site = {"scheduler": "pbs", "account": "project-1", "cpus_per_gpu": 2}
        text = (HERE / "pbs" / "stand_in.py").read_text()
        programs = dict.fromkeys(("qsub", "qstat", "qselect", "qdel"), text)
        super().__init__(folder, site, asks="qstat", programs=programs)

    def ended(self, number: int) -> bool:
        return '"job_state": "F"' in (self.state / f"{number}.json").read_text()


@pytest.fixture
def login(tmp_path) -> LoginNode:
    return LoginNode(tmp_path / "login", Server(tmp_path / "pbs"))


@pytest.mark.slow
def test_jobs_that_run_together_are_all_seen(login):
    output = login.run(*one_gpu(*range(4)), *seconds(6))
    assert login.executions() == ["0", "1", "2", "3"]
    assert len(list(login.machine.state.glob("*.json"))) == 4, output


def test_an_account_that_pbs_refuses_is_shown_once(login):
    login.set_site(account=None, account_required=False)
    output = login.run(*one_gpu(0), check=False)
    assert output.count("one_gpu.0: refused: qsub: Unauthorized Request: a project is required (-P)") == 1


@pytest.mark.slow
def test_an_outage_burns_no_attempt(login):
    (login.machine.state / "away").touch()
    process = login.start(*one_gpu(0), *seconds(1))
    wait_for(lambda: "waiting for the scheduler" in login.output(), 90, "the sentence")
    (login.machine.state / "away").unlink()
    assert "Trying to restart" not in login.end(process)
    assert login.executions() == ["0"]


def test_the_site_is_found_from_another_folder(login):
    login.set_site(account=None)
    output = login.run(*one_gpu(0), "--directory", "elsewhere", check=False)
    assert "profile/site.yaml" in output
    assert "account: the group, project or account to charge expected, found none" in output


@pytest.mark.slow
def test_groups_shadow_rules_and_many_inputs(login):
    """Snakemake passes more than twenty inputs to a job in a file next to its script."""
    login.run("out/many_inputs.txt", "out/second0.txt", "out/second1.txt", "--group-components", "pair=2")
    assert login.executions() == ["first0", "first1"]
    assert len(list(login.machine.state.glob("*.json"))) == 3
    assert list((login.path / ".snakemake/queue/entries").iterdir()) == []
    output = login.run("out/second100.txt", "--retries", "0", "--latency-wait", "1", check=False)
    assert "exit code 1" in output


@pytest.mark.slow
def test_ctrl_c_and_adoption(login):
    process = login.start(*one_gpu(0, 1), *seconds(20))
    wait_for(lambda: len(list(login.path.glob("out/*.part"))) == 2, 60, "the jobs")
    login.kill(process)
    output = login.run(*one_gpu(0, 1), *seconds(20))
    assert output.count("adopted job") == 2
    assert login.executions() == ["0", "1"]
    process = login.start(*one_gpu(2), *seconds(150))
    wait_for((login.path / "out/one_gpu2.txt.part").exists, 60, "the job")
    login.signal(signal.SIGINT)
    login.end(process, check=False, seconds=60)
    wait_for(lambda: login.machine.ended(3), 60, "the end of the job")


@pytest.mark.slow
def test_a_job_beyond_its_walltime_is_tried_again_with_more(login):
    output = login.run("out/too_slow.txt")
    assert (login.path / "out/attempts").read_text().split() == ["1", "3"]
    assert "too_slow: walltime exceeded" in output
