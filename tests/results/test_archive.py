"""Finished runs, kept file by file."""

from pathlib import Path

import pandas as pd
import pytest

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


def write(path: Path, blocks=BLOCKS, value: int = 1, **run) -> None:
    record = {"parameters": {"run": RUN | run, "blocks": blocks}} | of_run.identity(RUN | run)
    storage.write_table(pd.DataFrame({"step": [0], "value": [value]}), path, record)


@pytest.fixture
def results(tmp_path) -> Path:
    """A finished run, with larger files beside what is kept."""
    for name in (*FILES, "epochs0001-0002/norms.parquet"):
        write(tmp_path / "results" / PLACE / name)
    (tmp_path / "results" / PLACE / "epochs0003-0004/checkpoints.safetensors").write_bytes(b"weights")
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


def test_last_weights_are_kept_where_they_are_wanted_and_stay(results):
    place, _ = keep(results, last_weights=last_weights)
    assert files(place) == {*FILES, archive.LAST_WEIGHTS}
    assert (place / archive.LAST_WEIGHTS).read_bytes() == b"weights"
    (results / PLACE / "epochs0003-0004/checkpoints.safetensors").unlink()
    keep(results, last_weights=last_weights)
    assert (place / archive.LAST_WEIGHTS).read_bytes() == b"weights"


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
