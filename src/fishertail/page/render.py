"""Assembles the page: tables, figures, charts and the explorer's data, in one HTML file."""

import base64
import importlib.metadata
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd
import vl_convert

from fishertail.data.dataset import Dataset
from fishertail.data.source import built_in
from fishertail.page import charts
from fishertail.paper import exhibits, stopping
from fishertail.results.exhibits import Panel, Results


def render(
    results: Results,
    *,
    explorer: Mapping[str, Any],
    figures: Sequence[str],
    datasets: Sequence[Dataset],
    panels: Mapping[str, Panel],
    missing: Sequence[str],
    configuration: str,
) -> str:
    """The HTML of the page.

    Args:
        results: with the tables over runs.
        explorer: of `fishertail.page.data`.
        figures: paths of SVG files.
        datasets: shown with the hashes of their content.
        panels: charts of a run, by name.
        missing: what kept runs lack, one line for each run.
        configuration: the configuration as text.
    """
    folder = files("fishertail.page")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((folder / "page.html.j2").read_text())
    raw = markupsafe.Markup
    known = [table for exhibit in exhibits.tables().values() for table in exhibit.tables]
    shown = {table.name: results[table.name] for table in known if table.name in results.tables}
    titles = {table.name: table.meaning for table in known if table.name not in _SECTIONS}
    return template.render(
        css=raw((folder / "page.css").read_text()),
        javascript=raw((folder / "page.js").read_text()),
        vega=raw(_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))),
        data=raw(_json(explorer)),
        charts=raw(_json(charts.all_charts(panels))),
        panels={name: panel.title for name, panel in panels.items()},
        networks=_networks(results),
        missing=missing,
        claims=shown["claims"].to_dict("records") if "claims" in shown else [],
        effects=raw(table_html(shown["claim_effects"])) if "claim_effects" in shown else "",
        stopping=raw(table_html(shown["stopping"])) if "stopping" in shown else "",
        stopping_finding=stopping.finding(shown["stopping"]) if "stopping" in shown else "",
        figures=[_figure(path) for path in figures],
        tables=[
            {"title": title, "html": raw(table_html(shown[name])), "rows": len(shown[name])}
            for name, title in titles.items()
            if name in shown
        ],
        data_hashes={data.name: data.content_hash for data in datasets},
        configuration=configuration,
        version=importlib.metadata.version("fishertail"),
    )


_SECTIONS = ("claims", "claim_effects", "stopping", "stopping_runs")  # tables that have a section of their own


def table_html(table: pd.DataFrame) -> str:
    """A table with numbers to the right, shares in percent, and headings without underscores."""
    shown = table.copy()
    for column in map(str, shown.select_dtypes("float")):
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

    def cell(match: re.Match[str]) -> str:
        nonlocal position
        position = -1 if match[0].startswith("<tr") else position + 1
        return match[0] if match[0].startswith("<tr") or position not in numeric else f'<{match[1]} class="number">'

    return re.sub(r"<tr[^>]*>|<(t[hd])>", cell, html)


def _networks(results: Results) -> str:
    """Which runs the page shows, and which of them stopped early."""
    runs = results.runs
    names = ", ".join(dict.fromkeys(f"{run['dataset']}/{run['model']}" for run in runs))
    sizes = ", ".join(str(size) for size in sorted({run["batch_size"] for run in runs}))
    unfinished = [key for key, found in results.minima().items() if not found.passed]
    text = f"{len(runs)} runs: {names}, at batch sizes {sizes}."
    if unfinished:
        which = ", ".join("{}-{}/bs{}/seed{}".format(*key) for key in unfinished)
        text += f" {len(unfinished)} stopped early, so their validation loss may fall further: {which}."
    return text


def _figure(path: str) -> dict[str, str]:
    """The picture, its title and its caption, by the name of its file."""
    stem, known = Path(path).stem, built_in()
    for figure in exhibits.figures().values():
        pattern = re.escape(figure.name).replace(r"\{number\}", r"\d+").replace(r"\{dataset\}", r"(?P<dataset>\w+)")
        if found := re.fullmatch(pattern, stem):
            dataset = found.groupdict().get("dataset", "")
            title = figure.title_of(dataset, known[dataset].title if dataset in known else dataset)
            return {"uri": _svg_uri(path), "title": title, "caption": figure.caption}
    return {"uri": _svg_uri(path), "title": stem, "caption": ""}


def _svg_uri(path: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _script(code: str) -> str:
    """Code for a script element, with the tags escaped that would end the element."""
    return re.sub(r"<(/script|script|!--)", r"\\x3c\1", code, flags=re.IGNORECASE)
