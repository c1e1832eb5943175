"""How much lambda_1 depends on the samples that it is computed from.

Is lambda_1 very sensitive to the number of data, as the paper says (sections 1 and 4.2)? It is computed of random
subsets of the training samples, and without samples that are left out at random, by abs(a_x), or by gradient norm. F =
1/n sum_x g_x g_x^T is then the mean over the n samples that stay, and its largest eigenvalue is re-solved, to the
tolerance of `spectrum`. Beside it stands the mean of their a_x^2, with V_1 of all samples kept, which costs nothing.
Subsets are drawn without replacement from (seed, draw), so that those of one draw are nested.

lambda_1 of a random share s scatters even if nothing is special about any sample: if a_x were Gaussian, with a relative
standard deviation of sqrt(2 (1 - s) / (s N)), which is sqrt(1.8 / (N / 10)) for a tenth. The figure shows that line. A
larger deviation says that few samples carry lambda_1, not which. lambda_1 of a subset is too large on average since V_1
is fitted to it, so the mean of the ratio is above 1 even for Gaussian gradients.

The layer takes 26 passes for `fc` after two epochs of 10,000 samples of MNIST, 19 of them for the samples left out, and
56 with random weights and labels, where no few samples carry lambda_1; with these, 4 for `conv`, whose layer is a small
part of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from fishertail.measurements.layer_choice import LAST_HIDDEN, LayerChoice
from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.exhibits import Drawing, Figure, Panel, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import NonNegativeInt, PositiveInt, Real
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fishertail.measurements.measurement import OpenCheckpoint

SUBSET, AT_RANDOM, BY_A_X, BY_NORM = "subset", "without at random", "without by a_x", "without by norm"
Share = Annotated[Real, Field(gt=0, lt=1)]


class SensitivityOptions(GradientOptions):
    """Off by default for its cost. The paper names no numbers; 20 tenths are what claim 6 is judged by."""

    enabled: bool = Field(False, description="whether it is computed at all")
    checkpoints: Schedule = Field("landmarks", description="at which checkpoints; see norms")
    layers: LayerChoice = Field(
        LAST_HIDDEN,
        description="layers for which it is computed: by default the one before the last, as in the figures",
    )
    shares: list[Share] = Field([0.01, 0.02, 0.05, 0.1, 0.2, 0.5], description="of the samples, in random subsets")
    draws: list[PositiveInt] = Field([5, 5, 5, 20, 5, 3], description="how many subsets of each share")
    left_out: list[Share] = Field(
        [0.01, 0.02, 0.05, 0.1, 0.2, 0.5], description="shares that are left out at random, by abs(a_x) and by norm"
    )
    seed: NonNegativeInt = Field(0, description="with the number of the draw it determines each subset")

    @model_validator(mode="after")
    def _draws_for_each_share(self) -> Self:
        if len(self.draws) != len(self.shares):
            raise ValueError(f"draws: one for each of {len(self.shares)} shares expected, found {len(self.draws)}")
        return self


@dataclass(frozen=True)
class Selection:
    """Some of the samples, and how they were chosen."""

    kind: str
    share: float
    draw: int
    keep: "NDArray[np.bool_]"  # (N,)


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """lambda_1 of every selection of samples, in every layer asked for that has a_x."""
    import numpy as np
    import pandas as pd

    from fishertail.fisher.eigenpairs import scopes_of, solve
    from fishertail.measurements.checkpoint import norms_of
    from fishertail.measurements.layer_choice import chosen

    norms, layers = norms_of(at), chosen(options["layers"], at.layers("projections"), at.matrix.layers)
    if not layers:
        known = ", ".join(at.layers("projections"))
        raise ValueError(f"layers: among those of spectrum ({known}) expected, found {options['layers']!r}")
    scopes = scopes_of(at.matrix, layers)
    by_sample = {name: at.tables[name].sort_values("sample") for name in ("norms", "projections")}
    squares = {layer: np.square(by_sample["projections"][layer].to_numpy(dtype=np.float64)) for layer in layers}
    rows = []
    for group in _groups(by_sample, layers, options):
        found = solve(
            at.matrix,
            {name: scopes[layer] for name, (layer, _) in group.items()},
            norms,
            rtol=options["spectrum"]["tolerance"],
            projected=0,
            keep={name: selection.keep for name, (_, selection) in group.items()},
            memory_budget=at.memory_budget,
        )
        for name, (layer, selection) in group.items():
            of_these = {"layer": layer, "kind": selection.kind, "share": selection.share, "draw": selection.draw}
            kept = float(squares[layer][selection.keep].mean())
            rows.append(
                {
                    **of_these,
                    "samples": int(selection.keep.sum()),
                    "lambda_1": float(found[name].eigenvalues[0]),
                    "lambda_1_kept": kept,
                }
            )
    table = pd.DataFrame(rows)
    everything = table["layer"].map({layer: float(squares[layer].mean()) for layer in layers})
    for column, ratio in (("lambda_1", "ratio"), ("lambda_1_kept", "ratio_kept")):
        table[ratio] = np.where(everything > 0, table[column] / everything.where(everything > 0), 1.0)
    return {"data_sensitivity": table, "subset_deviations": deviations(table, len(norms.loss))}


def deviations(table: "pd.DataFrame", samples: int) -> "pd.DataFrame":
    """How far lambda_1 of random subsets is from that of all samples: one row for each layer and share.

    Args:
        table: `data_sensitivity`, of one checkpoint.
        samples: N.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for (layer, share), draws in table[table["kind"] == SUBSET].groupby(["layer", "share"], sort=False):
        relative, n = draws["ratio"] - 1, int(draws["samples"].iloc[0])
        rows.append(
            {
                "layer": layer,
                "share": share,
                "samples": n,
                "draws": len(draws),
                "rms": float(np.sqrt(relative.pow(2).mean())),
                "bias": float(relative.mean()),
                "deviation": float(relative.std(ddof=0)),
                "gaussian": float(np.sqrt(2 * (1 / n - 1 / samples))),
            }
        )
    return pd.DataFrame(rows, columns=[column.name for column in DEVIATIONS.columns[2:]])


