"""The table and the plots of a benchmark."""

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmarks.passes import Pass
from benchmarks.problems import WIDTHS, WIDTHS_SAMPLES
from fishertail.results.provenance import machine

FULL = {"fc": 60_000, "conv": 50_000}
PEERS = ["torch", "curvlinops-for-pytorch", "backpack-for-pytorch", "opacus", "scipy"]
KEYS = ["kind", "model", "epoch", "samples", "batch_size", "method"]


def write(rows: pd.DataFrame, folder: Path, device: str, threads: int) -> None:
    """peers.csv, peers.md and peers.svg, of all measurements."""
    table = summary(rows)
    table.to_csv(folder / "peers.csv", index=False)
    about = machine(device, threads)
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    where = f"{about.get('gpu') or about.get('cpu') or platform.processor()}, {threads} threads"
    head = f"{where}, {date.today()}; {versions}\n\n{_passes(rows)}\n\n"
    text = head + "\n\n".join(_section(table, kind) for kind in _SECTIONS)
    (folder / "peers.md").write_text(text + "\n")
    print(text)
    _plot(table, folder / "peers.svg")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The median of each measurement's rounds, in passes, with the relative error of eigenvalue or median norm."""
    rows = rows[rows["kind"] != "pass"]
    rows = rows.reindex(columns=[*KEYS, "parameters", "seconds", "pass_seconds", "peak_gib", "value", "fault"])
    rows["samples"] = rows["samples"].fillna(rows["model"].map(FULL)).astype(int)
    rows["passes"] = rows["seconds"] / rows["pass_seconds"]
    numbers = ["parameters", "seconds", "passes", "peak_gib", "value"]
    grouped = rows.groupby(KEYS, dropna=False, sort=False)
    table = grouped[numbers].median().join(grouped["fault"].first()).reset_index()
    problem = ["model", "epoch", "samples"]
    truth = table[table["kind"] == "truth"].set_index(problem)["value"]
    known = pd.MultiIndex.from_frame(table[problem]).map(truth).astype(float)
    is_eigenvalue = table["kind"].eq("eigenpairs")
    table["error"] = np.where(is_eigenvalue, (table["value"] / known - 1).abs(), np.nan)
    return table


def _passes(rows: pd.DataFrame) -> str:
    """How the best plain pass goes through the samples of each problem."""
    chosen = rows[rows["kind"] == "pass"].drop_duplicates(["model", "samples"])
    passes = [
        f"{row.model} (N = {FULL[row.model] if np.isnan(row.samples) else int(row.samples):,}) {Pass(**row.unit)}"
        for row in chosen.rename(columns={"pass": "unit"}).itertuples()
    ]
    return f"The best plain passes: {'; '.join(passes)}."


_SECTIONS = {
    "norms": "Norms of all per-sample gradients",
    "eigenpairs": "Largest eigenvalue of the network's empirical Fisher matrix",
    "training": "Training, one epoch of 10,000 samples",
}


def _section(table: pd.DataFrame, kind: str) -> str:
    part = table[table["kind"] == kind]
    columns = ["model", "epoch", "samples", "method", "seconds", "passes", "peak GiB", "error"]
    if kind == "training":
        part, columns = (
            part.assign(samples=part["batch_size"].astype(int)),
            ["model", "batch size", "method", "seconds"],
        )
    lines = [f"**{_SECTIONS[kind]}**", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in part.itertuples():
        cells = [row.model, f"{row.samples:,}", row.method, _number(row.seconds, row.fault)]
        if kind != "training":
            cells[1:1] = [str(row.epoch)]
            cells += [_number(row.passes), _number(row.peak_gib), "" if np.isnan(row.error) else f"{row.error:.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float, fault: str | None = None) -> str:
    if isinstance(fault, str):
        return fault
    return "" if np.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _plot(table: pd.DataFrame, path: Path) -> None:
    """Passes against N for both networks, and against P for fc of several widths: flat is as cheap as a pass."""
    plt.style.use(Path(__file__).parents[1] / "src" / "fishertail" / "results" / "fishertail.mplstyle")
    widths = table["model"].isin([f"fc{width}" for width in WIDTHS])
    panels = [("fc", table["model"].eq("fc"), "samples"), ("conv", table["model"].eq("conv"), "samples")]
    panels.append(("fc, 5 widths", widths, "parameters"))
    figure, axes = plt.subplots(2, len(panels), figsize=(13, 7), sharex="col", sharey="row", layout="constrained")
    colours = {method: f"C{i}" for i, method in enumerate(table["method"].unique())}
    for line, (kind, what) in zip(axes, {"norms": "norms", "eigenpairs": "largest eigenpair"}.items(), strict=True):
        shown = {}
        for axis, (title, chosen, x) in zip(line, panels, strict=True):
            part = table[table["kind"].eq(kind) & chosen].dropna(subset="passes")
            counts = part.groupby("epoch")["method"].nunique()
            part = part[part["epoch"] == counts.idxmax()] if len(counts) else part
            for method, points in part.groupby("method", sort=False):
                style = "o-" if method.startswith("fishertail") else "s--"
                [shown[method]] = axis.loglog(points[x], points["passes"], style, c=colours[method], label=method)
            axis.set_title(f"{title}: {what}")
            axis.yaxis.set_major_formatter("{x:g}")
        line[0].set_ylabel("passes")
        line[-1].legend(shown.values(), shown.keys(), loc="upper left", bbox_to_anchor=(1.02, 1))
    for axis, (_, _, x) in zip(axes[-1], panels, strict=True):
        axis.set_xlabel({"samples": "samples $N$", "parameters": f"parameters $P$ ($N$ = {WIDTHS_SAMPLES:,})"}[x])
    figure.savefig(path)
    plt.close(figure)
