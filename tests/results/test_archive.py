"""Finished runs, kept file by file."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from fishertail.errors import StorageError
from fishertail.results import archive, of_run, storage
from fishertail.results.run import Block

RUN = {"dataset": "digits", "model": "fc", "batch_size": 16, "seed": 0, "architecture": {"learning_rate": 0.1}}
PLACE = "runs/digits-fc/bs16/seed0"
BLOCKS = [[0, 1, 2], [3, 4]]
CHECKPOINTS, TABLES = ["spectrum.csv"], ["outliers.csv", "ax_histogram.parquet"]
FILES = [
    "metrics.csv",
    "outliers.csv",
    "ax_histogram.parquet",
    "epochs0001-0002/metrics.csv",
    "epochs0003-0004/metrics.csv",
    "epochs0001-0002/spectrum.csv",
    "epochs0003-0004/spectrum.csv",
    "landmarks/spectrum.csv",
]


def write(path: Path, blocks=BLOCKS, value: int = 1, data: str = "digits", rate: float = 0.1, **run) -> None:
    run = RUN | {"architecture": {"learning_rate": rate}} | run
    record = {"parameters": {"run": run, "blocks": blocks}, "data": [data]} | of_run.identity(run)
    if path.suffix == ".safetensors":
        storage.write_tensors({"weight": torch.tensor([value])}, path, record)
    else:
        storage.write_table(pd.DataFrame({"step": [0], "value": [value]}), path, record)


def write_as_0_1(path: Path, value: int = 1) -> None:
    """A converted table, which does not name the network."""
    record = {"parameters": {"options": {}}, "data": ["digits"]} | of_run.identity(RUN)
    storage.write_table(pd.DataFrame({"step": [0], "value": [value]}), path, record)


@pytest.fixture
def results(tmp_path) -> Path:
    """A finished run, with larger files beside what is kept."""
    for name in (*FILES, "epochs0001-0002/norms.parquet", "epochs0003-0004/checkpoints.safetensors"):
        write(tmp_path / "results" / PLACE / name)
    return tmp_path / "results"


def keep(results: Path, **options) -> tuple[Path, dict[str, list[str]]]:
    folder = results.parent / "kept"
    return folder / PLACE, archive.keep(results, folder, of_checkpoints=CHECKPOINTS, of_run=TABLES, **options)


def last_weights(block: Path, path: Path) -> None:
    trained = block / "checkpoints.safetensors"
    if trained.exists():
        path.write_bytes(trained.read_bytes())


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_the_tables_of_a_finished_run_are_kept_bit_for_bit(results):
    place, kept = keep(results)
    assert kept == {"digits-fc/bs16/seed0": []}
    assert files(place) == set(FILES)
    assert all((place / name).read_bytes() == (results / PLACE / name).read_bytes() for name in FILES)


def test_a_target_that_is_no_folder_is_named(results):
    (results.parent / "kept").write_text("")
    with pytest.raises(StorageError, match=r"/kept/runs/.*: cannot write: Not a directory"):
        keep(results)


def test_what_is_missing_is_named_and_the_rest_kept(results):
    (results / PLACE / "outliers.csv").unlink()
    (results / PLACE / "landmarks/spectrum.csv").unlink()
    place, kept = keep(results)
    assert kept == {"digits-fc/bs16/seed0": ["outliers.csv", "landmarks/spectrum.csv"]}
    assert files(place) == set(FILES) - {"outliers.csv", "landmarks/spectrum.csv"}


def test_what_a_schedule_leaves_out_of_the_last_blocks_is_not_missing(results):
    """As B before training, of which the first block alone has a file."""
    (results / PLACE / "epochs0003-0004/spectrum.csv").unlink()
    place, kept = keep(results)
    assert kept == {"digits-fc/bs16/seed0": []}
    assert files(place) == set(FILES) - {"epochs0003-0004/spectrum.csv"}


def test_a_run_that_is_not_finished_is_not_kept(results):
    (results / PLACE / "metrics.csv").unlink()
    place, kept = keep(results)
    assert kept == {}
    assert not place.exists()


def test_blocks_of_before_are_neither_kept_nor_left(results):
    write(results / PLACE / "epochs0003-0003/metrics.csv")
    place = results.parent / "kept" / PLACE
    write(place / "epochs0001-0001/metrics.csv")
    keep(results)
    assert files(place) == set(FILES)


def test_what_results_lack_stays_and_the_rest_is_replaced(results):
    """As of a run that went on from its last weights: its first block is kept alone."""
    place, _ = keep(results)
    for name in ("metrics.csv", "spectrum.csv"):
        (results / PLACE / "epochs0001-0002" / name).unlink()
    write(results / PLACE / "metrics.csv", value=2)
    assert keep(results)[1] == {"digits-fc/bs16/seed0": []}
    assert files(place) == set(FILES)
    assert storage.read_table(place / "metrics.csv")["value"].tolist() == [2]


@pytest.mark.parametrize("other", [{"rate": 0.2}, {"data": "changed"}])
def test_files_of_another_training_are_left_out_and_named(results, other):
    """As of a run that was trained again at another rate, or on other data, without a measurement that it had."""
    place, _ = keep(results, last_weights=last_weights)
    lacking = {"outliers.csv", "epochs0003-0004/spectrum.csv"}
    stale = results / PLACE / "landmarks/spectrum.csv"
    for path in (results / PLACE / name for name in FILES if results / PLACE / name != stale):
        path.unlink() if str(path.relative_to(results / PLACE)) in lacking else write(path, value=2, **other)
    (results / PLACE / "epochs0003-0004/checkpoints.safetensors").unlink()
    left_out = {}
    _, kept = keep(results, last_weights=last_weights, left_out=left_out.__setitem__)
    assert kept == {"digits-fc/bs16/seed0": ["outliers.csv", "landmarks/spectrum.csv"]}
    assert files(place) == set(FILES) - {*lacking, "landmarks/spectrum.csv"}
    assert all(storage.read_table(place / name)["value"].tolist() == [2] for name in files(place))
    old = {place / name for name in (*lacking, "landmarks/spectrum.csv", archive.LAST_WEIGHTS)}
    assert left_out.keys() == {*old, stale}
    why = "other data" if "data" in other else "architecture {'learning_rate': 0.1} instead of {'learning_rate': 0.2}"
    assert set(left_out.values()) == {why}


def test_weights_of_a_training_that_has_begun_again_are_not_kept_with_the_earlier_one(results):
    place, _ = keep(results, last_weights=last_weights)
    for name in ("metrics.csv", "checkpoints.safetensors"):
        write(results / PLACE / "epochs0003-0004" / name, value=2, rate=0.2)
    keep(results, last_weights=last_weights)
    assert storage.read_tensors(place / archive.LAST_WEIGHTS)["weight"].tolist() == [1]
    assert storage.read_table(place / "epochs0003-0004/metrics.csv")["value"].tolist() == [1]


def test_a_table_that_names_no_network_is_of_that_of_its_metrics(results):
    """As version 0.1 wrote those of a whole run."""
    place, _ = keep(results)
    write_as_0_1(place / "outliers.csv")
    (results / PLACE / "outliers.csv").unlink()
    assert keep(results)[1] == {"digits-fc/bs16/seed0": []}
    write(results / PLACE / "metrics.csv", rate=0.2)
    assert "outliers.csv" in keep(results)[1]["digits-fc/bs16/seed0"]


def test_last_weights_are_kept_where_they_are_wanted_and_stay(results):
    place, _ = keep(results, last_weights=last_weights)
    assert files(place) == {*FILES, archive.LAST_WEIGHTS}
    trained = results / PLACE / "epochs0003-0004/checkpoints.safetensors"
    weights = trained.read_bytes()
    assert (place / archive.LAST_WEIGHTS).read_bytes() == weights
    trained.unlink()
    keep(results, last_weights=last_weights)
    assert (place / archive.LAST_WEIGHTS).read_bytes() == weights


def test_a_failure_leaves_what_was_kept(results):
    place, _ = keep(results)

    def fail(block: Path, path: Path) -> None:
        raise StorageError("no weights")

    with pytest.raises(StorageError, match="no weights"):
        keep(results, last_weights=fail)
    assert files(place) == set(FILES)


def test_a_run_is_found_in_the_first_folder_that_has_it(results, tmp_path):
    place, _ = keep(results)
    other = tmp_path / "other"
    assert archive.find([other, tmp_path / "kept"], "digits-fc/bs16/seed0") == str(place)
    assert archive.find([other], "digits-fc/bs16/seed0") is None
    (other / PLACE).mkdir(parents=True)
    assert archive.find([str(other), tmp_path / "kept"], "digits-fc/bs16/seed0") == str(other / PLACE)
    assert archive.find([tmp_path / "kept"], "digits-fc/bs16/seed1") is None


def test_the_blocks_of_a_kept_run(results):
    place, _ = keep(results)
    assert archive.blocks(place) == [Block(1, 2), Block(3, 4)]
    assert archive.has(place, "landmarks/spectrum.csv")
    assert not archive.has(place, "landmarks")
    (place / "metrics.csv").unlink()
    with pytest.raises(StorageError, match=r"metrics\.csv: no such file"):
        archive.blocks(place)


@pytest.mark.parametrize("epochs", [2, 4])
def test_a_run_that_fits_has_no_faults(results, epochs):
    place, _ = keep(results)
    assert list(archive.faults(place, RUN, epochs)) == []


def test_a_run_of_fewer_epochs_is_refused_unless_it_can_go_on(results):
    place, _ = keep(results)
    (fault,) = archive.faults(place, RUN, 5)
    assert fault.startswith(f"{place}: 4 epochs, expected 5 or more, or last_weights.safetensors to go on from")
    keep(results, last_weights=last_weights)
    assert list(archive.faults(place, RUN, 5)) == []


def test_a_run_of_another_network_is_refused(results):
    place, _ = keep(results)
    (fault,) = archive.faults(place, RUN | {"architecture": {"learning_rate": 0.2}}, 4)
    assert fault == f"{place}: trained with architecture {{'learning_rate': 0.1}}, expected {{'learning_rate': 0.2}}"


def test_a_file_of_another_training_is_refused(results):
    place, _ = keep(results)
    write(place / "epochs0003-0004/spectrum.csv", rate=0.2)
    write(place / "ax_histogram.parquet", data="changed")
    write_as_0_1(place / "outliers.csv")
    (place / "notes.csv").write_text("of my own")
    assert list(archive.faults(place, RUN, 4)) == [
        f"{place}/ax_histogram.parquet: unlike metrics.csv, of a training with other data (remove this file)",
        f"{place}/epochs0003-0004/spectrum.csv: unlike metrics.csv, of a training with architecture "
        "{'learning_rate': 0.2} instead of {'learning_rate': 0.1} (remove this file)",
    ]


def test_a_run_in_the_folder_of_another_is_refused(results):
    place, _ = keep(results)
    write(place / "metrics.csv", seed=1)
    (fault,) = archive.faults(place, RUN, 4)
    assert fault.endswith("a file of the run digits-fc/bs16/seed0 expected, found one of digits-fc/bs16/seed1")


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("garbage")])
def test_a_run_without_its_metrics_is_refused(results, spoil):
    place, _ = keep(results)
    spoil(place / "metrics.csv")
    (fault,) = archive.faults(place, RUN, 4)
    assert fault.startswith(f"{place}/metrics.csv: ")
