"""Made-up tables of eight runs, two of each network, of which the answers are known."""

import numpy as np
import pandas as pd

from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from fishertail.statistics.ax import bin_edges, sizes
from fishertail.statistics.ax import histogram as counts_of

RUNS = [("mnist", model, batch_size, seed) for model in ("fc", "conv") for batch_size in (16, 256) for seed in (0, 1)]
EDGES = bin_edges()
STEPS = 10  # of an epoch
LAYERS = {"fc": "fc4", "conv": "fc2"}
SETTINGS = {"measurements.outliers.reading": "distance", "measurements.ax_statistics.near_zero": 0.1}


def at(*epochs):
    return {"step": [int(STEPS * epoch) for epoch in epochs], "epoch": [float(epoch) for epoch in epochs]}


def by_run(rows):
    parts = [
        pd.DataFrame(rows(*run)).assign(dataset=run[0], model=run[1], batch_size=run[2], seed=run[3]) for run in RUNS
    ]
    return pd.concat(parts, ignore_index=True)


METRICS = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "validation_accuracy": np.linspace(0.1, 0.9, 5) - 0.1 * s,
        "validation_loss": [2.3, 1.0, 0.5 + s, 0.7 + s, 0.9 + s],
        "train_accuracy": np.linspace(0.1, 1, 5),
        "train_loss": [2.3, 1.0, 0.5, 0.2, 0.1],
    }
)
OUTLIERS = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "layer": "network",
        "outliers_distance": np.arange(5) * b + s,
        "outliers_norm": 9,
        "samples": 5000,
    }
)
LAYERS_TABLE = by_run(
    lambda d, m, b, s: pd.concat(
        [
            pd.DataFrame({**at(0, 1, 2, 4), "layer": layer, "depth": depth})
            for depth, layer in enumerate(("first", LAYERS[m]), 1)
        ]
    ).assign(lambda_1=[1.0, 20, 3, 0.1, 0, 30, 4, 0.2], near_zero_share=0.3, outlier_share=0.1, decrease_percent=70.0)
)
NOISE = by_run(lambda d, m, b, s: {**at(*range(5)), "layer": LAYERS[m], "noise_scale": [1.0, 5, 20 + s, 300, 5000]})
ALIGNMENT = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "layer": "network",
        "leading_share": [np.nan, 0.2, 0.1, 0.01 + 0.01 * s, 0.001],
    }
)
EIGENVALUES = by_run(lambda d, m, b, s: {**at(0, 2), "layer": "network", "rate": [1.0, 5.0 + s]})
HESSIAN = by_run(
    lambda d, m, b, s: {**at(0, 2), "layer": "network", "rank": 1, "rate_times_eigenvalue": [0.5, 1.5 + s]}
)
TRUE_FISHER = by_run(lambda d, m, b, s: {**at(1, 2), "layer": LAYERS[m], "rank": 1, "ratio": [0.9, 20.0 + s]})
DEVIATIONS = by_run(
    lambda d, m, b, s: {**at(2, 2), "layer": LAYERS[m], "share": [0.1, 0.5], "rms": [0.3 + s, 0.1], "gaussian": 0.04}
)
LEFT_OUT = by_run(
    lambda d, m, b, s: {
        **at(*[2] * 6),
        "layer": LAYERS[m],
        "kind": ["without at random", "without by a_x", "without by norm"] * 2,
        "share": np.repeat([0.1, 0.5], 3),
        "ratio": [1.0, 0.1, 0.2, 0.9, 0.01, 0.02 + s],
    }
)
SAMPLES = by_run(
    lambda d, m, b, s: {
        "sample": range(4),
        "label": 0,
        **{name: [4.0, 3, 2, 1 + s] for name in ("grand", "el2n", "loss", "a_x")},
        "first_outlier": [-1, 0, 10, 20],
        "longest_stretch": [0, 0, 20, 20],
    }
)
TRIMMED = by_run(
    lambda d, m, b, s: {
        **at(1, 2),
        "layer": LAYERS[m],
        "A": [1.0, 2.0 + s],
        "B": 0.5,
        "decrease_percent": [50, 75],
        "B_resolved": 0.7,
        "decrease_resolved_percent": [30, 65],
    }
)


def projections(epoch, run):
    return np.random.default_rng(int(STEPS * epoch) + run[3]).normal(size=100) * run[2]


def histogram(epoch, run):
    counts = {"bin_left": EDGES[:-1], "bin_right": EDGES[1:], "count": counts_of(projections(epoch, run), EDGES)}
    return pd.DataFrame({"step": int(STEPS * epoch), "epoch": epoch, "layer": LAYERS[run[1]], **counts})


SHOWN = (0, 0.1, 1, 2, 4)  # epochs with a histogram
HISTOGRAMS = by_run(lambda *run: pd.concat([histogram(float(epoch), run) for epoch in SHOWN]))
STATISTICS = by_run(
    lambda *run: pd.DataFrame([sizes(projections(epoch, run)) for epoch in SHOWN]).assign(
        **at(*SHOWN), layer=LAYERS[run[1]]
    )
)
SPECTRA = by_run(
    lambda d, m, b, s: pd.concat(
        [
            pd.DataFrame({**at(*SHOWN), "layer": LAYERS[m], "rank": rank, "eigenvalue": [0.4, 5.0 + s, 1, 0.1, 0.01]})
            for rank in (1, 2)
        ]
    )
)
TABLE = pd.DataFrame({"item": ["CPU", "cores"], "value": ["x", "2"], "A": [0.123456, 2e-9]})
TABLES = {"metrics": METRICS, "outliers": OUTLIERS, "ax_histogram": HISTOGRAMS, "trimmed": TRIMMED}
TABLES |= {"ax_statistics": STATISTICS, "spectrum": SPECTRA}
TABLES |= {"table1_machine": TABLE, "layers": LAYERS_TABLE, "noise_scale": NOISE, "alignment": ALIGNMENT}
TABLES |= {
    "true_fisher": TRUE_FISHER,
    "subset_deviations": DEVIATIONS,
    "data_sensitivity": LEFT_OUT,
    "samples": SAMPLES,
}
TABLES |= {"eigenvalue_statistics": EIGENVALUES, "hessian": HESSIAN}


def results(**tables) -> Results:
    runs = [{**dict(zip(RUN, run, strict=True)), "figure_layer": LAYERS[run[1]]} for run in RUNS]
    return Results(runs, TABLES | tables, SETTINGS, "mnist")


def stopped_early(model, batch_size):
    """METRICS in which the runs of a network stop while their validation loss falls."""
    metrics = METRICS.copy()
    early = (metrics["model"] == model) & (metrics["batch_size"] == batch_size)
    metrics.loc[early, "validation_loss"] = 2.0 - 0.1 * metrics["epoch"]
    return metrics
