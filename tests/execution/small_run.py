"""A small real run, trained and measured in its blocks by what the rules do."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import pandas as pd

from fishertail.data import dataset
from fishertail.data.dataset import Dataset
from fishertail.execution import steps
from fishertail.execution.job import Job
from fishertail.grid import config
from fishertail.measurements.measurement import measurements, options_given
from fishertail.results import storage
from fishertail.training.schedule import Selection

STEPS = 2  # of an epoch: 120 samples at batch size 60
BLOCKS = [[0, 1, 2], [3, 4]]
GRID = config.complete()(
    datasets=["digits"], models=["fc"], batch_sizes=[60], seeds=[0], architectures={"fc": {"hidden_widths": [8] * 4}}
)
RUN = GRID.parameters_of(GRID.runs[0])


def job(**parameters) -> Job:
    return Job("rule", {"run": RUN} | parameters, 1, "cpu", 1e9, 0, 1)


def options(name: str) -> dict:
    return {"measurement": name, "options": options_given(measurements()[name], GRID.all_options)}


def outputs(name: str, folder: Path) -> dict[str, str]:
    return {table.name: str(folder / table.file) for table in measurements()[name].tables}


class Files:
    """The files of a run whose blocks are trained, and measured in their blocks."""

    def __init__(self, place: Path, data: Path) -> None:
        self.place, self.data = place, str(data)
        self.checkpoints: list[str] = []
        for number, epochs in enumerate(BLOCKS):
            self.train(number, epochs)
            for name in ("norms", "spectrum"):
                self.measure(name, number, epochs)
        metrics = [str(place / f"block{number}/metrics.csv") for number in range(len(BLOCKS))]
        self.metrics = str(place / "metrics.csv")
        steps.put_metrics_together(job(blocks=BLOCKS), metrics, {"metrics": self.metrics})

    @classmethod
    def new(cls, place: Path, digits: Dataset) -> Self:
        """The run on 120 of the digits, its files at `place`."""
        small = replace(digits, train_images=digits.train_images[:120], train_labels=digits.train_labels[:120])
        dataset.write(small, place / "digits.safetensors", {"data": [small.content_hash]})
        return cls(place, place / "digits.safetensors")

    def train(self, number: int, epochs: list[int]) -> None:
        made = {name: str(self.place / f"block{number}/{name}") for name in ("checkpoints.safetensors", "metrics.csv")}
        previous = self.checkpoints[-1:]
        steps.train(
            job(epochs=epochs, octaves=number == 0),
            {"dataset": self.data, "previous": previous},
            {"checkpoints": made["checkpoints.safetensors"], "metrics": made["metrics.csv"]},
        )
        self.checkpoints.append(made["checkpoints.safetensors"])

    def measure(self, name: str, number: int, epochs: list[int]) -> None:
        """Norms at all checkpoints of a block, the spectrum at the first of its epochs alone."""
        selection = Selection(tuple(epochs if name == "norms" else epochs[:1]), octaves=name == "norms")
        folder = self.place / f"block{number}"
        files = {"dataset": self.data, "checkpoints": self.checkpoints[number], "norms": str(folder / "norms.parquet")}
        this = job(epochs=epochs, checkpoints=asdict(selection), **options(name))
        steps.measure_block(this, files, outputs(name, folder))

    def landmarks(self, name: str) -> pd.DataFrame:
        """A measurement at the landmarks; those of which nothing is known must have weights."""
        folder = self.place / "landmarks"
        tables = measurements()[name].tables
        made = {t.name: [self.place / f"block{number}" / t.file for number in (0, 1)] for t in tables}
        own = {f"own_{name}": [str(path) for path in paths if path.exists()] for name, paths in made.items()}
        needed = {
            t.name: str(folder / t.file) for need in measurements()[name].needs for t in measurements()[need].tables
        }
        files = {"dataset": self.data, "metrics": self.metrics, "checkpoints": self.checkpoints} | own | needed
        steps.measure_landmarks(job(blocks=BLOCKS, **options(name)), files, outputs(name, folder))
        return storage.read_table(folder / tables[0].file)
