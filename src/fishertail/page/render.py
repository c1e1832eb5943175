"""The page, out of its parts: tables, figures, charts and the explorer's data, in one HTML file."""

import base64
import importlib.metadata
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import pandas as pd
import vl_convert

from fishertail import stopping
from fishertail.data.dataset import Dataset
from fishertail.page import charts
from fishertail.tables import RUN

_CAPTIONS = {  # of figN_NAME, or figN_NAME_DATASET
    "validation_accuracy": "validation accuracy over the epochs; mean over the seeds, and their range.",
    "ax_over_epochs": "how a_x is distributed over all training samples, epoch by epoch.",
    "ax_at_minimum": "how a_x is distributed at the epoch of lowest validation loss, by batch size.",
    "trimmed_eigenvalues": "lambda_1 over all samples (A), and without those of largest |a_x| (B).",
    "outliers": "the number of outliers over the epochs, with the validation loss.",
}


def render(
    *,
    claims: pd.DataFrame,
    effects: pd.DataFrame,
    stopping_summary: pd.DataFrame,
    explorer: Mapping,
    figures: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    datasets: Sequence[Dataset],
    configuration: str,
) -> str:
    """The HTML of the page.

    Args:
        claims, effects: of `fishertail.claims`.
        stopping_summary: of `fishertail.stopping`.
        explorer: of `fishertail.page.data`.
        figures: paths of SVG files.
        tables: shown below the figures, by title.
        datasets: named by their content.
        configuration: as text.
    """
    folder = files("fishertail.page")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((folder / "page.html.j2").read_text())
    raw = jinja2.utils.markupsafe.Markup
    return template.render(
        css=raw((folder / "page.css").read_text()),
        javascript=raw((folder / "page.js").read_text()),
        vega=raw(_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))),
        data=raw(_json(explorer)),
        charts=raw(_json(charts.all_charts())),
        networks=_networks(explorer["runs"]),
        claims=claims.to_dict("records"),
        effects=raw(table_html(effects)),
        stopping=raw(table_html(stopping_summary)),
        stopping_finding=stopping.finding(stopping_summary),
        figures=[{"uri": _svg_uri(path), "caption": _caption(path)} for path in figures],
        tables=[
            {"title": title, "html": raw(table_html(table)), "rows": len(table)} for title, table in tables.items()
        ],
        data_hashes={data.name: data.content_hash for data in datasets},
        configuration=configuration,
        version=importlib.metadata.version("fishertail"),
    )


def table_html(table: pd.DataFrame) -> str:
    """A table with numbers to the right, shares in percent, and headings without underscores."""
    shown = table.copy()
    for column in shown.select_dtypes("float"):
        shown[column] = shown[column].map(_number(column), na_action="ignore")
    shown = shown.rename(columns=lambda name: name if name == "lambda_1" else _heading(name))
    html = shown.to_html(index=False, border=0, justify="left", na_rep="–")
    numeric = [position for position, column in enumerate(table) if pd.api.types.is_numeric_dtype(table[column])]
    return _aligned(html, numeric)


_SHARES = ("validation_accuracy", "within_factor_2")


def _number(column: str) -> Callable[[float], str]:
    """How the numbers of a column are written."""
    if column in _SHARES:
        return lambda value: f"{100 * value:.2f}"
    return "{:.3f}".format if column.endswith("_percent") else "{:.4g}".format


def _heading(column: str) -> str:
    named = f"{column} (%)" if column in _SHARES else column.replace("_percent", " (%)")
    return named.replace("_", " ")


def _aligned(html: str, numeric: Collection[int]) -> str:
    """A table of pandas with the class `number` on the cells of numeric columns."""
    position = -1

    def cell(match: re.Match) -> str:
        nonlocal position
        position = -1 if match[0].startswith("<tr") else position + 1
        return match[0] if match[0].startswith("<tr") or position not in numeric else f'<{match[1]} class="number">'

    return re.sub(r"<tr[^>]*>|<(t[hd])>", cell, html)


def _networks(runs: Sequence[Mapping]) -> str:
    names = ", ".join(dict.fromkeys(f"{run['dataset']}/{run['model']}" for run in runs))
    sizes = ", ".join(str(size) for size in sorted({run["batch_size"] for run in runs}))
    unfinished = [run for run in runs if not run["passed"]]
    text = f"{len(runs)} runs: {names}, at batch sizes {sizes}."
    if unfinished:
        which = ", ".join("{}-{}/bs{}/seed{}".format(*(run[name] for name in RUN)) for run in unfinished)
        text += f" The validation loss was lowest at the last epoch, and may go lower, in {len(unfinished)}: {which}."
    return text


def _caption(path: str) -> str:
    number, name, dataset = re.fullmatch(rf"fig(\d+)_({'|'.join(_CAPTIONS)})(?:_(\w+))?", Path(path).stem).groups()
    return f"Fig. {number}{f', {dataset}' if dataset else ''}: {_CAPTIONS[name]}"


def _svg_uri(path: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def _json(value) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _script(code: str) -> str:
    """As it may stand in a script element, which a closing tag in a string would end."""
    return re.sub(r"<(/script|script|!--)", r"\\x3c\1", code, flags=re.IGNORECASE)
