"""How well the times of this folder predict each other: python docs/reproduction/back_test.py

Each job's time is predicted from the others', as the workflow does it: without that job; without its rule at this
network and batch size, any seed; without its rule at this network; and without its network.
"""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from fishertail.grid import config, times
from fishertail.grid.estimate import UNKNOWN, Estimator
from fishertail.grid.plan import RunPlan
from fishertail.grid.times import MeasuredJob
from fishertail.results.run import Run

TABLE = Path(__file__).parent / "times.csv"
RULES = ("train", "per_sample_gradients", "fim_eigen", "trimmed_eigenvalues")
LEFT_OUT: dict[str, Callable[[MeasuredJob], object]] = {
    "the job": lambda job: job,
    "its rule at this network and batch size": lambda job: (job.rule, job.dataset, job.model, job.batch_size),
    "its rule at this network": lambda job: (job.rule, job.dataset, job.model),
    "its network": lambda job: (job.dataset, job.model),
}


def ratios(jobs: list[MeasuredJob], of: Callable[[MeasuredJob], object]) -> Iterator[tuple[MeasuredJob, float]]:
    """Predicted over true seconds of each job that can be predicted from those of which `of` says something else."""
    plan = RunPlan(config.default())
    for job in jobs:
        if job.units is None:
            continue
        estimator = Estimator(plan, own=[], kept=[each for each in jobs if of(each) != of(job)])
        run = Run(job.dataset, job.model, job.batch_size, seed=0)
        estimate = estimator.expected(job.rule, run, job.units)
        if estimate.basis != UNKNOWN:
            yield job, estimate.seconds / job.seconds


def main() -> None:
    """Print the table."""
    jobs = [job for job in times.kept(TABLE) if job.rule in RULES]
    print("| left out | jobs | median | 5 to 95 % | below 0.5 | sum |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, of in LEFT_OUT.items():
        found = list(ratios(jobs, of))
        values = [ratio for _, ratio in found]
        cuts = statistics.quantiles(values, n=20, method="inclusive")
        below = 100 * sum(ratio < 0.5 for ratio in values) / len(values)
        whole = sum(ratio * job.seconds for job, ratio in found) / sum(job.seconds for job, _ in found)
        middle = f"{statistics.median(values):.2f} | {cuts[0]:.2f} to {cuts[-1]:.2f}"
        print(f"| {what} | {len(values)} | {middle} | {below:.0f} % | {whole:.2f} |")


if __name__ == "__main__":
    main()
