"""Tables for readers: Markdown, LaTeX and HTML, beside the CSV and Parquet of `fishertail.results.storage`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fishertail.results import storage

_COMMENTS = {".tex": ("% ", ""), ".md": ("<!-- ", " -->"), ".html": ("<!-- ", " -->")}
_PAGE_STYLE = "<style>body {font: 15px sans-serif} td, th {padding: 3px 12px; text-align: right}</style>\n"


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
    """Write `frame` as CSV, Parquet, Markdown, LaTeX or HTML, which the suffix of `path` chooses."""
    render = {
        ".md": lambda: frame.map(_markdown_cell).to_markdown(index=False) + "\n",
        ".tex": lambda: frame.to_latex(index=False, escape=True),
        ".html": lambda: _PAGE_STYLE + frame.to_html(index=False, border=0, float_format="{:.4g}".format),
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


def _markdown_cell(value: object) -> object:
    return value.replace("|", "\\|") if isinstance(value, str) else value
