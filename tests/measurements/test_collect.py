"""Tables over runs, from small real files."""

import pandas as pd
import pytest

from fishertail.errors import StorageError
from fishertail.measurements.collect import collect, of_one_run, read, run_tables
from fishertail.results import of_run, storage
from fishertail.results.run import Run
from fishertail.results.schema import RUN

RUNS = [
    {"dataset": "digits", "model": "fc", "batch_size": b, "seed": s, "figure_layer": "fc4"}
    for b in (16, 256)
    for s in (0, 1)
]
SPECTRUM = run_tables()["spectrum"]


def rows(steps, rank=1, value=3.0):
    known = {"residual": 0.0, "converged": True, "certified": True, "products": 3, "trace": 9.0}
    frame = pd.DataFrame({"step": steps, "epoch": [step / 4 for step in steps], "layer": "fc4", "rank": rank})
    return frame.assign(eigenvalue=value, **known)


@pytest.fixture
def write(tmp_path):
    """Writes a table of a run to its folder, or a part of it."""

    def written(run, frame, part="", of=None, table=SPECTRUM):
        path = tmp_path / "results/runs" / Run.of(run).path / part / table.file
        storage.write_table(frame, path, of_run.identity(of or run))
        return str(path)

    return written


def test_the_run_is_put_in_front_in_the_order_of_the_grid_and_of_steps(write):
    paths = [write(run, rows([4 * number + 4, 0], value=number)) for number, run in enumerate(RUNS)][::-1]
    table = collect(SPECTRUM, paths, RUNS)
    assert list(table) == [*RUN, *SPECTRUM.names]
    assert table["step"].tolist() == [0, 4, 0, 8, 0, 12, 0, 16]
    assert table["eigenvalue"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table.loc[4, RUN].tolist() == ["digits", "fc", 256, 0]


def test_a_checkpoint_that_a_block_and_the_landmarks_have_counts_once(write):
    paths = [
        write(RUNS[0], rows([0, 4], value=1.0), "epochs0001-0001"),
        write(RUNS[0], rows([8], value=1.0), "epochs0002-0002"),
        write(RUNS[0], rows([4, 8, 12], value=2.0), "landmarks"),
    ]
    table = collect(SPECTRUM, paths, RUNS[:1])
    assert table["step"].tolist() == [0, 4, 8, 12]
    assert table["eigenvalue"].tolist() == [1, 1, 1, 2]


def test_layers_and_ranks_tell_rows_apart(write):
    several = pd.concat([rows([4]), rows([4], rank=2), rows([4]).assign(layer="network")])
    assert len(collect(SPECTRUM, [write(RUNS[0], several)], RUNS)) == 3


def test_a_block_without_rows_keeps_the_types_of_the_others(write):
    paths = [write(RUNS[0], rows([]), "epochs0001-0001"), write(RUNS[0], rows([8]), "epochs0002-0002")]
    for order in (paths, paths[::-1]):
        table = collect(SPECTRUM, order, RUNS)
        assert table.dtypes["converged"] == "bool"
        assert table.dtypes["step"] == table.dtypes["rank"] == "int64"
        assert len(table) == 1


def test_a_table_without_steps_keeps_the_order_of_runs(write):
    table = run_tables()["drift_to_diffusion"]
    given = pd.DataFrame({"layer": ["fc4", "network"], "crossing_step": 3.0, "crossing_epoch": 0.5})
    given = given.assign(largest_ratio=2.0, last_ratio=0.1)
    paths = [write(run, given.assign(last_ratio=number), table=table) for number, run in enumerate(RUNS)]
    found = collect(table, paths[::-1], RUNS)
    assert found["last_ratio"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found["layer"].tolist() == ["fc4", "network"] * 4


def test_a_table_of_one_run_has_each_row_once_in_the_order_of_steps(write):
    paths = [
        write(RUNS[0], rows([4, 8], value=1.0), "epochs0002-0002"),
        write(RUNS[0], rows([0, 8], value=2.0), "landmarks"),
    ]
    table = of_one_run(SPECTRUM, paths, RUNS[0])
    assert table[["step", "eigenvalue"]].to_numpy().tolist() == [[0, 2], [4, 1], [8, 1]]
    assert list(of_one_run(SPECTRUM, [], RUNS[0])) == SPECTRUM.names
    with pytest.raises(StorageError, match="of the run digits-fc/bs256/seed1 expected"):
        of_one_run(SPECTRUM, paths, RUNS[3])


def test_no_files_give_a_table_without_rows():
    table = collect(SPECTRUM, [], RUNS)
    assert list(table) == [*RUN, *SPECTRUM.names]
    assert not len(table)


def test_a_file_of_another_run_is_refused(write):
    path = write(RUNS[1], rows([0]), of=RUNS[0])
    with pytest.raises(StorageError, match=r"of the run digits-fc/bs16/seed1 expected, found one of .*/seed0"):
        collect(SPECTRUM, [path], RUNS)


def test_a_file_of_no_run_of_the_grid_is_refused(write):
    with pytest.raises(StorageError, match=r"seed7/spectrum\.csv: a file in the folder of a run of the grid expected"):
        collect(SPECTRUM, [write(RUNS[0] | {"seed": 7}, rows([0]))], RUNS)


def test_other_columns_are_refused(write):
    with pytest.raises(StorageError, match=r"spectrum\.csv: columns .* expected"):
        collect(SPECTRUM, [write(RUNS[0], rows([0]).drop(columns="trace"))], RUNS)
    with pytest.raises(StorageError, match=r"spectrum\.csv: columns .* expected"):
        collect(SPECTRUM, [write(RUNS[0], rows([0]).assign(more=1))], RUNS)


def test_tables_of_runs_and_over_runs_are_read_by_name(write, tmp_path):
    over_runs = pd.DataFrame({"item": ["CPU"], "value": ["x"]})
    storage.write_table(over_runs, tmp_path / "table1_machine.parquet", {})
    files = {
        "spectrum": [write(run, rows([0])) for run in RUNS],
        "outliers": [],
        "table1_machine": str(tmp_path / "table1_machine.parquet"),
        "absent": [],
    }
    found = read(files, RUNS)
    assert list(found) == ["spectrum", "outliers", "table1_machine"]
    assert len(found["spectrum"]) == 4
    assert "outliers_distance" in found["outliers"]
    pd.testing.assert_frame_equal(found["table1_machine"], over_runs)


def test_a_run_has_its_metrics_and_the_tables_of_all_measurements():
    assert {"metrics", "norms", "projections", "trimmed", "outlier_samples"} <= set(run_tables())
