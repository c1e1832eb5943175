"""The layers in one table, from what other measurements found."""

import numpy as np
import pandas as pd
import pytest

from fishertail.execution import measuring
from fishertail.measurements.measurement import measurements, options_given
from tests.measurements import measured

FRACTION = 0.25


@pytest.fixture(scope="module")
def found():
    norms = measured.by_gradients("norms")
    tables = norms | measured.by_gradients("spectrum", norms)
    sections = {name: each.options() for name, each in measurements().items()}
    for name in ("ax_statistics", "outliers"):
        each = measurements()[name]
        needed = {need: tables[need] for need in ("norms" if name == "outliers" else "projections",)}
        tables |= measuring.by_tables(each, options_given(each, sections), needed)
    frames = {name: tables[name] for name in ("norms", "projections")}
    trimmed = measured.by_gradients("trimmed_eigenvalues", frames, trimmed_eigenvalues={"fraction": FRACTION})
    return tables | trimmed


def test_each_number_is_that_of_its_own_measurement(found):
    table = measured.without_gradients("layers", found, trimmed_eigenvalues={"fraction": FRACTION})
    assert table[["step", "layer", "depth"]].to_numpy().tolist() == [
        [step, layer, depth] for step in measured.STEPS for depth, layer in enumerate(measured.LAYERS, 1)
    ]
    for row in table.to_dict("records"):
        of = {name: found[name].set_index(["step", "layer"]).loc[(row["step"], row["layer"])] for name in
              ("spectrum", "ax_statistics", "outliers", "trimmed")}  # fmt: skip
        assert row["lambda_1"] == of["spectrum"]["eigenvalue"]
        assert row["epoch"] == row["step"] / measured.PER_EPOCH
        assert row["near_zero_share"] == of["ax_statistics"]["near_zero_share"]
        assert row["outlier_share"] == of["outliers"]["outliers_distance"] / measured.SAMPLES
        assert row["decrease_percent"] == pytest.approx(of["trimmed"]["decrease_percent"], rel=1e-9)


def test_a_kept_run_has_no_decrease(found):
    empty = {"projections": measurements()["spectrum"].tables[1].empty()}
    table = measured.without_gradients("layers", found | empty)
    assert table["decrease_percent"].isna().all()
    assert table["lambda_1"].notna().all()
    assert len(table) == len(measured.STEPS) * len(measured.LAYERS)


def test_where_other_tables_lack_a_checkpoint_it_is_empty(found):
    fewer = found["ax_statistics"][found["ax_statistics"]["step"] > 0]
    table = measured.without_gradients("layers", found | {"ax_statistics": fewer}).set_index("step")
    assert table.loc[0, "near_zero_share"].isna().all()
    assert table.loc[3, "near_zero_share"].notna().all()


def test_a_run_without_layers_has_no_rows(found):
    only = {name: table[table["layer"] == "network"] for name, table in found.items() if name in
            ("spectrum", "ax_statistics", "outliers")}  # fmt: skip
    table = measured.without_gradients(
        "layers", {**found, **only, "projections": pd.DataFrame({"step": [], "network": []})}
    )
    assert not len(table)
    assert np.isin(["lambda_1", "depth"], list(table)).all()
