"""What the rules of a run do, on a small real run: its files fit together, and those of another run are refused."""

from dataclasses import replace

import pandas as pd
import pytest

from fishertail.data import dataset
from fishertail.errors import StorageError
from fishertail.execution import steps
from fishertail.measurements.measurement import measurements
from fishertail.results import of_run, storage
from fishertail.training.checkpoints import read, read_last
from tests.execution.small_run import BLOCKS, RUN, Files, job, options, outputs


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory) -> Files:
    return Files.new(tmp_path_factory.mktemp("run"), digits)


def test_blocks_have_their_checkpoints_and_go_on_from_each_other(run):
    table = storage.read_table(run.metrics)
    assert table["step"].tolist() == [0, 1, 2, 4, 6, 8]
    assert table["epoch"].tolist() == [0, 0.5, 1, 2, 3, 4]
    assert read_last(run.checkpoints[0])[0] == 4
    assert storage.read_provenance(run.metrics)["parameters"]["blocks"] == BLOCKS


def test_training_does_not_go_on_with_other_data(run, tmp_path):
    data = dataset.read(run.data)
    altered = replace(data, train_labels=(data.train_labels + 1) % 10, content_hash="of other labels")
    dataset.write(altered, tmp_path / "digits.safetensors", {"data": [altered.content_hash]})
    files = {"dataset": str(tmp_path / "digits.safetensors"), "previous": [run.checkpoints[0]]}
    found = {name: str(tmp_path / name) for name in ("checkpoints", "metrics")}
    with pytest.raises(StorageError, match="weights trained on the data set as it is expected, found those of another"):
        steps.train(job(epochs=BLOCKS[1], octaves=False), files, found)


@pytest.mark.parametrize(("number", "all_steps", "some"), [(0, [0, 1, 2, 4], [0]), (1, [6, 8], [6])])
def test_a_block_is_measured_where_its_schedule_says(run, number, all_steps, some):
    folder = run.place / f"block{number}"
    assert storage.read_table(folder / "norms.parquet")["step"].unique().tolist() == all_steps
    assert storage.read_table(folder / "spectrum.csv")["step"].unique().tolist() == some
    assert {name.split("/")[0] for name in storage.read_tensors(folder / "eigenvectors.safetensors")} == {
        f"step{step:08d}" for step in some
    }


def test_every_file_names_its_run_its_data_and_its_machine(run):
    for path in (run.place / "block1").iterdir():
        record = storage.read_provenance(path)
        of_run.check(path, record, RUN)
        assert len(record["data"]) == 1
        assert record["machine"]["threads"] == 1


def test_landmarks_are_measured_once_and_taken_from_blocks_where_these_have_them(run):
    """The validation loss falls to the end, so that the last checkpoint alone is one."""
    metrics = storage.read_table(run.metrics)
    lowest = metrics[metrics["epoch"].isin([1, 2, 3, 4])].sort_values("validation_loss").iloc[0]
    expected = sorted({step for step in (lowest["step"], 2 * lowest["step"], 8) if step <= 8})
    norms, spectrum = run.landmarks("norms"), run.landmarks("spectrum")
    assert norms["step"].unique().tolist() == spectrum["step"].unique().tolist() == expected
    whole = pd.concat([storage.read_table(run.place / f"block{n}/norms.parquet") for n in (0, 1)])
    of_blocks = whole[whole["step"].isin(expected)].reset_index(drop=True)
    pd.testing.assert_frame_equal(norms, of_blocks, check_exact=True)
    assert (run.landmarks("trimmed_eigenvalues")["step"].unique() == expected).all()