Group = dict[str, tuple[str, Selection]]  # the layer and the selection of each problem, by the name of its scope


def _groups(tables: "Mapping[str, pd.DataFrame]", layers: list[str], options: Mapping[str, Any]) -> Iterator[Group]:
    """Problems that are solved together.

    Each random subset is solved alone, so that the rows of no other sample are computed. Those with most of the samples
    share their sweeps.
    """
    samples = len(tables["norms"])
    for subset in _subsets(samples, options):
        yield {layer: (layer, subset) for layer in layers}
    left = [(layer, selection) for layer in layers for selection in _left_out(tables, layer, options)]
    if left:
        yield {f"{layer} {selection.kind} {selection.share}": (layer, selection) for layer, selection in left}


def _subsets(samples: int, options: Mapping[str, Any]) -> Iterator[Selection]:
    """The random subsets, each with one sample at least."""
    import numpy as np

    for share, draws in zip(options["shares"], options["draws"], strict=True):
        for draw in range(draws):
            keep = np.zeros(samples, dtype=bool)
            keep[_order(samples, options["seed"], draw)[: max(1, int(share * samples))]] = True
            yield Selection(SUBSET, share, draw, keep)


def _left_out(tables: "Mapping[str, pd.DataFrame]", layer: str, options: Mapping[str, Any]) -> Iterator[Selection]:
    """What stays when samples are left out."""
    import numpy as np

    from fishertail.statistics.trimming import trimmed

    samples = len(tables["norms"])
    ranks = {
        AT_RANDOM: np.argsort(_order(samples, options["seed"], 0)),
        BY_A_X: tables["projections"][layer].to_numpy(),
        BY_NORM: tables["norms"][layer].to_numpy(),
    }
    for share in options["left_out"]:
        for kind, rank in ranks.items():
            yield Selection(kind, share, 0, trimmed(rank, share))


def _order(samples: int, seed: int, draw: int) -> "NDArray[np.int64]":
    """The samples in the order in which a draw takes them."""
    import numpy as np

    return np.random.default_rng([seed, draw]).permutation(samples)


def draw_subsets(results: Results) -> Drawing:
    """The root mean square deviation by the share of the samples, at the lowest validation loss."""
    from fishertail.results.drawing import bands

    shown = results.at_minimum(results.of_layer("subset_deviations"))
    keys = ["dataset", "model", "batch_size", "share"]
    table = bands(shown, keys, "rms").merge(bands(shown, keys, "gaussian")[[*keys, "mean"]].rename(columns=GAUSSIAN))
    return _by_share(results, table, "rms deviation from lambda_1", "share of the samples", tuple(GAUSSIAN.values()))


def draw_left_out(results: Results) -> Drawing:
    """lambda_1 of the samples that stay by the share that is left out, at the lowest validation loss."""
    from fishertail.results.drawing import bands

    shown = results.at_minimum(results.of_layer("data_sensitivity"))
    shown = shown[shown["kind"] != SUBSET]
    keys = ["dataset", "model", "batch_size", "share"]
    table = bands(shown[shown["kind"] == BY_A_X], keys, "ratio")
    for kind in (BY_NORM, AT_RANDOM):
        of_kind = bands(shown[shown["kind"] == kind], keys, "ratio")[[*keys, "mean"]].rename(columns={"mean": kind})
        table = table.merge(of_kind)
    return _by_share(results, table, "lambda_1 of the rest / of all", "share left out", (BY_NORM, AT_RANDOM))


