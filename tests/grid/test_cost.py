"""What `make cost` prints: pending jobs, hours, points, and what it all rests on."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pandas as pd
import pytest
import yaml

from fishertail.errors import ConfigError
from fishertail.grid import cost
from fishertail.grid.cost import Job
from fishertail.grid.estimate import KEPT, OWN, UNKNOWN
from fishertail.grid.place import Charge, Place
from fishertail.grid.times import START
from fishertail.results import storage
from tests.workflow.project import ROOT, Project

RUNS = "results/runs"
FIRST, SECOND = (f"{RUNS}/mnist-fc/bs16/seed0/epochs{block}" for block in ("0001-0010", "0011-0020"))
SUMMARY = "\n".join(
    [
        "output_file\tdate\trule\tlog-file(s)\tstatus\tplan",
        f"{FIRST}/checkpoints.safetensors\t-\ttrain\t-\tmissing\tupdate pending",
        f"{FIRST}/metrics.csv\t-\ttrain\t-\tmissing\tupdate pending",
        f"{SECOND}/metrics.csv\t-\ttrain\t-\tmissing\tupdate pending",
        f"{RUNS}/mnist-fc/bs16/seed2/epochs0001-0010/metrics.csv\tdate\ttrain\tlogs/x.log\tok\tno update",
        "results/figures/fig7.svg\t-\tfig7\tlogs/fig7.log\tmissing\tupdate pending",
    ]
)
HOUR = Job("train", FIRST, [], seconds=3600, basis=OWN, gpus=1, threads=2, minutes=120)
CLUSTER = Place(node_gpus=4, retries=2, jobs=10)


def test_a_job_counts_once_and_finished_ones_do_not():
    assert cost.pending(SUMMARY) == {("train", FIRST), ("train", SECOND), ("fig7", "results/figures")}


def test_hours_expected_asked_for_and_at_most():
    assert cost.costs(HOUR, CLUSTER) == {"GPU-hours": (1, 2, 2 + 4 + 6), "node-hours": (0.25, 0.5, 3)}
    four = replace(HOUR, gpus=4)
    assert cost.costs(four, replace(CLUSTER, limit=180))["GPU-hours"] == (4, 8, 4 * (2 + 3 + 3))
    assert cost.costs(HOUR, Place(cores=2)) == {"hours": (1, 2, 2)}


@pytest.mark.parametrize(
    ("gpus", "seconds", "asked", "points"),
    [
        (1, 142, 1800, 0.0270833333),  # 0.25 (0.7 * 300 + 0.1 * 1800) / 3600: 300 s are charged at least
        (0, 2.5, 300, 0.001),
        (3, 3600, 7200, 0.7 + 0.2),  # a whole node, since there is no type with three GPUs
        (4, 86400, 86400, 24 * 0.8),
    ],
)
def test_points_of_tsubame(gpus, seconds, asked, points):
    charge = Place.of(ROOT / "profiles" / "tsubame").charge
    assert charge is not None
    assert charge.points(gpus, seconds, asked) == pytest.approx(points)


def test_points_are_those_of_the_time_asked_for_until_a_job_has_ended():
    place = replace(CLUSTER, charge=Charge({1: 0.5}, used=0.7, asked=0.1))
    most = sum(0.5 * 0.8 * hours for hours in (2, 4, 6))
    assert cost.costs(HOUR, place)["points"] == pytest.approx((0.5 * (0.7 + 0.2), 0.5 * 0.8 * 2, most))


def test_faults_of_a_charge(tmp_path):
    (tmp_path / "config.yaml").write_text("queue-site: site.yaml\n")
    for charge in ({"used": 1.0}, {"factors": {1: 1.0}, "weight": 2}):
        (tmp_path / "site.yaml").write_text(yaml.safe_dump({"scheduler": "slurm", "charge": charge}))
        with pytest.raises(ConfigError, match=r"site\.yaml: charge: keys among factors, used, asked, least expected"):
            Place.of(tmp_path)
    with pytest.raises(ConfigError, match=r"an entry for 8 GPUs expected, found \[1, 4\]"):
        Charge({1: 1.0, 4: 4.0}).points(8, 1, 1)


@pytest.mark.parametrize("profile", ["local", "demo", "slurm", "pbs", "tsubame"])
def test_profiles_say_where_jobs_run(profile):
    place = Place.of(ROOT / "profiles" / profile)
    if profile in ("local", "demo"):
        assert place == Place(cores=os.cpu_count())
    else:
        assert (place.node_gpus, place.retries, place.jobs) == (4, 2, 100)
        assert (place.charge is not None) == (profile == "tsubame")


def test_arguments_of_snakemake_count_as_the_profile_does(tmp_path):
    (tmp_path / "config.yaml").write_text("queue-site: site.yaml\njobs: unlimited\nretries: 2\n")
    (tmp_path / "site.yaml").write_text("scheduler: slurm\n")
    assert Place.of(tmp_path).jobs is None
    (tmp_path / "other.yaml").write_text("scheduler: slurm\nnode_gpus: 8\n")
    given = ["--jobs", "3", "-T", "0", "--queue-site", str(tmp_path / "other.yaml"), "--config", "epochs=3"]
    place = Place.of(tmp_path, given)
    assert (place.jobs, place.retries, place.node_gpus) == (3, 0, 8)
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert Place.of(tmp_path, ["--cores=4"]).cores == 4


def test_the_report_of_two_blocks():
    jobs = [
        HOUR,
        Job("train", SECOND, [HOUR.key], 7200, KEPT, 1, 2, 240),
        Job("x", "elsewhere", [], 1, UNKNOWN, 1, 1, 5),
    ]
    text = cost.report(jobs, SUMMARY, CLUSTER)
    rows = [line.split() for line in text.splitlines()[2:4]]
    assert rows[0] == ["train", "2", "3.00", "6.00", "36.0", "0.75", "1.50", "9.00"]
    assert rows[1] == ["all", *rows[0][1:]]
    assert "The longest chain takes 3.00 hours" in text
    assert "2 blocks of epochs, one after the other, then 0 jobs" in text
    assert "With 10 jobs at a time, as the profile says, all jobs take 3.00 hours." in text
    assert "1 job estimated from your own benchmarks" in text
    assert "1 job estimated from the times of docs/reproduction, those of one CPU thread." in text
    assert "without measured times" not in text
    assert cost.report(jobs, "", CLUSTER) == "No job that computes is pending."


def test_the_report_names_what_nobody_has_measured():
    job = replace(HOUR, basis=UNKNOWN, seconds=7200)
    text = cost.report([job], SUMMARY, Place(cores=2))
    assert "1 job of networks without measured times, taken as 2 hours each" in text
    assert "GPU" not in text


def test_the_report_says_where_own_benchmarks_ran(tmp_path):
    """Of a CPU's times that they are an upper bound for a GPU; of a GPU's only what it is."""
    machines = [
        {"device": "cpu", "cpu": "AMD EPYC", "threads": 1},
        {"device": "cpu", "cpu": "AMD EPYC", "threads": 1},
        {"device": "cuda", "gpu": "NVIDIA H100", "cpu": "Xeon", "threads": 8},
    ]
    for number, machine in enumerate(machines):
        folder = tmp_path / str(number)
        folder.mkdir()
        storage.write_table(pd.DataFrame({"step": [0]}), folder / "metrics.csv", {"machine": machine})
    jobs = [replace(HOUR, folder=str(tmp_path / str(number))) for number in range(4)]
    assert cost.trained_on(jobs) == {"a CPU (AMD EPYC, 1 thread)": 2, "NVIDIA H100": 1}
    both = cost.basis(jobs, CLUSTER, cost.trained_on(jobs))
    assert both[0].endswith("(blocks of epochs trained: 2 on a CPU (AMD EPYC, 1 thread), 1 on NVIDIA H100).")
    assert "an upper bound where a GPU is faster" in both[1]
    assert len(cost.basis(jobs, CLUSTER, cost.trained_on(jobs[2:]))) == 1


def test_jobs_are_written_and_read_as_they_are(tmp_path):
    job = replace(HOUR, needs=[("train", SECOND)])
    (tmp_path / "jobs.json").write_text(json.dumps([asdict(job)]))
    assert cost.read_jobs(tmp_path / "jobs.json") == [job]


def test_the_docs_have_the_back_test():
    """To see it: python docs/reproduction/back_test.py"""
    command = [sys.executable, "docs/reproduction/back_test.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == 6
    assert printed in (ROOT / "docs" / "clusters.md").read_text()


def command(*arguments: str) -> subprocess.CompletedProcess:
    called = [sys.executable, "-m", "fishertail.grid.cost", *arguments]
    return subprocess.run(called, cwd=ROOT, env=os.environ | {"PYTHONPATH": "src"}, capture_output=True, text=True)


def test_the_command_says_how_it_is_called():
    assert command("--help").stdout.startswith("usage: ")
    assert command().returncode == 2


def test_a_profile_that_is_not_there_is_named():
    done = command("profiles/typo")
    expected = (
        "error: profiles/typo/config.yaml: a file of a profile expected, found none (No such file or directory)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


@pytest.mark.parametrize(("text", "fault"), [("cores: [", "YAML expected, found while parsing"), ("2", "keys with")])
def test_a_broken_profile_is_named(tmp_path, text, fault):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"{tmp_path}/config.yaml: {fault}"):
        Place.of(tmp_path)


@pytest.mark.workflow
def test_a_real_tiny_grid(tmp_path):
    project = Project.new(tmp_path)
    profile = tmp_path / "profiles" / "mine"
    profile.mkdir()
    (profile / "config.yaml").write_text("cores: 1\nretries: 1\n")
    for block, seconds in (("epochs0001-0002", 3600), ("epochs0003-0004", 7200)):
        folder = tmp_path / "benchmarks" / "results" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"digits-fc-bs256-seed7-{block}"
        (folder / f"{name}.tsv").write_text(f"s\th:m:s\n{seconds + START}\t1:00:00\n")
    done = subprocess.run(
        [sys.executable, "-m", "fishertail.grid.cost", "profiles/mine", "--configfile", "grid.yaml"],
        cwd=tmp_path,
        env=project.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[2:11] if line}
    assert rows["train"][:2] == ["2", "3.00"]  # as long as those of the other seed together
    assert rows["all"][0] == str(2 * 3 + 1 + 3)
    assert rows["trimmed_eigenvalues_at_landmarks"][0] == "1"
    expected, asked, most = (float(cell) for cell in rows["train"][1:])
    assert asked == pytest.approx(2 * expected, rel=0.05)
    assert most == pytest.approx(3 * asked, rel=0.05)  # a second attempt asks for twice as much
    chain, whole = (
        float(re.search(rf"{words} ([\d.]+) hours", done.stdout)[1]) for words in ("chain takes", "jobs take")
    )
    assert 3.0 <= chain <= whole == float(rows["all"][1])  # on one core they run one by one
    assert "10 jobs estimated from your own benchmarks (blocks of epochs trained: on unknown devices)" in done.stdout