def test_tables_are_made_of_blocks_and_landmarks_with_each_checkpoint_once(run):
    for name in ("norms", "spectrum"):
        run.landmarks(name)
    files = {
        name: [str(run.place / folder / f"{name}.parquet") for folder in ("block0", "block1", "landmarks")]
        for name in ("norms", "projections")
    }
    spectra = [str(run.place / folder / "spectrum.csv") for folder in ("block0", "block1", "landmarks")]
    found = outputs("outlier_samples", run.place)
    steps.measure_tables(job(**options("outlier_samples")), files | {"spectrum": spectra, "kept": []}, found)
    counted = outputs("outliers", run.place)
    steps.measure_tables(job(**options("outliers")), {"norms": files["norms"], "kept": []}, counted)
    table = storage.read_table(counted["outliers"])
    assert table["step"].unique().tolist() == [0, 1, 2, 4, 6, 8]
    assert not table.duplicated(["step", "layer"]).any()
    samples = storage.read_table(found["outlier_samples"])
    assert set(samples["step"]) <= {0, 6, 8} | set(storage.read_table(spectra[2])["step"])
    assert not samples.duplicated(["step", "sample"]).any()


@pytest.fixture(scope="module")
def pairs(run) -> pd.DataFrame:
    """The pairs of both blocks, in the order of steps."""
    names = ("spectrum", "noise_scale")
    made = [table for name in names for table in measurements()[name].tables]
    for number, epochs in enumerate(BLOCKS):
        run.measure("noise_scale", number, epochs)
        folders = [run.place / f"block{n}" for n in range(number + 1)]
        files = {table.name: [str(folder / table.file) for folder in folders] for table in made}
        files |= {"dataset": run.data, "checkpoints": run.checkpoints[: number + 1]}
        steps.measure_pairs(job(**options("alignment")), files, outputs("alignment", folders[-1]))
    return pd.concat([storage.read_table(run.place / f"block{number}/alignment.csv") for number in (0, 1)])


def test_pairs_go_over_blocks(run, pairs):
    network = pairs[pairs["layer"] == "network"].set_index("step")
    assert network.index.tolist() == [0, 6]  # the first epochs of the blocks, where the spectrum is measured
    assert network.loc[0, ["displacement", "cosine_before", "leading_share"]].isna().all()
    weights = [read(run.checkpoints[number], [step])[step] for number, step in ((0, 0), (1, 6))]
    way = [(weights[1][name] - weights[0][name]).double().square().sum() for name in weights[0]]
    assert network.loc[6, "displacement"] == pytest.approx(float(sum(way)) ** 0.5, rel=1e-6)
    vectors = [
        storage.read_tensors(run.place / f"block{number}/eigenvectors.safetensors")[f"step{step:08d}/network"][0]
        for number, step in ((0, 0), (1, 6))
    ]
    assert network.loc[6, "cosine_before"] == pytest.approx(abs(float(vectors[0] @ vectors[1])), abs=1e-5)
    assert 0 < network.loc[6, "leading_share"] < 1


def test_pairs_start_a_new_chain_where_no_block_is_before(run, pairs, tmp_path):
    made = [table for name in ("spectrum", "noise_scale") for table in measurements()[name].tables]
    files = {table.name: [str(run.place / "block1" / table.file)] for table in made}
    files |= {"dataset": run.data, "checkpoints": run.checkpoints[1:]}
    steps.measure_pairs(job(**options("alignment")), files, outputs("alignment", tmp_path))
    alone, whole = storage.read_table(tmp_path / "alignment.csv"), pairs[pairs["step"] == 6].reset_index(drop=True)
    assert alone["displacement"].isna().all()
    pd.testing.assert_series_equal(alone["cosine_mean_gradient"], whole["cosine_mean_gradient"])


def test_a_run_is_measured_from_the_tables_of_its_blocks_and_landmarks_each_row_once(run, pairs):
    folders = [run.place / name for name in ("block0", "block1", "block1")]  # as landmarks repeat it
    files = {"noise_scale": [str(folder / "noise_scale.csv") for folder in folders]}
    found = outputs("drift_to_diffusion", run.place)
    steps.measure_run(job(**options("drift_to_diffusion")), files, found)
    table = storage.read_table(found["drift_to_diffusion"]).set_index("layer")
    noise = pd.concat([storage.read_table(folder / "noise_scale.csv") for folder in folders[:2]])
    ratios = noise.pivot(index="layer", columns="step", values="signal_to_noise").loc[table.index]
    assert list(ratios) == [0, 6]
    assert table["last_ratio"].tolist() == ratios[6].tolist()
    assert table["largest_ratio"].tolist() == ratios.max(axis=1).tolist()
    record = storage.read_provenance(found["drift_to_diffusion"])
    of_run.check("table", record, RUN)
    assert len(record["data"]) == 1


