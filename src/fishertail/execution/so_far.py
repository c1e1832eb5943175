"""The page of a grid that is not finished: what is there, whichever jobs have ended, and what is still to come."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fishertail.data.source import built_in
from fishertail.results import storage
from fishertail.results.exhibits import Results
from fishertail.results.run import Run
from fishertail.results.schema import RUN, joined


@dataclass(frozen=True)
class RunSoFar:
    """What of a run is there.

    Attributes:
        run: the columns of RUN and its figure layer.
        folders: where its files are: the kept ones first.
        epochs: how many it is to be trained for.
        files: all files that it will have, by table.
    """

    run: Mapping[str, Any]
    folders: Sequence[str]
    epochs: int
    files: Mapping[str, Sequence[str]]

    def to_come(self, trained: float | None) -> str | None:
        """What is not there yet, in a line; None where nothing is missing.

        Args:
            trained: the last epoch that has metrics; None where there is none.
        """
        there = {name: sum(Path(path).is_file() for path in paths) for name, paths in self.files.items()}
        lacking = [name for name, paths in self.files.items() if there[name] < len(paths)]
        if trained is None and not any(there.values()):
            return f"{Run.of(self.run).path}: not begun"
        done = trained is not None and trained >= self.epochs
        if done and not lacking:
            return None
        state = "trained" if done else f"epoch {trained or 0:g} of {self.epochs}"
        counts = [f"{name} {there[name]} of {len(self.files[name])}" for name in lacking]
        return f"{Run.of(self.run).path}: {state}" + (f"; files so far: {', '.join(counts)}" if counts else "")


def make_page(
    runs: Iterable[RunSoFar],
    files: Mapping[str, Sequence[str]],
    path: str,
    *,
    settings: Mapping[str, Any],
    configuration: str,
) -> None:
    """Write the page of what is there.

    Args:
        runs: of the grid.
        files: paths of the page's other inputs, of which some may not exist: by the name of a table over runs, its one
            file, and with the keys `datasets` and `figures`.
        path: of the page.
        settings, configuration: see `fishertail.page.render`.
    """
    from fishertail.data import dataset
    from fishertail.measurements.measurement import measurements
    from fishertail.page import folder, instruments, render

    parts: dict[str, list[Any]] = {}
    lines, notes, known, planned = [], [], [], 0
    for each in runs:
        planned += 1
        found = folder.read(*map(Path, each.folders))
        metrics = found.tables.get("metrics")
        lines.append(each.to_come(None if metrics is None else metrics["epoch"].max()))
        notes += found.notes
        known += [each.run] if found.tables else []
        for name, table in found.tables.items():
            parts.setdefault(name, []).append(table.assign(**{key: each.run[key] for key in RUN}))
    there = {name: [each for each in paths if Path(each).is_file()] for name, paths in files.items()}
    over_runs = {
        name: storage.read_table(paths[0])
        for name, paths in there.items()
        if paths and name not in ("datasets", "figures")
    }
    tables = {name: joined(each) for name, each in parts.items()} | over_runs
    titles = {name: each.title for name, each in built_in().items()}
    text = render.Text(
        missing=notes,
        missing_heading="Not shown:",
        to_come=[line for line in lines if line is not None],
        planned=planned,
        configuration=configuration,
    )
    html = render.render(
        Results(known, tables, settings, None, titles),
        instruments.all_instruments(measurements(), tables),
        text,
        figures=there["figures"],
        datasets=[dataset.read(each) for each in there["datasets"]],
    )
    storage.write_text(html, path)
