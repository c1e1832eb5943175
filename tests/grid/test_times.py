"""Rates from measured times, and the estimates that rest on them."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fishertail.grid import checks, times
from fishertail.grid.estimate import DEFAULT, KEPT, OWN, SHORTEST, UNKNOWN, Estimate, Estimator
from fishertail.grid.plan import RunPlan
from fishertail.grid.times import START, MeasuredJob, Times
from fishertail.results.run import RESUMED, Run

PASSES = {"train": 1.0, "per_sample_gradients": 1.0, "fim_eigen": 2.0}
GRID = {
    "datasets": ["mnist"],
    "models": ["fc"],
    "batch_sizes": [256],
    "seeds": [0],
    "epochs": 20,
    "epochs_per_job": 10,
    "measurements": {"spectrum": {"checkpoints": "4 per octave"}},
}


def write(folder: Path, rule: str, job: str, seconds: object) -> None:
    """A benchmark file as Snakemake writes it."""
    path = folder / rule / f"{job}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:01\t1\t{seconds}\n")


def measured(rule: str, rate: float, units: float, *, network: str = "mnist-fc", batch_size: int = 256) -> MeasuredJob:
    """A job of so many seconds a unit."""
    dataset, model = network.split("-")
    return MeasuredJob(rule, dataset, model, batch_size, "epochs0001-0010", START + rate * units, units)


def estimator(*kept: MeasuredJob, own=(), workers=lambda rule: 1, **changes) -> Estimator:
    return Estimator(RunPlan(checks.load(GRID | changes, check_sources=False)), own, kept, workers)


def wildcards(block: str | None = "epochs0001-0010", **others: str) -> SimpleNamespace:
    named = {"dataset": "mnist", "model": "fc", "batch_size": "256", "seed": "0"} | others
    return SimpleNamespace(**named | ({} if block is None else {"block": block}))


def test_benchmarks_are_read_and_what_is_none_is_passed_over(tmp_path):
    write(tmp_path, "train", "mnist-fc-bs16-seed0-epochs0001-0010", 100.5)
    write(tmp_path, "fim_eigen_at_landmarks", "cifar10-conv-bs256-seed2", 7)
    write(tmp_path, "train", "mnist-fc-bs16-seed1-epochs0001-0010", "NA")
    write(tmp_path, "prepare_dataset", "mnist", 3)
    write(tmp_path / "demo", "train", "mnist-fc-bs16-seed0-epochs0001-0010", 1)  # of another grid, in a folder below
    (tmp_path / "train" / "mnist-fc-bs16-seed2-epochs0001-0010.tsv").write_text("")  # of a job that was killed
    assert list(times.benchmarks(tmp_path, tmp_path / "logs")) == [
        MeasuredJob("fim_eigen_at_landmarks", "cifar10", "conv", 256, None, 7.0),
        MeasuredJob("train", "mnist", "fc", 16, "epochs0001-0010", 100.5),
    ]
    assert list(times.benchmarks(tmp_path / "nowhere", tmp_path / "logs")) == []


def test_the_time_of_a_job_that_went_on_after_a_kill_is_none_of_all_its_epochs(tmp_path):
    for seed, said in (("0", f"9 of 10 epochs are already trained, {RESUMED}\n"), ("1", "attempt 1\n")):
        job = f"mnist-fc-bs16-seed{seed}-epochs0011-0020"
        write(tmp_path / "benchmarks", "train", job, 60)
        (tmp_path / "logs" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / "train" / f"{job}.log").write_text(said)
    write(tmp_path / "benchmarks", "train", "mnist-fc-bs16-seed2-epochs0011-0020", 70)  # whose log was deleted
    found = times.benchmarks(tmp_path / "benchmarks", tmp_path / "logs")
    assert [job.seconds for job in found] == [60, 70]


def test_a_kept_table_says_its_units_or_leaves_them_to_the_configuration(tmp_path):
    table = tmp_path / "times.csv"
    table.write_text(
        "rule,job,seconds,cpu,units\n"
        "fim_eigen,mnist-fc-bs16-seed0-epochs0011-0020,40.5,39,5\n"
        "train,mnist-fc-bs16-seed0-epochs0011-0020,12,11,\n"
    )
    assert [job.units for job in times.kept(table)] == [5.0, None]
    assert list(times.kept(tmp_path / "none.csv")) == []


def test_the_rate_is_that_of_the_nearest_jobs():
    known = [
        measured("train", 10, 10),
        measured("train", 20, 30),  # together 700 s for 40 epochs
        measured("train", 90, 10, batch_size=16),
        measured("fim_eigen", 50, 3, network="mnist-conv"),
    ]
    index = Times([(job, job.units) for job in known], PASSES)
    assert index.rate(["train"], "mnist", "fc", 256) == pytest.approx(17.5)
    assert index.rate(["train"], "mnist", "fc", 32) == pytest.approx(1600 / 50)  # any batch size
    assert index.rate(["fim_eigen"], "mnist", "fc", 256) == pytest.approx(2 * 17.5)  # by passes
    assert index.rate(["per_sample_gradients"], "mnist", "conv", 16) == pytest.approx(25)
    assert index.rate(["at_landmarks", "fim_eigen"], "mnist", "conv", 256) == pytest.approx(50)
    assert index.rate(["unknown"], "mnist", "fc", 256) is None
    assert index.rate(["train"], "cifar10", "fc", 256) is None
    assert index.other_datasets("fc", "cifar10") == ["mnist"]


def test_jobs_that_had_nothing_to_do_say_nothing():
    job = MeasuredJob("train", "mnist", "fc", 256, None, 3.0)
    assert Times([(job, 0.0)], PASSES).rate(["train"], "mnist", "fc", 256) is None


def test_units_are_epochs_and_checkpoints():
    """Counted by hand: 235 steps an epoch, so 1, 2, ..., 256 lie inside the first two epochs."""
    known = estimator()
    assert known.units("train", "mnist", 256, "epochs0001-0010") == pytest.approx(10 + 9 / 3)
    assert known.units("train", "mnist", 256, "epochs0011-0020") == 10
    assert known.units("per_sample_gradients", "mnist", 256, "epochs0001-0010") == 11 + 9
    assert known.units("fim_eigen", "mnist", 256, "epochs0001-0010") == 10 + 9  # epochs 0 to 8 and 10: four an octave
    assert known.units("fim_eigen", "mnist", 256, "epochs0011-0020") == 4  # 11, 13, 16, 19
    assert known.units("fim_eigen_at_landmarks", "mnist", 256, None) == 3
    assert known.units("per_sample_gradients_at_landmarks", "mnist", 256, None) == 0  # each is among the blocks'
    without = estimator(step_checkpoints=False)
    assert without.units("train", "mnist", 256, "epochs0001-0010") == 10


def test_own_times_come_first_then_kept_ones_then_other_datasets():
    kept = [measured("train", 40, 10), measured("train", 100, 10, network="cifar10-conv")]
    own = [measured("fim_eigen", 6, 10)]
    known = estimator(*kept, own=own, models=["fc", "conv"])
    run, conv = Run("mnist", "fc", 256, 0), Run("mnist", "conv", 256, 0)
    assert known.expected("train", run, 10) == Estimate(pytest.approx(START + 10 * 3), OWN)  # half of 6 s: 2 passes
    assert estimator(*kept).expected("train", run, 10) == Estimate(pytest.approx(START + 400), KEPT)
    scaled = known.expected("train", conv, 10)
    assert scaled == Estimate(pytest.approx(START + 1000 * 60_000 / 50_000), KEPT)
    assert known.expected("train", Run("mnist", "resnet18", 256, 0), 10) == Estimate(DEFAULT, UNKNOWN)


def test_own_benchmarks_are_counted_by_the_configuration(tmp_path):
    write(tmp_path, "train", "mnist-fc-bs256-seed0-epochs0011-0020", START + 70)
    write(tmp_path, "fim_eigen", "mnist-fc-bs256-seed0-epochs0011-0020", START + 20)  # 4 checkpoints
    write(tmp_path, "train", "nosuch-fc-bs256-seed0-epochs0011-0020", 1)  # of a data set that is no more
    write(tmp_path, "nosuchrule", "mnist-fc-bs256-seed0-epochs0011-0020", 1)
    known = estimator(own=times.benchmarks(tmp_path, tmp_path / "logs"))
    assert known.of("train", wildcards()).seconds == pytest.approx(START + 7 * 13)
    assert known.of("fim_eigen", wildcards()).seconds == pytest.approx(START + 5 * 19)
    assert known.of("fim_eigen_at_landmarks", wildcards(None)).seconds == pytest.approx(START + 5 * 3)


def test_checkpoints_are_spread_over_workers():
    spread = estimator(measured("fim_eigen", 10, 5), workers=lambda rule: 4 if rule == "fim_eigen" else 1)
    assert spread.of("fim_eigen", wildcards()).seconds == pytest.approx(START + 10 * 5)  # 19 by four
    assert spread.of("fim_eigen_at_landmarks", wildcards(None)).seconds == pytest.approx(START + 10 * 3)
    own = estimator(own=[measured("fim_eigen", 10, 8)], workers=lambda rule: 4)  # 80 s were two rounds of four
    assert own.of("fim_eigen", wildcards()).seconds == pytest.approx(START + 40 * 5)


def test_a_job_asks_for_a_margin_and_for_more_at_each_attempt():
    known = estimator(measured("train", 60, 10), machine={"runtime_margin": 1.5})
    wanted = math.ceil(1.5 * (START + 60 * 13) / 60)
    assert [known.minutes("train", wildcards(), attempt) for attempt in (1, 2, 3)] == [wanted, 2 * wanted, 3 * wanted]
    assert Estimate(1.0, OWN).minutes(2.0) == SHORTEST
    assert Estimate(DEFAULT, UNKNOWN).minutes(2.0, attempt=2) == 240


def test_each_job_comes_after_those_that_it_needs():
    jobs = {(job.rule, job.folder): job for job in estimator().jobs()}
    run = "<results>/runs/mnist-fc/bs256/seed0"
    first, second = f"{run}/epochs0001-0010", f"{run}/epochs0011-0020"
    assert len(jobs) == 2 * 4 + 3
    assert jobs["train", first].needs == ()
    assert jobs["train", second].needs == (("train", first),)
    assert set(jobs["fim_eigen", second].needs) == {("train", second), ("per_sample_gradients", second)}
    assert {("train", first), ("train", second)} <= set(jobs["fim_eigen_at_landmarks", f"{run}/landmarks"].needs)
    seen: set[tuple[str, str]] = set()
    for key, job in jobs.items():
        assert set(job.needs) <= seen
        seen.add(key)


def test_the_snakefile_can_ask_without_torch_numpy_or_pandas():
    code = "import sys, fishertail.grid.cost; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
