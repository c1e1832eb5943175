"""What each measurement costs at a checkpoint: `make bench-measurements`, or python -m benchmarks.measurements --help.

The unit is the best plain pass over the same samples, timed before and after each measurement in the same process. A
measurement is given the tables that it needs, so that only its own cost counts.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from benchmarks import passes, problems
from benchmarks.passes import Clock
from benchmarks.problems import Problem
from fishertail.execution import measuring
from fishertail.execution.workers import prepare_process
from fishertail.measurements.measurement import Measurement, measurements, options_given

EPOCHS = {"fc": 1, "conv": 1}
SAMPLES = {"fc": 10_000, "conv": 2_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", default="data", help="where MNIST and CIFAR-10 lie")
    parser.add_argument("--networks", nargs="+", default=list(SAMPLES), choices=list(SAMPLES))
    parser.add_argument("--samples", type=int, help="instead of 10,000 of MNIST and 2,000 of CIFAR-10")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement; the median counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="with one, CPU seconds count; else those of the wall")
    options = parser.parse_args()
    prepare_process(options.threads)
    clock = Clock(options.device, options.threads)
    columns = {"declared": {each.name: each.passes for each in _of_gradients()}}
    for name in options.networks:
        samples = options.samples or SAMPLES[name]
        problems.train(name, [EPOCHS[name]], options.data_dir, options.device)
        problem = problems.load(name, EPOCHS[name], samples, options.data_dir, options.device)
        columns[f"{name}, N = {samples:,}"] = costs(problem, clock, options.repeats)
    print(pd.DataFrame(columns).round(2).to_markdown())


def costs(problem: Problem, clock: Clock, repeats: int) -> dict[str, float]:
    """The cost of every measurement of gradients, in passes, by name."""
    how, _ = passes.best_pass(problem, clock)
    plain = passes.in_format(problem, how.channels_last)
    found: dict[str, object] = {}
    costs = {}
    for each in _of_gradients():
        few = replace(problem, images=problem.images[:200], labels=problem.labels[:200])
        measured(each, few, {table: _first(found[table], 200) for table in _needed(each)})  # warms it up
        ratios = []
        for _ in range(repeats):
            before = clock.seconds(lambda: passes.one_pass(plain, how.batch_size))
            seconds, tables = clock.timed(partial(measured, each, problem, found))
            after = clock.seconds(lambda: passes.one_pass(plain, how.batch_size))
            ratios.append(2 * seconds / (before + after))
        found |= tables
        costs[each.name] = float(np.median(ratios))
        print(f"{each.name}: {costs[each.name]:.2f} passes ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return costs


def measured(measurement: Measurement, problem: Problem, found: dict[str, object]) -> dict[str, object]:
    """The tables of a measurement, with its options' defaults."""
    options = {name: each.options() for name, each in measurements().items()}
    needed = {name: found[name] for name in _needed(measurement)}
    return measuring.by_gradients(
        measurement,
        options_given(measurement, options),
        {0: problem.model.state_dict()},
        model=problem.copied_model(),
        samples=(problem.images, problem.labels),
        tables={name: table for name, table in needed.items() if isinstance(table, pd.DataFrame)},
        tensors={name: needed[name] for name in measurement.tensors},
        per_epoch=1,
        device=str(problem.images.device),
    )


def _of_gradients() -> list[Measurement]:
    return [each for each in measurements().values() if each.scope == "gradients"]


def _needed(measurement: Measurement) -> list[str]:
    return [table.name for need in measurement.needs for table in measurements()[need].tables]


def _first(table: object, count: int) -> object:
    """The rows of the first samples, where there is one for each."""
    return table[table["sample"] < count] if isinstance(table, pd.DataFrame) and "sample" in table else table


if __name__ == "__main__":
    main()
