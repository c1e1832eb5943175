"""Every file of a run names the run, and one of another run is refused."""

import pandas as pd
import pytest

from fishertail.errors import StorageError
from fishertail.results import of_run, storage
from fishertail.results.schema import Column, Table

RUN = {"dataset": "digits", "model": "fc", "batch_size": 16, "seed": 0, "architecture": {"learning_rate": 0.1}}
TABLE = Table("thing", "csv", "things", (Column("step", "steps"), Column("value", "a value")))
FRAME = pd.DataFrame({"step": [0, 1], "value": [2.5, 3.5]})


@pytest.fixture
def path(tmp_path):
    storage.write_table(FRAME, tmp_path / "thing.csv", {"rule": "r"} | of_run.identity(RUN))
    return tmp_path / "thing.csv"


def test_a_file_of_the_run_is_read(path):
    pd.testing.assert_frame_equal(of_run.read(path, TABLE, RUN), FRAME)


def test_the_network_is_no_part_of_the_name_of_a_run(path):
    assert len(of_run.read(path, TABLE, RUN | {"architecture": {}})) == 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("dataset", "mnist", "mnist-fc/bs16/seed0"),
        ("model", "conv", "digits-conv/bs16/seed0"),
        ("batch_size", 256, "digits-fc/bs256/seed0"),
        ("seed", 1, "digits-fc/bs16/seed1"),
    ],
)
def test_a_file_of_another_run_is_refused(path, key, value, expected):
    with pytest.raises(StorageError) as error:
        of_run.read(path, TABLE, RUN | {key: value})
    assert str(error.value) == f"{path}: a file of the run {expected} expected, found one of digits-fc/bs16/seed0"


def test_a_file_of_version_0_1_is_refused_with_a_way_out(tmp_path):
    storage.write_table(FRAME, tmp_path / "old.csv", {"rule": "r"})
    with pytest.raises(
        StorageError,
        match=r"old\.csv: a file that names its run expected, found one of version 0\.1, .* convert kept runs by",
    ):
        of_run.read(tmp_path / "old.csv", TABLE, RUN)


def test_other_columns_are_refused(tmp_path):
    storage.write_table(FRAME.assign(more=1), tmp_path / "more.csv", of_run.identity(RUN))
    with pytest.raises(StorageError, match=r"more\.csv: columns \['step', 'value'\] expected, found"):
        of_run.read(tmp_path / "more.csv", TABLE, RUN)


def test_the_run_of_a_path():
    runs = [RUN | {"seed": seed} for seed in (1, 11)]
    assert of_run.run_of_path("/a/runs/digits-fc/bs16/seed11/epochs0001-0002/x.csv", runs)["seed"] == 11
    assert of_run.run_of_path("/a/runs/digits-fc/bs16/seed1/x.csv", runs)["seed"] == 1
    with pytest.raises(StorageError, match="in the folder of a run of the grid expected"):
        of_run.run_of_path("/a/runs/digits-fc/bs16/seed2/x.csv", runs)