def test_a_run_without_files_of_a_table_has_it_without_rows(run, pairs, tmp_path):
    steps.measure_run(
        job(**options("drift_to_diffusion")), {"noise_scale": []}, outputs("drift_to_diffusion", tmp_path)
    )
    assert not len(storage.read_table(tmp_path / "drift_to_diffusion.csv"))


def _minimum(run, folder, **changes):
    """ax_at_minimum of the run, and where it is written."""
    blocks = [run.place / f"block{number}" for number in range(len(BLOCKS))]
    made = measurements()["spectrum"].tables
    files = {t.name: [str(block / t.file) for block in blocks] for t in made if t.suffix != "safetensors"}
    files |= {"metrics": run.metrics, "own_ax_at_minimum": []} | changes
    found = outputs("ax_at_minimum", folder)
    steps.measure_run(job(**options("ax_at_minimum")), files, found)
    return storage.read_table(found["ax_at_minimum"]), found["ax_at_minimum"]


@pytest.mark.parametrize(("step", "samples"), [(4, 0), (6, 120)])  # 4 was not measured
def test_a_x_at_the_lowest_validation_loss_is_that_of_its_checkpoint(run, tmp_path, step, samples):
    table = storage.read_table(run.metrics).assign(validation_loss=1.0)
    table.loc[table["step"] == step, "validation_loss"] = 0.5
    storage.write_table(table, tmp_path / "metrics.csv", storage.read_provenance(run.metrics))
    found, _ = _minimum(run, tmp_path, metrics=str(tmp_path / "metrics.csv"))
    assert len(found) == samples
    if samples:
        projections = storage.read_table(run.place / "block1/projections.parquet").query("step == @step")
        pd.testing.assert_frame_equal(found, projections.reset_index(drop=True))


def test_where_a_x_is_gone_that_of_the_kept_run_stays_as_long_as_it_is_of_the_minimum(run, tmp_path):
    table = storage.read_table(run.metrics)
    table["validation_loss"] = (table["step"] != 6).astype(float)
    storage.write_table(table, tmp_path / "metrics.csv", storage.read_provenance(run.metrics))
    metrics = str(tmp_path / "metrics.csv")
    expected, kept = _minimum(run, tmp_path, metrics=metrics)
    assert len(expected) == 120
    found, _ = _minimum(run, tmp_path / "again", metrics=metrics, projections=[], own_ax_at_minimum=[kept])
    pd.testing.assert_frame_equal(found, expected)
    old = tmp_path / "old.parquet"
    storage.write_table(expected.assign(step=expected["step"] - 1), old, storage.read_provenance(kept))
    found, _ = _minimum(run, tmp_path / "moved", metrics=metrics, projections=[], own_ax_at_minimum=[str(old)])
    assert not len(found)


def test_files_of_another_run_are_refused(run, tmp_path):
    other = job(run=RUN | {"seed": 1}, epochs=[3, 4], octaves=False)
    made = {"checkpoints": str(tmp_path / "c.safetensors"), "metrics": str(tmp_path / "m.csv")}
    with pytest.raises(StorageError, match=r"of the run digits-fc/bs60/seed1 expected, found one of .*seed0"):
        steps.train(other, {"dataset": run.data, "previous": run.checkpoints[:1]}, made)
    with pytest.raises(StorageError, match=r"of the run digits-fc/bs60/seed1 expected, found one of .*seed0"):
        steps.put_metrics_together(other, [str(run.place / "block0/metrics.csv")], {"metrics": made["metrics"]})
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_step_are_refused(run, tmp_path):
    this = job(epochs=[4, 5], octaves=False)
    made = {"checkpoints": str(tmp_path / "c.safetensors"), "metrics": str(tmp_path / "m.csv")}
    with pytest.raises(StorageError, match="weights of step 6 expected, found those of 4"):
        steps.train(this, {"dataset": run.data, "previous": run.checkpoints[:1]}, made)