GAUSSIAN = {"mean": "Gaussian a_x"}


def _by_share(results: Results, table: "pd.DataFrame", value: str, share: str, thin: tuple[str, ...]) -> Drawing:
    """`mean` with its band by share, a panel for each data set and model; other columns as thin lines."""
    from fishertail.results.drawing import by_batch_size, colour_of, grid_of_panels, of_network, tidy

    figure, panels = grid_of_panels(table, sharey="row")
    for (dataset, model), axes in panels.items():
        for batch_size, curve in by_batch_size(of_network(table, dataset, model)):
            colour, line = colour_of(batch_size)
            axes.plot(
                curve["share"],
                curve["mean"],
                color=colour,
                linestyle=line,
                marker="o",
                label=f"batch size {batch_size}",
            )
            axes.fill_between(curve["share"], curve["lowest"], curve["highest"], color=colour, alpha=0.2, lw=0)
            for column, marker in zip(thin, ("x", "+"), strict=False):
                axes.plot(curve["share"], curve[column], color=colour, lw=0.6, marker=marker, label=column)
        axes.set(title=f"{results.title_of(dataset)}, {model}", xlabel=share, ylabel=value, xscale="log", yscale="log")
    tidy(figure, panels)
    return figure, table


DEVIATIONS = Table(
    name="subset_deviations",
    suffix="csv",
    meaning="how far lambda_1 of random subsets is from that of all samples",
    columns=(
        STEP,
        EPOCH,
        LAYER,
        Column("share", "share of the samples that are drawn"),
        Column("samples", "how many F is the mean of"),
        Column("draws", "number of subsets"),
        Column("rms", "root mean square of lambda_1(subset) / lambda_1 - 1: rms^2 = bias^2 + deviation^2"),
        Column("bias", "mean of lambda_1(subset) / lambda_1 - 1"),
        Column("deviation", "standard deviation of lambda_1(subset) / lambda_1 over the draws"),
        Column("gaussian", "standard deviation if a_x were Gaussian and V_1 kept: sqrt(2 (1 - share) / samples)"),
    ),
    keys=("step", "layer", "share"),
)
SUBSETS = Figure(
    name="subsets_of_data",
    title="lambda_1 of random subsets",
    caption=(
        "How far lambda_1 of a random share of the samples is from that of all, in the figure layer at the epoch of "
        "lowest validation loss: the root mean square over the draws of lambda_1(subset) / lambda_1 - 1, as the mean "
        "over the seeds with a band from the lowest to the highest. Crosses: a Gaussian a_x. Bears on claim 6."
    ),
    needs=("subset_deviations", "metrics"),
    draw=draw_subsets,
)
LEFT_OUT = Figure(
    name="data_left_out",
    title="lambda_1 without some of the samples",
    caption=(
        "lambda_1 of the samples that stay when a share is left out, re-solved, over lambda_1 of all, in the figure "
        "layer at the epoch of lowest validation loss. Dots: without those of largest |a_x|, the mean over the seeds "
        "with a band from the lowest to the highest; crosses: without those of largest norm; plus signs: without as "
        "many at random."
    ),
    needs=("data_sensitivity", "metrics"),
    draw=draw_left_out,
)
MEASUREMENT = Measurement(
    name="data_sensitivity",
    rule="data_sensitivity",
    question="How much does lambda_1 depend on the samples that it is computed from?",
    scope="gradients",
    measure=measure,
    options=SensitivityOptions,
    needs=("norms", "spectrum"),
    options_of=("spectrum",),
    passes=30.0,
    figures=(SUBSETS, LEFT_OUT),
    panel=Panel(
        "subset_deviations",
        "rms",
        "rms of lambda_1(tenth) / lambda_1 - 1",
        {"share": 0.1},
        scale="log",
        colour="#CC79A7",
    ),
    tables=(
        DEVIATIONS,
        Table(
            name="data_sensitivity",
            suffix="csv",
            meaning="lambda_1 of some of the samples",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("kind", f"{SUBSET}: `share` of the samples; {AT_RANDOM}, {BY_A_X}, {BY_NORM}: all others"),
                Column("share", "share of the samples that are drawn, or left out"),
                Column("draw", "number of the draw, from 0"),
                Column("samples", "how many F is the mean of"),
                Column("lambda_1", "largest eigenvalue of their F, re-solved"),
                Column("lambda_1_kept", "mean a_x^2 over them, with V_1 of all samples"),
                Column("ratio", "lambda_1 / lambda_1 of all samples; 1 where that is 0"),
                Column("ratio_kept", "lambda_1_kept / lambda_1 of all samples; 1 where that is 0"),
            ),
            keys=("step", "layer", "kind", "share", "draw"),
        ),
    ),
)
