"""What holds for every scheduler, and the error for a file that has a mistake."""

import sys

import pytest
from snakemake_executor_plugin_queue import schedulers, site
from snakemake_executor_plugin_queue.errors import Refused
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Submission, make

COMPLETE = """
from snakemake_executor_plugin_queue.schedulers import base

class Scheduler(base.Scheduler):
    OWN_ID, JOB_ID, UNREACHABLE, BUSY, CANCEL, ACCOUNT = "$ID", "(.+)", "away", "busy", "kill", "-A {account}"
    def submit_command(self, job): return ["submit", *job.account(self.ACCOUNT), job.script]
    def queue(self): return {}
"""


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_a_command_has_the_name_log_script_and_account_of_its_job(name):
    settings = site.Site(scheduler=name, account="lab", queue="long", options=["--more"])
    job = Submission(Request("train", "key", "stamp", 0, 2, 90, 4000), settings, "train.1", "job.sh", "job.log")
    command = make(name).submit_command(job)
    assert {"train.1", "job.log", "long", "--more"} <= set(command)
    assert command[-1] == "job.sh"
    assert make(name).ACCOUNT.format(account="lab") in " ".join(command)


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_an_answer_without_an_id_names_no_job(name):
    assert make(name).job_id("Welcome to the cluster\n") is None


@pytest.fixture
def abacus(tmp_path, monkeypatch):
    """A scheduler of that name, whose file has the text that it is called with."""
    monkeypatch.setattr(schedulers, "__path__", [str(tmp_path)])
    monkeypatch.setattr(schedulers, "NAMES", ("abacus",))

    def write(text: str):
        (tmp_path / "abacus.py").write_text(text)
        (tmp_path / "site.yaml").write_text("scheduler: abacus\naccount: lab\n")
        return tmp_path / "site.yaml"

    yield write
    sys.modules.pop(f"{schedulers.__name__}.abacus", None)
    vars(schedulers).pop("abacus", None)


def test_a_file_without_a_mistake(abacus):
    assert site.load(abacus(COMPLETE)).scheduler == "abacus"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (COMPLETE.replace("OWN_ID, ", "").replace('"$ID", ', ""), "OWN_ID is missing"),
        (COMPLETE.replace("def queue", "def queued"), "queue is missing"),
        (COMPLETE.replace("BUSY,", "BUZY,").replace("def submit", "def send"), "BUSY is missing; submit_command is"),
        (COMPLETE.replace("(.+)", ".+"), "JOB_ID: a regular expression with one group expected, found 0"),
        (COMPLETE.replace('"away"', '"(away"'), "UNREACHABLE: a regular expression expected: missing"),
        (COMPLETE + '    IGNORED = ("colour",)', "IGNORED: no such key of a site: colour"),
        (COMPLETE.replace("class Scheduler", "class Abacus"), "a class Scheduler derived from base.Scheduler expected"),
        ("from .base import Scheduler", "a class Scheduler derived from base.Scheduler expected"),
        ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"),
        ("class Scheduler(", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_with_a_mistake_is_named_with_what_is_missing(abacus, text, words):
    with pytest.raises(Refused, match=r"abacus\.py: ") as error:
        site.load(abacus(text))
    assert words in str(error.value)


def test_programs_of_slurm_see_no_options_of_the_job_that_snakemake_runs_in(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("TMPDIR", "/local/1")
    seen = {line.partition("=")[0] for line in make("slurm")._call(["env"]).output.splitlines()}
    assert seen & {"SLURM_CPUS_PER_TASK", "SLURM_CONF", "TMPDIR"} == {"SLURM_CONF"}
