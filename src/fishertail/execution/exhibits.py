"""What the rules over all runs do: draw a figure, write tables, and make the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from fishertail.data.source import built_in
from fishertail.execution.job import Job
from fishertail.measurements import collect
from fishertail.paper import exhibits
from fishertail.results import formats, provenance, storage
from fishertail.results.exhibits import Results

Files = Mapping[str, Sequence[str]]  # paths by the name of the table


def results(job: Job, files: Files, dataset: str | None = None) -> Results:
    """The tables of all runs that an exhibit needs."""
    runs = job.parameters["runs"]
    titles = {name: known.title for name, known in built_in().items()}
    return Results(runs, collect.read(files, runs), job.parameters["settings"], dataset, titles)


def draw(job: Job, files: Files, outputs: Mapping[str, str]) -> None:
    """Draw a figure and write it as SVG and PDF, with its table as CSV."""
    from fishertail.results import drawing

    figure = next(each for each in exhibits.figures().values() if each.rule == job.parameters["figure"])
    shown = results(job, files, job.parameters.get("dataset"))
    drawing.write(figure.draw, outputs, job.provenance(_data(files)), shown)


def tabulate(job: Job, files: Files, outputs: Sequence[str]) -> None:
    """Write tables over runs in all formats."""
    exhibit = exhibits.tables()[job.parameters["table"]]
    arguments: list[Any] = [results(job, {name: files[name] for name in exhibit.needs if name in files}, None)]
    if exhibit.provenance_of:
        paths = [path for name in exhibit.provenance_of for path in files[name]]
        arguments.append([storage.read_provenance(path) for path in paths])
    made = exhibit.make(*arguments)
    for table in exhibit.tables:
        table.check(made[table.name], table.name)
    formats.write_tables(made, outputs, job.provenance(_data(files)))


def make_page(job: Job, files: Files, path: str) -> None:
    """Write the page."""
    from fishertail.data import dataset
    from fishertail.measurements.measurement import measurements
    from fishertail.page import instruments, render

    sets = [dataset.read(each) for each in files["datasets"]]
    tables = {name: paths for name, paths in files.items() if name not in ("datasets", "figures")}
    shown = results(job, tables)
    panels = {name: each for name, each in measurements().items() if each.panel and each.panel.table in tables}
    text = render.Text(
        lead=f"{render.QUESTION} {render.networks(shown)}",
        missing=job.parameters["missing"],
        configuration=job.parameters["configuration"],
    )
    made = instruments.all_instruments(panels, shown.tables)
    storage.write_text(render.render(shown, made, text, figures=files["figures"], datasets=sets), path)


def _data(files: Files) -> list[str]:
    return provenance.data_of(
        path for paths in files.values() for path in ([paths] if isinstance(paths, str) else paths)
    )
