"""The parts of `make gpu` that measure; a measurement that is known is not made again, so that each goes on."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil

from benchmarks import gpu, problems, run

MODELS = ["fc", "conv"]
ROUNDS = 3  # of the training loops; the median counts
BATCH_SIZE = 16  # at which a step is so short that the loop around it shows
LIMIT = 150  # seconds of a measurement, of which a call has time for several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--folder", type=Path, default=gpu.FOLDER)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    about = gpu.stamp(gpu.gpu_name() or options.device)
    run.run = remembered(run.run, options.folder / "measurements.jsonl", about)
    PARTS[options.part](options)


def checkpoints(options: argparse.Namespace) -> None:
    """The networks that are measured on."""
    for model in MODELS:
        problems.train(model, run.EPOCHS[model], options.data_dir, options.device)
    for model in run.networks_of_other_widths(MODELS):
        problems.train(model, [problems.WIDTHS_EPOCH], options.data_dir, options.device)
    print("all networks are trained")


def training(options: argparse.Namespace) -> None:
    """An epoch of fishertail's loop beside an eager one that does nothing else, and the one that most would write."""
    options.threads, options.limit = psutil.cpu_count(logical=False), LIMIT
    chosen = [task for task in run.tasks(MODELS) if task["kind"] == "training" and task["batch_size"] == BATCH_SIZE]
    rows = [task | run.run(task | {"round": number}, options) for number in range(ROUNDS) for task in chosen]
    table = pd.DataFrame(rows).groupby(["model", "method"], sort=False)["seconds"].agg(["median", "min", "max"])
    table.to_csv(options.folder / "training.csv")
    print(table.to_string())
    for model in MODELS:
        ratio = table.loc[(model, "fishertail"), "median"] / table.loc[(model, "bare loop"), "median"]
        print(f"{model} at {BATCH_SIZE}: fishertail takes {ratio:.2f} times the bare loop", end="; ")
    print()


def bench(options: argparse.Namespace) -> None:
    """`make bench` on the device."""
    run.RESULTS = options.folder / "bench"
    arguments = ["--device", options.device, "--data-dir", str(options.data_dir), "--limit", str(LIMIT)]
    sys.argv = ["benchmarks.run", *arguments, "--models", *MODELS]
    run.main()


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "checkpoints": checkpoints,
    "training": training,
    "bench": bench,
}


def remembered(measure: Callable, file: Path, about: str) -> Callable:
    """`measure(task, options)` that looks up first what a file has of the same task, options and `about`."""
    known = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        if line.endswith("}"):  # a killed process leaves half a line
            entry = json.loads(line)
            known[entry["key"]] = entry["figures"]

    def measured(task: dict, options: argparse.Namespace) -> dict:
        where = [str(getattr(options, name, None)) for name in ("device", "threads", "limit")]
        key = json.dumps([about, *where, task], sort_keys=True, default=str)
        if key not in known:
            known[key] = measure(task, options)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as out:
                out.write("\n" + json.dumps({"key": key, "figures": known[key]}))
        return known[key]

    return measured


if __name__ == "__main__":
    main()
