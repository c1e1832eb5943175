"""Tables over all runs of the grid, put together from those of each run."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from fishertail import storage
from fishertail.metrics import lowest_validation_loss

RUN = ["dataset", "model", "batch_size", "seed"]


def collect(paths: Sequence[str], runs: Sequence[Mapping], *, layer: str | None = None) -> pd.DataFrame:
    """The tables at `paths`, one a run, below each other, with the columns of the run in front.

    Args:
        runs: for each path dataset, model, batch_size, seed and figure_layer.
        layer: keep the rows of this layer; "figure" for the run's figure layer.
    """
    parts = []
    for path, run in zip(paths, runs, strict=True):
        frame = storage.read_table(path)
        if layer is not None:
            frame = frame[frame["layer"] == (run["figure_layer"] if layer == "figure" else layer)]
        for position, column in enumerate(RUN):
            frame.insert(position, column, run[column])
        parts.append(frame)
    # a table without rows, of a block without spectra, has no types, and would take them from the others
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def spectra(files, runs: Sequence[Mapping], runs_of_blocks: Sequence[Mapping], *, layer: str | None = None):
    """The spectra of all blocks and of the epochs of lowest validation loss, each epoch once.

    Args:
        files: with the paths `spectra` (of blocks) and `at_minimum`.
        runs: of `at_minimum`.
        runs_of_blocks: of `spectra`.
        layer: see `collect`.
    """
    parts = [collect(files.spectra, runs_of_blocks, layer=layer), collect(files.at_minimum, runs, layer=layer)]
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return table.drop_duplicates([*RUN, "epoch", "layer", "rank"])


def of_the_claims(files, runs: Sequence[Mapping], runs_of_blocks: Sequence[Mapping]) -> dict[str, pd.DataFrame]:
    """The tables that `fishertail.claims.Results` holds.

    Args:
        files: with paths by name: metrics, spectra, at_minimum, ax, trimmed, outliers.
        runs: of each path; runs_of_blocks: of those of `spectra`.
    """
    return {
        "metrics": collect(files.metrics, runs),
        "spectrum": spectra(files, runs, runs_of_blocks, layer="figure"),
        "ax": collect(files.ax, runs, layer="figure"),
        "trimmed": collect(files.trimmed, runs, layer="figure"),
        "outliers": collect(files.outliers, runs, layer="network"),
    }


def of_the_page(files, runs: Sequence[Mapping], runs_of_blocks: Sequence[Mapping]) -> dict[str, pd.DataFrame]:
    """The tables that `fishertail.page.data.explorer_data` takes.

    Args:
        files: with paths by name: metrics, spectra, at_minimum, histograms (of runs, and at the minimum), outliers,
            samples.
        runs: of each path; runs_of_blocks: of those of `spectra`.
    """
    histograms = [collect(paths, runs) for paths in (files.histograms, files.histograms_at_minimum)]
    return {
        "metrics": collect(files.metrics, runs),
        "spectrum": spectra(files, runs, runs_of_blocks),
        "histograms": pd.concat([part for part in histograms if len(part)], ignore_index=True),
        "outliers": collect(files.outliers, runs),
        "samples": collect(files.samples, runs),
    }


def minima(metrics: pd.DataFrame) -> pd.DataFrame:
    """The epoch of lowest validation loss of each run.

    Returns:
        columns of the run, epoch, validation_loss, validation_accuracy, minimum ("reached", or "not reached: extend
        epochs" where it is the last epoch).
    """
    rows = []
    for run, part in metrics.groupby(RUN, sort=False):
        lowest = lowest_validation_loss(part)
        accuracy = part.loc[part["epoch"] == lowest.epoch, "validation_accuracy"].item()
        rows.append([*run, lowest.epoch, lowest.validation_loss, accuracy, lowest.status])
    return pd.DataFrame(rows, columns=[*RUN, "epoch", "validation_loss", "validation_accuracy", "minimum"])


def run_summary(
    metrics: pd.DataFrame, spectrum: pd.DataFrame, at_minimum: pd.DataFrame, outliers: pd.DataFrame
) -> pd.DataFrame:
    """A row a run: its epoch of lowest validation loss, and what holds there.

    Args:
        metrics: of all epochs.
        spectrum: of all epochs and layers, to count the eigenpairs that did not converge.
        at_minimum: the spectrum of the figure layer at the epoch of lowest validation loss.
        outliers: of the network, at all epochs.
    """
    summary = minima(metrics).rename(columns={"epoch": "epoch_of_minimum"})
    summary.insert(len(RUN), "epochs", metrics.groupby(RUN, sort=False)["epoch"].max().to_numpy())
    first = at_minimum[at_minimum["rank"] == 1].set_index(RUN)
    counts = outliers.merge(summary, left_on=[*RUN, "epoch"], right_on=[*RUN, "epoch_of_minimum"]).set_index(RUN)
    failed = (~spectrum.set_index(RUN)["converged"]).groupby(RUN).sum() if len(spectrum) else None
    index = pd.MultiIndex.from_frame(summary[RUN])
    return summary.assign(
        lambda_1=first["eigenvalue"].reindex(index).to_numpy(),
        outliers=counts["outliers_distance"].reindex(index).to_numpy(),
        not_converged=0 if failed is None else failed.reindex(index, fill_value=0).to_numpy(),
    )


def figure_6(trimmed: pd.DataFrame, layers: Mapping[str, str]) -> pd.DataFrame:
    """The table of Fig. 6: A, B and decreases in each model's figure layer, means over the seeds.

    Args:
        trimmed: of all runs and layers, with the column minimum.
        layers: the figure layer of each model.
    """
    shown = trimmed[trimmed["layer"] == trimmed["model"].map(layers)]
    keys = ["dataset", "model", "layer", "batch_size"]
    values = ["A", "B", "decrease_percent", "B_anew", "decrease_anew_percent"]
    grouped = shown.groupby(keys, sort=False)
    table = grouped[values].mean()
    passed = grouped["minimum"].agg(lambda column: f"{(column == 'reached').sum()} of {len(column)}")
    return table.assign(minimum_passed=passed).reset_index()


def machine_table(paths: Iterable[str]) -> pd.DataFrame:
    """Table 1: hardware and software of the machines that made the files at `paths`, a row a fact.

    Returns:
        columns item and value; where machines differ, their values are separated by semicolons.
    """
    records = [storage.read_provenance(path) for path in paths]
    titles = {
        "cpu": "CPU",
        "cores": "cores",
        "memory_gib": "memory (GiB)",
        "gpu": "GPU",
        "cuda": "CUDA",
        "device": "computed on",
        "threads": "threads a job",
        "os": "operating system",
    }
    facts = [(title, [record.get("machine", {}).get(key) for record in records]) for key, title in titles.items()]
    packages = dict.fromkeys(name for record in records for name in record["versions"])
    facts += [(name, [record["versions"].get(name) for record in records]) for name in packages]
    rows = [(title, "; ".join(dict.fromkeys(str(v) for v in values if v is not None))) for title, values in facts]
    return pd.DataFrame([row for row in rows if row[1]], columns=["item", "value"])
