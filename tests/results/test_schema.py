"""What a table holds: declared columns, and one for each layer."""

import pandas as pd
import pytest

from fishertail.errors import StorageError
from fishertail.results.schema import Column, Table, joined

LONG = Table("long", "csv", "long", (Column("step", "steps"), Column("value", "a value")), keys=("step",))
WIDE = Table("wide", "parquet", "wide", (Column("step", "steps"),), of_layers="a norm")


def test_the_name_of_its_file():
    assert (LONG.file, WIDE.file) == ("long.csv", "wide.parquet")


def test_columns_that_are_not_declared_are_layers_but_for_those_of_a_run():
    frame = pd.DataFrame(columns=["dataset", "model", "batch_size", "seed", "step", "fc1", "block.0.conv", "network"])
    assert WIDE.layers(frame) == ["fc1", "block.0.conv", "network"]


def test_a_long_table_has_no_layers():
    with pytest.raises(ValueError, match="long: has no column for each layer"):
        LONG.layers(pd.DataFrame(columns=["step", "value"]))


@pytest.mark.parametrize("columns", [["step"], ["step", "value", "more"], []])
def test_other_columns_are_refused(columns):
    with pytest.raises(StorageError, match=r"there: columns \['step', 'value'\] expected, found"):
        LONG.check(pd.DataFrame(columns=columns), "there")


def test_the_order_of_columns_does_not_matter_and_a_wide_table_may_have_more():
    LONG.check(pd.DataFrame(columns=["value", "step"]), "there")
    WIDE.check(pd.DataFrame(columns=["step", "fc1"]), "there")
    with pytest.raises(StorageError):
        WIDE.check(pd.DataFrame(columns=["fc1"]), "there")


def test_a_table_over_runs_has_the_columns_of_a_run_in_front():
    table = Table("over", "csv", "over", LONG.columns, of_runs=True)
    assert list(table.empty()) == ["dataset", "model", "batch_size", "seed", "step", "value"]


def test_parts_without_rows_do_not_change_the_types_of_the_others():
    rows = pd.DataFrame({"step": [3], "converged": [True]})
    for parts in ([rows, rows[:0]], [LONG.empty(), rows], [rows]):
        found = joined(parts)
        assert pd.api.types.is_bool_dtype(found["converged"])
        assert found["step"].tolist() == [3]
    assert list(joined([rows[:0], rows[:0]])) == ["step", "converged"]
