"""The page: everything in one HTML file."""

from fishertail import storage, tables
from fishertail.data import dataset
from fishertail.jobs import job
from fishertail.page import data, render

with job(snakemake):
    files, options, sets = snakemake.input, snakemake.params, list(map(dataset.read, snakemake.input.datasets))
    results = tables.of_the_page(files, options.runs, options.runs_of_blocks)
    explorer = data.explorer_data(results, options.runs, sets, options.reading)
    shown = {title: storage.read_table(files[name]) for title, name in options.tables.items()}
    parts = {name: storage.read_table(files[name]) for name in ("claims", "effects", "stopping_summary")}
    page = {"explorer": explorer, "figures": files.figures, "tables": shown, "datasets": sets}
    storage.write_text(render.render(**parts, **page, configuration=options.configuration), snakemake.output[0])
