"""A run at a glance: lambda_1 and the share of outliers by step, as a table and as HTML for notebooks."""

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from fishertail.gradients.network import NETWORK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 12  # checkpoints that HTML shows
_BOX = "border:1px solid #d9dce1;border-radius:6px;padding:8px 14px;font:13px system-ui,sans-serif"
_SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start"
_TABLE = "border-spacing:12px 2px;text-align:right;font:inherit;font-variant-numeric:tabular-nums"


def by_step(tables: Mapping[str, Any], layer: str = NETWORK) -> pd.DataFrame:
    """One row for each checkpoint: losses, accuracies, lambda_1 and the share of outliers, those that were measured."""
    columns: list[pd.Series[Any]] = []
    if len(norms := tables.get("norms", ())):
        rows = norms.groupby("step")[["epoch", "loss", "correct"]]
        means = rows.agg(lambda values: values.mean(skipna=False))
        columns += [means["epoch"], means["loss"], means["correct"].rename("accuracy")]
    if len(metrics := tables.get("metrics", ())):
        rows = metrics.set_index("step")
        columns += [rows["epoch"], rows["validation_loss"], rows["validation_accuracy"]]
    if len(spectrum := tables.get("spectrum", ())):
        rows = spectrum[(spectrum["rank"] == 1) & (spectrum["layer"] == _present(layer, spectrum))].set_index("step")
        columns += [rows["epoch"], rows["eigenvalue"].rename("lambda_1")]
    if len(outliers := tables.get("outliers", ())):
        rows = outliers[outliers["layer"] == _present(layer, outliers)].set_index("step")
        columns += [rows["epoch"], (rows["outliers_distance"] / rows["samples"]).rename("outliers")]
    if not columns:
        return pd.DataFrame({"step": []})
    whole = pd.concat(columns, axis=1).sort_index()
    whole = whole.loc[:, ~whole.columns.duplicated()].dropna(axis="columns", how="all")
    return whole.rename_axis("step").reset_index()


def as_text(summary: pd.DataFrame) -> str:
    """The table as a terminal shows it."""
    return summary.to_string(index=False, formatters=_formatters(summary), na_rep="")


def as_html(tables: Mapping[str, Any], figures: Iterable["Figure"], others: Sequence[str], failures: int) -> str:
    """The table of some checkpoints and figures, in one self-contained element.

    Args:
        others: measurements that `plot` draws besides.
        failures: how much could not be measured.
    """
    summary = by_step(tables)
    shown = summary.iloc[sorted({round(i * (len(summary) - 1) / (_ROWS - 1)) for i in range(_ROWS)})]
    parts = [f"<p><b>{escape(_title(tables, summary))}</b></p>"]
    if failures:
        parts.append(f"<p>{failures} could not be measured; <code>.failures</code> says why.</p>")
    if others:
        parts.append(f"<p><code>.plot(name)</code> also draws {escape(', '.join(others))}.</p>")
    rows = shown.to_html(index=False, border=0, formatters=_formatters(summary), na_rep="", justify="right")
    rows = rows.replace("<table", f'<table style="{_TABLE}"')
    charts = "".join(f"<div>{_svg(figure)}</div>" for figure in figures)
    parts.append(f'<div style="{_SIDE_BY_SIDE}">{rows}<div>{charts}</div></div>')
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _title(tables: Mapping[str, Any], summary: pd.DataFrame) -> str:
    steps = f"{len(summary)} checkpoints"
    if len(summary):
        steps += f", steps {summary['step'].min():,} to {summary['step'].max():,}"
    norms = tables.get("norms", ())
    samples = f"; {norms['sample'].nunique():,} samples" if len(norms) else ""
    return f"fishertail: {steps}{samples}"


def _present(layer: str, frame: pd.DataFrame) -> str:
    """The layer, or the last one where it was not measured."""
    return layer if (frame["layer"] == layer).any() else str(frame["layer"].iloc[-1])


def _formatters(summary: pd.DataFrame) -> dict[str, Any]:
    known = {
        "step": "{:,}".format,
        "epoch": "{:.2f}".format,
        "loss": "{:.4g}".format,
        "accuracy": "{:.1%}".format,
        "validation_loss": "{:.4g}".format,
        "validation_accuracy": "{:.1%}".format,
        "lambda_1": "{:.4g}".format,
        "outliers": "{:.2%}".format,
    }
    return {name: known[name] for name in summary.columns}


def _svg(figure: "Figure") -> str:
    """The figure as an element of a page, with its text as text."""
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()[written.getvalue().index("<svg") :]
