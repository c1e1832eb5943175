"""Tables for readers: Markdown, LaTeX and HTML, beside the CSV and Parquet of `fishertail.results.storage`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from fishertail.results import storage

_COMMENTS = {".tex": ("% ", ""), ".md": ("<!-- ", " -->"), ".html": ("<!-- ", " -->")}
_PAGE_STYLE = "<style>body {font: 15px sans-serif} td, th {padding: 3px 12px; text-align: right}</style>\n"


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
    """Write `frame` as CSV, Parquet, Markdown, LaTeX or HTML, which the suffix of `path` chooses."""
    render = {
        ".md": lambda: _markdown(frame),
        ".tex": lambda: frame.to_latex(index=False, escape=True, float_format=number),
        ".html": lambda: _PAGE_STYLE + frame.to_html(index=False, border=0, float_format=number),
    }
    suffix = Path(path).suffix
    if suffix in render:
        storage.write_with_header(render[suffix](), path, provenance, *_COMMENTS[suffix])
    else:
        storage.write_table(frame, path, provenance)


def write_tables(
    tables: Mapping[str, pd.DataFrame], paths: Iterable[str | os.PathLike[str]], provenance: Mapping[str, Any]
) -> None:
    """Write each path's table, chosen by its stem, as `write_table` does."""
    for path in paths:
        write_table(tables[Path(path).stem], path, provenance)


def number(value: float) -> str:
    """To four digits, and counts, which are not whole in a column that lacks one, to the last."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _markdown(frame: pd.DataFrame) -> str:
    """With text as it is: a layer named 1.10 is no number."""
    text = [position for position, column in enumerate(frame) if not is_numeric_dtype(frame[column])]
    as_it_is = text if len(frame) else True  # tabulate counts no columns without rows
    return frame.map(_markdown_cell).to_markdown(index=False, disable_numparse=as_it_is) + "\n"


def _markdown_cell(value: object) -> object:
    return value.replace("|", "\\|") if isinstance(value, str) else value
