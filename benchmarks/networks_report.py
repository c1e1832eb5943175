"""Tables of what `run_networks` measured."""

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.networks import NETWORKS
from benchmarks.passes import Pass
from fishertail.results.provenance import machine

PACKAGES = ["torch", "torchvision", "opacus", "backpack-for-pytorch", "curvlinops-for-pytorch", "scipy"]
WRONG = 0.01  # relative error of a norm or an eigenvalue, beyond which it is that of something else
SHORT = 60  # characters of a fault
COLUMNS = ["kind", "model", "samples", "method", "passes", "seconds", "pass_seconds", "repeats", "peak_gib", "error"]
COLUMNS += ["value", "fault", "layer_error", "worst_layer", "autograd_error", "autograd_layer_error"]
COLUMNS += ["eigenvalue_error", "exact_samples", "unit", "parameters"]


def write(rows: pd.DataFrame, folder: Path, device: str, threads: int) -> pd.DataFrame:
    """networks.csv and networks.md; gives the table of the norms, for the chart."""
    table = summary(rows)
    table.to_csv(folder / "networks.csv", index=False)
    about = machine(device, threads)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    where = f"{about.get('gpu') or about.get('cpu') or platform.processor()}, {threads} threads"
    parts = [f"{where}, {date.today()}; {versions}", _passes(table), _peaks(table), _errors(table), _faults(table)]
    text = "\n\n".join(parts) + "\n"
    (folder / "networks.md").write_text(text)
    print(text)
    shown = table[table["kind"] == "norms"]
    shown = shown.assign(network=shown["model"].map(_title), note=shown.apply(_note, axis=1))
    return shown[["network", "method", "passes", "note"]]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each measurement, with its passes, and how the unit goes through the samples.

    The error of a norm is the largest against the truth; that of a peer's lambda_1 is against fishertail's.
    """
    if "pass" in rows:
        rows = rows.assign(unit=[str(Pass(**how)) if isinstance(how, dict) else None for how in rows["pass"]])
    order = {name: position for position, name in enumerate(NETWORKS)}
    rows = rows.reindex(columns=COLUMNS).sort_values("model", key=lambda names: names.map(order), kind="stable")
    rows["passes"] = rows["seconds"] / rows["pass_seconds"]
    of_pairs = rows["kind"].eq("eigenpairs")
    own = rows[of_pairs & rows["method"].str.startswith("fishertail")].set_index("model")["value"]
    difference = (
        rows["value"].where(~rows["method"].str.startswith("fishertail")) / rows["model"].map(own).astype(float) - 1
    ).abs()
    rows["error"] = rows["error"].astype(float).where(~of_pairs, difference)
    return rows


def _title(name: str) -> str:
    return NETWORKS[name].title


def _note(row: pd.Series) -> str:
    """Why there is no bar: empty where there is one."""
    fault = row["fault"] if isinstance(row["fault"], str) else ""
    if fault.startswith("> "):
        return f"> {float(fault.split()[1]) / row['pass_seconds']:.0f}" if row["pass_seconds"] > 0 else fault
    if fault:
        refused = any(word in fault for word in ("NotImplemented", "Unsupported"))
        return "out of memory" if "memory" in fault else "refuses" if refused else "fails"
    if row["error"] > WRONG:
        return f"off by {row['error']:.0%}" if row["kind"] == "norms" else "another matrix"
    return ""


def _cells(table: pd.DataFrame, kinds: list[str], cell) -> str:
    """A markdown table: a line a network, a column a method."""
    part = table[table["kind"].isin(kinds)]
    methods = list(dict.fromkeys(part["method"]))
    lines = [f"| network | {' | '.join(methods)} |", "|" + " --- |" * (len(methods) + 1)]
    for name, rows in part.groupby("model", sort=False):
        by_method = {row["method"]: cell(row) for _, row in rows.iterrows()}
        cells = [by_method.get(method, "") for method in methods]
        lines.append(f"| {_title(name)}, N = {rows['samples'].iloc[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _passes(table: pd.DataFrame) -> str:
    units = table.dropna(subset="pass_seconds").groupby("model", sort=False)
    passes = [f"{_title(name)} {rows['pass_seconds'].median():.3g} s ({rows['unit'].iloc[0]})" for name, rows in units]
    body = _cells(table, ["norms", "eigenpairs"], lambda row: _note(row) or f"{row['passes']:.2f}")
    return f"Passes: norms of all layers; eigenpairs.\n\n{body}\n\nThe best plain pass: {'; '.join(passes)}."


def _peaks(table: pd.DataFrame) -> str:
    def cell(row: pd.Series) -> str:
        return "" if np.isnan(row["peak_gib"]) else f"{row['peak_gib']:.2f}"

    return f"Peak GiB beyond model and data.\n\n{_cells(table, ['norms', 'eigenpairs'], cell)}"


def _errors(table: pd.DataFrame) -> str:
    def cell(row: pd.Series) -> str:
        return "" if np.isnan(row["error"]) else f"{row['error']:.0e}"

    heads = ["network", "norm, network", "norm, worst layer", "lambda_1", "of samples"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in table[table["kind"] == "exactness"].itertuples():
        if isinstance(row.fault, str):
            lines.append(f"| {_title(row.model)} | {row.fault[:SHORT]} | | | |")
            continue
        network = f"{row.error:.0e} ({row.autograd_error:.0e})"
        layer = f"{row.layer_error:.0e} ({row.autograd_layer_error:.0e}), {row.worst_layer or 'its own Parameters'}"
        line = [_title(row.model), network, layer, f"{row.eigenvalue_error:.0e}", f"{row.exact_samples:.0f}"]
        lines.append(f"| {' | '.join(line)} |")
    return (
        "Largest relative error of the network's norms, of 20 samples against a float64 loop; of a peer's lambda_1 the "
        f"difference from fishertail's.\n\n{_cells(table, ['norms', 'eigenpairs'], cell)}\n\n"
        "The same of fishertail, and in brackets of plain autograd in float32, one sample at a time; lambda_1 against "
        "a dense Gram matrix in float64.\n\n" + "\n".join(lines)
    )


def _faults(table: pd.DataFrame) -> str:
    lines = [
        f"- {_title(row.model)}, {row.method}: {row.fault.replace('|', '/')}"
        for row in table.dropna(subset="fault").itertuples()
    ]
    return "\n".join(["Without a result:", "", *lines]) if lines else "Every method gave a result."
