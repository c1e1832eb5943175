"""Assembles the page: tables, figures, charts and the explorer's data, in one HTML file."""

import base64
import importlib.metadata
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd
import vl_convert

from fishertail.data.dataset import Dataset
from fishertail.data.source import built_in
from fishertail.page import charts, data, forest
from fishertail.page.instruments import Instrument
from fishertail.paper import exhibits, stopping
from fishertail.results import formats
from fishertail.results.exhibits import Results

SCRIPTS = (
    "format", "state", "axis", "download", "story", "instruments", "checkpoint", "layers", "stays", "fit", "start",
)  # fmt: skip
CHOICES = {"dataset": "data set", "model": "model", "batch_size": "batch size", "seed": "seed"}
STORY = ("spectrum", "outlier-share", "validation_loss", "validation_accuracy")  # the charts that come first
TITLE = "Where the eigenvalues of the Fisher information come from"
QUESTION = (
    "The gradient of every training sample, followed through training: is the largest eigenvalue of the empirical "
    "Fisher matrix carried by a few outliers?"
)
PAPER = (
    "Yashima, Ishikawa, Sato, Matsuoka: Analysis of gradient data in the training process, toward understanding the "
    "generalization of DNNs."
)
JUDGING = (
    "By criteria that were fixed on 26 November 2026, before these runs, when runs judged by other criteria were "
    "known. Each network (data set, model, batch size) is judged by one-sided 95 % limits of its mean over the seeds, "
    "whose spread the batch sizes share; it fails if the mean is beyond a bound, by a t test corrected for all those "
    "of a claim. A claim holds if it does in every network that votes, and fails if it does in any. Pale: networks "
    "without a vote, which the paper's numbers do not seem to come from. Dashed: the bounds. An arrow: the interval "
    "goes on."
)


@dataclass(frozen=True)
class Text:
    """What the page says besides its results.

    Attributes:
        title, lead: at its top.
        footer: at its bottom.
        missing: what is not shown and why, one line for each.
        missing_heading: what they have in common.
        to_come: what is not finished, one line for each run.
        planned: how many runs there are to be.
        configuration: as text.
    """

    title: str = TITLE
    lead: str = QUESTION
    footer: str = PAPER
    missing: Sequence[str] = ()
    missing_heading: str = "Missing from kept runs, since it was not measured or not kept then:"
    to_come: Sequence[str] = ()
    planned: int = 0
    configuration: str = ""


def render(
    results: Results,
    instruments: Mapping[str, Instrument],
    text: Text,
    *,
    figures: Sequence[str] = (),
    datasets: Sequence[Dataset] = (),
) -> str:
    """The HTML of the page.

    Args:
        results: with the tables of runs, and those over runs.
        instruments: by key.
        text: what it says besides.
        figures: paths of SVG files.
        datasets: whose images are shown, with the hashes of their content.
    """
    explorer = data.explorer_data(results, datasets, instruments)
    raw = markupsafe.Markup
    known = [table for exhibit in exhibits.tables().values() for table in exhibit.tables]
    shown = {table.name: results[table.name] for table in known if table.name in results.tables}
    titles = {table.name: table.meaning for table in known if table.name not in _SECTIONS}
    titled = {"outlier-share": "outliers of the network"} | {key: each.title for key, each in instruments.items()}
    return _template().render(
        vars(text),
        css=raw(_part("page.css")),
        javascript=raw("\n".join(_part("script", f"{name}.js") for name in SCRIPTS)),
        vega=raw(_vega()),
        data=raw(_json(explorer)),
        charts=raw(_json(charts.all_charts(instruments))),
        choices={name: CHOICES[name] for name in explorer["choices"]},
        several=len(explorer["runs"]) > 1,
        has_runs=bool(explorer["runs"]),
        has_fit=explorer["fit"] is not None,
        fit_finding=_fit_finding(explorer["fit"]),
        story={name: titled[name] for name in STORY if name in titled},
        instruments={name: title for name, title in titled.items() if name not in STORY},
        claims=forest.forests(shown["claim_effects"], shown["claims"]) if "claims" in shown else [],
        judging=JUDGING,
        stopping=raw(table_html(shown["stopping"])) if "stopping" in shown else "",
        stopping_finding=stopping.finding(shown["stopping"]) if "stopping" in shown else "",
        figures=[_figure(path) for path in figures],
        tables=[
            {"title": title, "html": raw(table_html(shown[name])), "rows": len(shown[name])}
            for name, title in titles.items()
            if name in shown
        ],
        data_hashes={each.name: each.content_hash for each in datasets},
        version=importlib.metadata.version("fishertail"),
    )


@cache  # bundling takes longer than all the rest
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    return _script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # columns stay in their order
    return environment.from_string(_part("page.html.j2"))


def _part(*name: str) -> str:
    """The text of one of the page's files."""
    return files("fishertail.page").joinpath(*name).read_text(encoding="utf-8")


def _fit_finding(fit: Mapping[str, Any] | None) -> str:
    """How closely the share of outliers follows the fit."""
    if fit is None:
        return ""
    runs = f"{fit['runs']} runs" if fit["runs"] > 1 else "one run"
    ranks = [f"{fit[name]:.3f} with the training {name}" for name in ("loss", "accuracy") if fit[name] is not None]
    return (
        f"Spearman's rank correlation of the share of outliers, over {fit['checkpoints']} checkpoints of {runs}: "
        f"{' and '.join(ranks) or 'none, since the shares are all equal'}."
    )


_SECTIONS = (
    "claims",
    "claim_networks",
    "claim_effects",
    "stopping",
    "stopping_runs",
)  # tables that have a section of their own


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
    return "{:.3f}".format if column.endswith("_percent") else formats.number


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


def networks(results: Results) -> str:
    """Which runs of a grid the page shows, and which of them stopped early."""
    runs = results.runs
    names = ", ".join(dict.fromkeys(f"{run['dataset']}/{run['model']}" for run in runs))
    sizes = ", ".join(str(size) for size in sorted({run["batch_size"] for run in runs}))
    unfinished = [key for key, found in results.minima().items() if not found.passed]
    text = f"{len(runs)} run{'s' * (len(runs) != 1)}: {names}, at batch size{'s' * (', ' in sizes)} {sizes}."
    if unfinished:
        which = ", ".join("{}-{}/bs{}/seed{}".format(*key) for key in unfinished)
        whose = "its" if len(unfinished) == 1 else "their"
        text += f" {len(unfinished)} stopped early, so {whose} validation loss may fall further: {which}."
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
