"""The scores of each training sample over a whole run, and how long it stays an outlier.

Which samples are hard, and do they stay hard? For each sample: GraNd, the norm of its gradient in the network, and
EL2N, the error of its output (Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075); its loss; and abs(a_x). Each is the
mean over early checkpoints: those of the first tenth of the run, from the end of the first epoch on. The paper computes
the scores a few epochs into training and averages over initial weights; means over the seeds are taken where runs are
shown. Its GraNd before training did not reproduce, while EL2N at epoch 20 did (Kirsch 2023, arXiv 2303.14753), so that
step 0 is left out. When the gradient norm is an outlier, by `outliers`, is counted over all checkpoints.

High scores do not tell wrong labels from rare or hard samples. How many wrong labels each of them finds where the truth
is known is measured in docs/how-to/mislabelled-images.md, beside the plain loss.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.measurements.norms import LABEL
from fishertail.results.exhibits import Drawing, Figure, Results
from fishertail.results.schema import SAMPLE, Column, Table
from fishertail.settings import Real

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import RunTables


class SamplesOptions(Options):
    """Off by default, since it takes `sample_scores`, which are."""

    enabled: bool = Field(False, description="whether it is computed at all")
    early: Real = Field(
        0.1,
        gt=0,
        le=1,
        description="first share of the training whose checkpoints count for the scores; our choice",
    )
    layer: str = Field("network", description="whose gradient norms and a_x count")


def measure(at: "RunTables", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """One row per sample."""
    from fishertail.statistics import samples

    norms, layer = at.tables["norms"], options["layer"]
    if norms.empty:
        return {"samples": TABLE.empty()}
    checkpoints = norms.drop_duplicates("step").sort_values("step")
    early = samples.early_steps(list(checkpoints["step"]), list(checkpoints["epoch"]), options["early"])
    history = samples.outlier_history(samples.by_step(norms, layer), **options["outliers"])
    found = norms.drop_duplicates("sample").set_index("sample")[["label"]].sort_index()
    for name, table in samples.SCORES.items():
        known = name != "a_x" or layer in at.tables[table]
        found[name] = samples.mean_score(samples.score(name, at.tables, layer), early) if known else float("nan")
    return {"samples": found.join(history).reset_index().astype({"sample": "int32"})}


def draw_stretches(results: Results) -> Drawing:
    """The share of the samples that stay outliers for so many epochs or more."""
    import pandas as pd

    from fishertail.results.drawing import bands, by_batch_size, colour_of, grid_of_panels, of_network, tidy
    from fishertail.results.schema import RUN
    from fishertail.statistics.samples import steps_of_an_epoch

    per_epoch = {run: steps_of_an_epoch(part) for run, part in results["metrics"].groupby(RUN, sort=False)}
    epochs = {
        run: part["longest_stretch"].where(part["first_outlier"] >= 0, -1) / per_epoch[run]
        for run, part in results["samples"].groupby(RUN, sort=False)
    }
    times = sorted({time for each in epochs.values() for time in each.unique() if time >= 0})
    rows = [(*run, time, (each >= time).mean()) for run, each in epochs.items() for time in times]
    shown = bands(pd.DataFrame(rows, columns=[*RUN, "epochs", "share"]), [*RUN[:3], "epochs"], "share")
    figure, panels = grid_of_panels(pd.DataFrame(list(epochs), columns=RUN), sharey="row")
    for (dataset, model), axes in panels.items():
        for batch_size, curve in by_batch_size(of_network(shown, dataset, model)):
            colour, line = colour_of(batch_size)
            axes.step(curve["epochs"], curve["mean"], color=colour, linestyle=line, label=f"batch size {batch_size}")
            low, high = curve["lowest"], curve["highest"]
            axes.fill_between(curve["epochs"], low, high, step="pre", color=colour, alpha=0.2, lw=0)
        axes.set(
            title=f"{results.title_of(dataset)}, {model}",
            xlabel="epochs or more as an outlier",
            ylabel="share of samples",
        )
    tidy(figure, panels)
    return figure, shown


def draw_agreement(results: Results) -> Drawing:
    """Spearman's rank correlation between scores, each the mean over the seeds."""
    import pandas as pd

    from fishertail.results.drawing import NETWORK, nothing, table_figure
    from fishertail.statistics.samples import SCORES, mean_over_seeds

    rows = []
    for network, part in results["samples"].groupby(NETWORK, sort=False):
        correlations = mean_over_seeds(part)[list(SCORES)].corr(method="spearman")
        first, *others = SCORES
        pairs = {f"{first} and {other}": correlations.loc[first, other] for other in others}
        pairs["el2n and loss"] = correlations.loc["el2n", "loss"]
        rows.append({**dict(zip(NETWORK, network, strict=True)), "seeds": part["seed"].nunique(), **pairs})
    if not rows:
        return nothing("No sample has scores."), pd.DataFrame(columns=[*NETWORK, "seeds"])
    return table_figure(pd.DataFrame(rows))


TABLE = Table(
    name="samples",
    suffix="parquet",
    meaning="the scores of each training sample over the run",
    columns=(
        SAMPLE,
        LABEL,
        Column("grand", "GraNd: norm of the gradient, mean over early checkpoints"),
        Column("el2n", "EL2N: error of the output, mean over early checkpoints"),
        Column("loss", "cross entropy, mean over early checkpoints"),
        Column("a_x", "abs(a_x), mean over early checkpoints, or all that have it if none of these has"),
        Column("outlier_checkpoints", "number of checkpoints at which its norm is an outlier"),
        Column("outlier_share", "share of the checkpoints at which it is"),
        Column("first_outlier", "step of the first of these; -1 for never"),
        Column("longest_stretch", "most steps from one checkpoint to another through which it is an outlier at each"),
    ),
    keys=("sample",),
    kept=False,
)
STRETCHES = Figure(
    name="outlier_stretches",
    title="How long samples stay outliers",
    caption=(
        "The share of the training samples whose gradient norm is an outlier through so many epochs or more, at every "
        "checkpoint in between: the mean over the seeds, with a band from the lowest to the highest."
    ),
    needs=("samples", "metrics"),
    draw=draw_stretches,
)
AGREEMENT = Figure(
    name="scores_of_samples",
    title="How alike the scores of samples are",
    caption=(
        "Spearman's rank correlation between the scores of the training samples early in training, each the mean over "
        "the seeds: GraNd (gradient norm), EL2N (error of the output), the loss, and |a_x|."
    ),
    needs=("samples",),
    draw=draw_agreement,
)
MEASUREMENT = Measurement(
    name="samples",
    rule="samples",
    question="Which training samples are hard, and how long do they stay outliers?",
    scope="run",
    measure=measure,
    options=SamplesOptions,
    needs=("norms", "spectrum", "sample_scores"),
    options_of=("outliers",),
    figures=(STRETCHES, AGREEMENT),
    tables=(TABLE,),
)
