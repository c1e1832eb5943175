"""The estimate of what a run will cost, from a summary of Snakemake and from benchmark files."""

from pathlib import Path

import pytest

from fishertail import cost

RUNS = "results/runs"
SUMMARY = "\n".join(
    [
        "output_file\tdate\trule\tlog-file(s)\tstatus\tplan",
        f"{RUNS}/mnist-fc/bs16/seed0/epochs0001-0010/checkpoints\t-\ttrain\t-\tmissing\tupdate pending",
        f"{RUNS}/mnist-fc/bs16/seed0/epochs0001-0010/metrics.csv\t-\ttrain\t-\tmissing\tupdate pending",
        f"{RUNS}/mnist-fc/bs256/seed1/epochs0011-0015/metrics.csv\t-\ttrain\t-\tmissing\tupdate pending",
        f"{RUNS}/mnist-conv/bs16/seed0/epochs0001-0010/metrics.csv\t-\ttrain\t-\tmissing\tupdate pending",
        f"{RUNS}/mnist-fc/bs16/seed2/epochs0001-0010/metrics.csv\tdate\ttrain\tlogs/x.log\tok\tno update",
        "results/figures/fig7.svg\t-\tfig7\tlogs/fig7.log\tmissing\tupdate pending",
    ]
)
ASKED = {"train": {"gpus": 1, "runtime": 120}, "fig7": {"gpus": 0, "runtime": 30}}


def benchmark(folder: Path, rule: str, stem: str, seconds: float) -> None:
    path = folder / "results" / rule / f"{stem}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t1\n")


def test_a_job_counts_once_and_finished_ones_do_not():
    jobs = cost.pending(SUMMARY)
    assert len(jobs["train"]) == 3
    assert list(jobs) == ["train", "fig7"]


def test_times_are_measured_an_epoch_and_by_batch_size_first(tmp_path):
    benchmark(tmp_path, "train", "mnist-fc-bs16-seed0-epochs0001-0010", 100)
    benchmark(tmp_path, "train", "mnist-fc-bs16-seed1-epochs0001-0010", 300)
    benchmark(tmp_path, "train", "cifar10-fc-bs16-seed0-epochs0001-0010", 7)
    found = cost.measured_seconds(tmp_path, "train")
    assert found == {"mnist-fc-bs16": 20, "mnist-fc": 20, "cifar10-fc-bs16": 0.7, "cifar10-fc": 0.7}


def test_what_was_not_measured_is_what_the_rule_allows(tmp_path):
    benchmark(tmp_path, "train", "mnist-fc-bs16-seed0-epochs0001-0010", 360)
    (found,) = cost.costs(cost.pending(SUMMARY), ASKED, tmp_path)
    # 10 epochs at 36 s, 5 epochs of the other batch size at the same, and 2 hours for conv
    assert found == cost.RuleCost("train", 3, 1, pytest.approx(0.1 + 0.05 + 2.0), 2)
    text = cost.table([found], node_gpus=4)
    assert "2 measured, others at most" in text
    assert text.splitlines()[-1].split() == ["all", "3", "2.1", "0.5"] or "2.2" in text
