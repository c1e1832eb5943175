"""What the rules over all runs derive from the configuration: inputs, captions and hashes of code."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fishertail.grid.plan import CHECKPOINTS, DATASET, METRICS, RUN, RUN_NAME, Inputs, RunPlan
from fishertail.measurements import measurement as measured
from fishertail.measurements.measurement import Measurement
from fishertail.paper import exhibits
from fishertail.results import archive
from fishertail.results.exhibits import EXPLORER, Figure, TableOfRuns
from fishertail.results.provenance import code_hash, file_hash
from fishertail.results.run import LANDMARKS, Run
from fishertail.results.schema import Table

__all__ = ["CHECKPOINTS", "DATASET", "FORMATS", "METRICS", "RUN", "RUN_NAME", "Plan", "captions"]

TABLES_AS_FIGURES = ("table1_machine",)  # which the page has as tables
FORMATS = ("csv", "parquet", "md", "tex")  # of tables over runs, besides HTML for the report


class Plan(RunPlan):
    """The workflow of one configuration."""

    def files_of(self, name: str, dataset: str | None = None) -> list[str]:
        """The files of a table of all runs, or of those of a data set; of a table over runs, its one file.

        There are none of a measurement that is disabled, or that is missing from all these runs since they are kept.
        """
        runs = [run for run in self.config.runs if dataset in (None, run.dataset)]
        if name == "metrics":
            return [f"{self.folder_of(run)}/{METRICS}" for run in runs]
        owner = next((each for each in self.measurements.values() if name in _names(each.tables)), None)
        if owner is None and name in measured.tables():
            return []
        if owner is None:
            made = any(name in _names(each.tables) for each in self.tables.values())
            return [f"<results>/tables/{name}.parquet"] if made else []
        table = next(table for table in owner.tables if table.name == name)
        return [path for run in runs for path in self.files_of_run(run, owner, table)]

    def measured_files(self) -> list[str]:
        """The files of all measurements of all runs, whether or not something over all runs needs them."""
        names = [table.name for each in self.measurements.values() for table in each.tables if table.kept]
        return [path for name in names for path in self.files_of(name)]

    def block_metrics(self) -> list[str]:
        """The metrics of all blocks of all runs, whose provenance says which machine trained."""
        return [path for run in self.config.runs for path in self._of_all_blocks(run, METRICS)]

    def inputs_of(self, needs: Iterable[str], provenance_of: Iterable[str] = ()) -> dict[str, list[str]]:
        """The files that a table over runs needs, by table."""
        found = {name: self.files_of(name) for name in needs if self._made([name])}
        for name in provenance_of:
            found[name] = self.block_metrics() if name == "block_metrics" else self.files_of(name)
        return found

    def figure_inputs(self, figure: Figure) -> Inputs:
        """The files that a figure needs, by table."""
        return lambda wildcards: {name: self.files_of(name, wildcards.get("dataset")) for name in figure.needs}

    def figure_files(self, figure: Figure, suffixes: Iterable[str] = ("svg", "pdf", "csv")) -> list[str]:
        """All files of a figure."""
        shown = [name for name in self.datasets if self._made(figure.needs, name)]
        stems = [figure.stem(name) for name in shown] if figure.by_dataset else [figure.name]
        return [f"<results>/figures/{stem}.{suffix}" for stem in stems for suffix in suffixes]

    def table_files(self, table: TableOfRuns) -> list[str]:
        """All files of tables over runs, but the HTML of the report."""
        return [f"<results>/tables/{each.name}.{suffix}" for each in table.tables for suffix in FORMATS]

    def settings(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of dotted keys."""
        return {key: self.config.setting(key) for key in keys}

    def page_inputs(self) -> dict[str, list[str]]:
        """The files that the page shows, by table, with `datasets` and `figures` among them."""
        panels = [each.panel.table for each in self.measurements.values() if each.panel is not None]
        names = dict.fromkeys(["metrics", *panels, *(name for name in EXPLORER if self._made([name]))])
        found = {name: self.files_of(name) for name in names}
        found |= {table.name: self.files_of(table.name) for each in self.tables.values() for table in each.tables}
        shown = [path for each in self.figures.values() for path in self.figure_files(each, ["svg"])]
        drawn = [path for path in shown if Path(path).stem not in TABLES_AS_FIGURES]
        return found | {"datasets": [DATASET.format(dataset=name) for name in self.datasets], "figures": drawn}

    def runs_so_far(self) -> list[dict[str, Any]]:
        """What each run will have, for the page of an unfinished grid: the arguments of `RunSoFar`."""
        measured = [(each, table) for each in self.measurements.values() for table in each.tables if table.kept]
        return [
            {
                "run": parameters,
                "folders": self._results(
                    [*([self.kept[run]] if run in self.kept else []), f"<results>/runs/{run.path}"]
                ),
                "epochs": self.config.epochs_of(run),
                "files": {table.name: self._results(self.files_of_run(run, each, table)) for each, table in measured},
            }
            for run, parameters in zip(self.config.runs, self.runs_parameters(), strict=True)
        ]

    def page_files_so_far(self) -> dict[str, list[str]]:
        """The files over runs that the page of an unfinished grid shows where they are there; see `page_inputs`."""
        own = [table.name for each in self.measurements.values() for table in each.tables]
        inputs = self.page_inputs()
        return {name: self._results(paths) for name, paths in inputs.items() if name not in ("metrics", *own)}

    def _results(self, paths: Iterable[str]) -> list[str]:
        """Paths as they are on disk: Snakemake fills in its path variables for inputs and outputs alone."""
        folder = self.config.pathvars.get("results", "results")
        return [path.replace("<results>", folder) for path in paths]

    def code_of_page(self) -> str:
        """The hash of what makes the page, and of the words and charts that it takes from registered objects."""
        words: list[tuple[str, ...]] = [(each.name, each.title, each.caption) for each in self.figures.values()]
        words += [(table.name, table.meaning) for each in self.tables.values() for table in each.tables]
        panels = [(name, each.panel) for name, each in self.measurements.items()]
        described = hashlib.sha256(repr((words, panels)).encode()).hexdigest()[:16]
        return f"{code_hash('execution.exhibits:make_page', 'data.dataset')} {described}"

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures for which all tables are made."""
        return {name: each for name, each in exhibits.figures().items() if self._made(each.needs)}

    @cached_property
    def tables(self) -> dict[str, TableOfRuns]:
        """The tables over runs for which all tables of runs are made, by rule."""
        made = {name: each for name, each in exhibits.tables().items() if self._made(each.needs)}
        others = {name: each for name, each in exhibits.tables().items() if name not in made}
        return made | {name: each for name, each in others.items() if each.partly and any(map(self._has, each.needs))}

    def missing(self) -> list[str]:
        """What kept runs lack, one line for each run, for the page: files not measured, or not kept, at that time."""
        lines = []
        for run, place in self.kept.items():
            names = [
                name
                for each in self.measurements.values()
                for table in each.tables
                for name in self._expected_of_kept(run, each, table)
                if table.kept and not archive.has(place, name)
            ]
            if names:
                lines.append(f"{run.path}, kept in {Path(place)}: without {', '.join(names)}")
        return lines

    def _expected_of_kept(self, run: Run, measurement: Measurement, table: Table) -> list[str]:
        """The files of a table that a kept run would have if it were computed today."""
        if measurement.scope in ("tables", "run"):
            return [] if self.made_from_kept(run, measurement) else [table.file]
        needs = self._needs(measurement) if measurement.scope == "pair" else [measurement]
        blocks = self._taken(self.kept_blocks(run), needs)
        landmarks = [f"{LANDMARKS}/{table.file}"] if measurement.scope == "gradients" else []
        return [f"{block.path}/{table.file}" for block in blocks] + landmarks

    def _made(self, needs: Iterable[str], dataset: str | None = None) -> bool:
        """Whether there are files of all these tables, of some run."""
        return all(self.files_of(name, dataset) for name in needs)

    def _has(self, name: str) -> bool:
        return name in measured.tables() and self._made([name])


def _names(tables: Iterable[Table]) -> set[str]:
    return {table.name for table in tables}


def code_of_figure(figure: Figure) -> list[str]:
    """The hashes of what draws a figure, and of the style."""
    own = f"{exhibits.module_of_figure(figure)}:{figure.draw.__name__}"
    return [code_hash(own, "execution.exhibits:draw"), file_hash("results/fishertail.mplstyle")]


def code_of_table(table: TableOfRuns) -> list[str]:
    """The hash of what makes tables over runs, and their columns."""
    own = f"{exhibits.module_of_table(table)}:{table.make.__name__}"
    return [code_hash(own, "execution.exhibits:tabulate", *table.code), *(each.form for each in table.tables)]


def captions(figures: Mapping[str, Figure], tables: Mapping[str, TableOfRuns], folder: Path) -> None:
    """Write the captions of Snakemake's report, which takes them from files.

    Args:
        folder: where each caption becomes a file NAME.rst.
    """
    shown = {each.rule: each.caption for each in figures.values()} | {n: each.caption for n, each in tables.items()}
    for name, caption in shown.items():
        path, text = folder / f"{name}.rst", caption.replace("|", "\\|") + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
