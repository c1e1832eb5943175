"""Tables for readers hold every cell, escape what their format would read, and carry their provenance."""

import re

import pandas as pd
import pytest

from fishertail.results import formats, storage

RECORD = {"rule": "claims", "parameters": {"quote": "\"'<&>"}, "data": ["abc"]}
FRAME = pd.DataFrame({"step": [0, 1], "layer": ["fc1", "|a_x|, né"], "share": ["10 %", "2 %"]})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".md", ".tex", ".html"])
def test_a_file_carries_its_provenance_and_the_same_input_gives_the_same_bytes(suffix, tmp_path):
    paths = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    for path in paths:
        formats.write_table(FRAME, path, RECORD)
    assert storage.read_provenance(paths[0]).items() >= RECORD.items()
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_markdown_holds_every_cell(tmp_path):
    formats.write_table(FRAME, tmp_path / "t.md", RECORD)
    _, heading, _, *rows = (tmp_path / "t.md").read_text().splitlines()
    assert [cell.strip() for cell in heading.strip("|").split("|")] == list(FRAME)
    assert "\\|a_x\\|, né" in rows[1]


def test_latex_escapes_what_latex_would_read(tmp_path):
    formats.write_table(FRAME, tmp_path / "t.tex", RECORD)
    assert r"10 \% \\" in (tmp_path / "t.tex").read_text()
    assert r"|a\_x|, né" in (tmp_path / "t.tex").read_text()


def test_html_holds_every_cell(tmp_path):
    formats.write_table(FRAME, tmp_path / "t.html", RECORD)
    text = (tmp_path / "t.html").read_text()
    assert all(f"<td>{cell}</td>" in text for cell in FRAME.to_numpy().ravel())


NUMBERS = pd.DataFrame({"layer": ["1.10", "0"], "B": [2.448e-8, 0.432], "outliers": [16599, None], "p": [1.0, 0.25]})


@pytest.mark.parametrize("suffix", [".md", ".tex", ".html"])
def test_names_and_numbers_are_what_they_were(suffix, tmp_path):
    formats.write_table(NUMBERS, tmp_path / f"t{suffix}", RECORD)
    text = (tmp_path / f"t{suffix}").read_text()
    cells = re.findall("<td>(.*?)</td>", text) or re.split(r" *[|&] *", re.search(r"1\.10? .*\d", text)[0])
    assert cells[:4] == ["1.10", "2.448e-08", "16599", "1"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".md", ".tex", ".html"])
def test_a_table_without_rows_has_its_columns(suffix, tmp_path):
    formats.write_table(FRAME.head(0), tmp_path / f"t{suffix}", RECORD)
    assert all(name.encode() in (tmp_path / f"t{suffix}").read_bytes() for name in FRAME)


def test_each_path_takes_the_table_of_its_stem(tmp_path):
    tables = {"a": FRAME, "b": FRAME.iloc[:1]}
    formats.write_tables(tables, [tmp_path / "b.csv", tmp_path / "a.parquet"], RECORD)
    assert len(storage.read_table(tmp_path / "b.csv")) == 1
    assert len(storage.read_table(tmp_path / "a.parquet")) == 2
