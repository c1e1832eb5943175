"""What rules derive from the configuration: paths, inputs and parameters, with kept runs and without."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fishertail.errors import ConfigError
from fishertail.execution import plan
from fishertail.execution.plan import Plan
from fishertail.grid import config
from fishertail.results import archive, of_run, storage
from fishertail.results.run import Run

RUN = Run("digits", "fc", 256, 0)
PLACE = f"<results>/runs/{RUN.path}"
BLOCKS = ["epochs0001-0002", "epochs0003-0004", "epochs0005-0005"]


def grid(**keys) -> config.Config:
    tiny = {"datasets": ["digits"], "models": ["fc"], "batch_sizes": [256], "seeds": [0]}
    return config.complete()(**tiny | {"epochs": 5, "epochs_per_job": 2} | keys)


def wildcards(block: str = BLOCKS[0]) -> SimpleNamespace:
    return SimpleNamespace(dataset="digits", model="fc", batch_size="256", seed="0", block=block)


def filled(path: str) -> str:
    """A path of the rules with the wildcards of the run."""
    return path.format(**vars(wildcards()))


@pytest.fixture
def kept(tmp_path) -> Path:
    """A folder with the run, of 4 epochs in two blocks, without trimmed eigenvalues and outlier samples."""
    parameters = grid().parameters_of(RUN)
    record = {"parameters": {"run": parameters, "blocks": [[0, 1, 2], [3, 4]]}} | of_run.identity(parameters)
    names = ["metrics.csv", "outliers.csv", "ax_histogram.parquet", "ax_statistics.csv", "landmarks/spectrum.csv"]
    names += [f"{block}/{name}" for block in BLOCKS[:2] for name in ("metrics.csv", "spectrum.csv")]
    for name in names:
        storage.write_table(pd.DataFrame({"step": [0]}), tmp_path / "kept/runs" / RUN.path / name, record)
    return tmp_path / "kept"


def test_a_block_goes_on_from_the_one_before():
    made = Plan(grid())
    assert [made.previous_weights(wildcards(block)) for block in BLOCKS] == [
        [],
        [f"{plan.RUN}/{BLOCKS[0]}/checkpoints.safetensors"],
        [f"{plan.RUN}/{BLOCKS[1]}/checkpoints.safetensors"],
    ]
    assert [made.block_epochs(wildcards(block)) for block in BLOCKS] == [[0, 1, 2], [3, 4], [5]]
    assert [made.octaves(wildcards(block)) for block in BLOCKS] == [True, False, False]


def test_a_file_of_a_block_that_is_not_there_is_refused(kept):
    with pytest.raises(ConfigError, match="epochs0001-0003: its blocks are epochs0001-0002 to epochs0005-0005"):
        Plan(grid()).block_epochs(wildcards("epochs0001-0003"))
    with pytest.raises(ConfigError, match="no block epochs0001-0002: all of its blocks are kept"):
        Plan(grid(epochs=4, kept=[str(kept)])).block_epochs(wildcards())


def test_what_a_measurement_of_a_block_takes():
    made = Plan(grid())
    found = made.block_inputs(made.measurements["spectrum"])(wildcards())
    folder = f"{plan.RUN}/{{block}}"
    assert found == {
        "dataset": plan.DATASET,
        "checkpoints": f"{folder}/checkpoints.safetensors",
        "norms": f"{folder}/norms.parquet",
    }
    assert made.selection(made.measurements["norms"])(wildcards()) == {"epochs": (0, 1, 2), "octaves": True}


def test_landmarks_take_what_is_measured_of_them_from_their_blocks():
    made = Plan(grid())
    found = made.landmark_inputs(made.measurements["spectrum"])(wildcards())
    assert found["own_spectrum"] == [f"{PLACE}/{block}/spectrum.csv" for block in BLOCKS]
    assert found["checkpoints"] == [f"{PLACE}/{block}/checkpoints.safetensors" for block in BLOCKS]
    assert filled(found["norms"]) == f"{PLACE}/landmarks/norms.parquet"
    before = made.landmark_inputs(made.measurements["trimmed_eigenvalues"])(wildcards())
    assert before["own_trimmed"] == [f"{PLACE}/{BLOCKS[0]}/trimmed.csv"]  # before training


def test_a_table_over_runs_takes_blocks_and_landmarks():
    made = Plan(grid())
    assert made.files_of("spectrum") == [
        *(f"{PLACE}/{b}/spectrum.csv" for b in BLOCKS),
        f"{PLACE}/landmarks/spectrum.csv",
    ]
    assert made.files_of("trimmed") == [f"{PLACE}/{BLOCKS[0]}/trimmed.csv", f"{PLACE}/landmarks/trimmed.csv"]
    assert made.files_of("outliers") == [f"{PLACE}/outliers.csv"]
    assert made.files_of("metrics") == [f"{PLACE}/metrics.csv"]
    assert made.files_of("table1_machine") == ["<results>/tables/table1_machine.parquet"]
    assert made.files_of("metrics", "mnist") == []
    assert made.missing() == []


def test_a_kept_run_that_is_long_enough_is_taken_file_by_file(kept):
    made = Plan(grid(epochs=4, kept=[str(kept)]))
    place = f"{kept}/runs/{RUN.path}"
    assert made.new_blocks(RUN) == []
    assert made.files_of("metrics") == [f"{place}/metrics.csv"]
    assert made.files_of("outliers") == [f"{place}/outliers.csv"]
    spectra = [f"{place}/{folder}/spectrum.csv" for folder in (*BLOCKS[:2], "landmarks")]
    assert made.files_of("spectrum") == spectra
    assert made.block_metrics() == [f"{place}/{block}/metrics.csv" for block in BLOCKS[:2]]


def test_what_a_kept_run_lacks_is_said_and_does_not_make_it_unusable(kept):
    made = Plan(grid(epochs=4, kept=[str(kept)]))
    assert made.files_of("trimmed") == made.files_of("outlier_samples") == []
    (line,) = made.missing()
    assert line.startswith(f"{RUN.path}, kept in {kept}/runs/{RUN.path}: without ")
    assert "landmarks/trimmed.csv" in line
    assert "outlier_samples.csv" in line
    assert "spectrum.csv" not in line
    assert "norms" not in line  # which is never kept


NOISE = {"noise_scale": {"enabled": True}, "alignment": {"enabled": True}}


def test_pairs_take_the_last_block_before_that_is_measured_and_their_own():
    made = Plan(grid(measurements=NOISE | {"spectrum": {"checkpoints": [0, 5]}}))
    alignment = made.measurements["alignment"]
    assert made.files_of("alignment") == [f"{PLACE}/{BLOCKS[number]}/alignment.csv" for number in (0, 2)]
    first, last = (made.pair_inputs(alignment)(wildcards(BLOCKS[number])) for number in (0, 2))
    own = f"{plan.RUN}/{{block}}"
    assert first["eigenvectors"] == [f"{own}/eigenvectors.safetensors"]
    assert last["eigenvectors"] == [
        f"{plan.RUN}/{BLOCKS[0]}/eigenvectors.safetensors",
        f"{own}/eigenvectors.safetensors",
    ]
    assert last["checkpoints"] == [f"{plan.RUN}/{BLOCKS[0]}/checkpoints.safetensors", f"{own}/checkpoints.safetensors"]
    assert last.keys() == {
        "dataset", "checkpoints", "spectrum", "projections", "eigenvectors", "noise_scale", "mean_gradients"
    }  # fmt: skip


def test_pairs_are_where_all_that_they_need_takes_the_same_checkpoint():
    schedules = {"spectrum": {"checkpoints": [0, 3]}, "noise_scale": {"enabled": True, "checkpoints": [0, 4]}}
    made = Plan(grid(measurements=NOISE | schedules))
    assert made.files_of("alignment") == [f"{PLACE}/{BLOCKS[0]}/alignment.csv"]


def test_a_run_that_goes_on_starts_a_new_chain_of_pairs(kept):
    made = Plan(grid(epochs=7, kept=[str(kept)], measurements=NOISE))
    found = made.pair_inputs(made.measurements["alignment"])(wildcards("epochs0005-0006"))
    assert found["checkpoints"] == [f"{plan.RUN}/{{block}}/checkpoints.safetensors"]


def test_a_run_takes_the_tables_of_kept_blocks_too(kept):
    made = Plan(grid(epochs=7, kept=[str(kept)]))
    found = made.run_inputs(made.measurements["layers"])(wildcards())
    place, new = f"{kept}/runs/{RUN.path}", ["epochs0005-0006", "epochs0007-0007", "landmarks"]
    old = [f"{place}/{folder}/spectrum.csv" for folder in (*BLOCKS[:2], "landmarks")]
    assert sorted(found["spectrum"]) == sorted([*old, *(f"{PLACE}/{folder}/spectrum.csv" for folder in new)])
    assert found["projections"] == [f"{PLACE}/{folder}/projections.parquet" for folder in new]
    assert found["outliers"] == [f"{PLACE}/outliers.csv"]


def test_of_a_kept_run_is_made_what_its_tables_suffice_for(kept):
    made = Plan(grid(epochs=4, kept=[str(kept)]))
    place = f"{kept}/runs/{RUN.path}"
    assert made.files_of("layers") == [f"{PLACE}/layers.csv"]
    assert made.run_inputs(made.measurements["layers"])(wildcards())["outliers"] == [f"{place}/outliers.csv"]
    assert not any("layers" in line for line in made.missing())
    Path(f"{place}/ax_statistics.csv").rename(f"{place}/layers.csv")
    assert made.files_of("layers") == [f"{place}/layers.csv"]
    Path(f"{place}/layers.csv").unlink()
    assert made.files_of("layers") == []
    assert any("layers.csv" in line for line in made.missing())


def test_a_x_at_the_minimum_of_a_kept_run_is_there_or_missing_but_not_made(kept):
    made = Plan(grid(epochs=4, kept=[str(kept)]))
    place = f"{kept}/runs/{RUN.path}"
    assert made.files_of("ax_at_minimum") == []
    assert any("ax_at_minimum.parquet" in line for line in made.missing())
    Path(f"{place}/ax_statistics.csv").rename(f"{place}/ax_at_minimum.parquet")
    assert made.files_of("ax_at_minimum") == [f"{place}/ax_at_minimum.parquet"]
    assert not any("ax_at_minimum.parquet" in line for line in made.missing())
    found = Plan(grid(epochs=7, kept=[str(kept)])).run_inputs(made.measurements["ax_at_minimum"])(wildcards())
    assert found["metrics"] == f"{plan.RUN}/metrics.csv"
    assert found["own_ax_at_minimum"] == [f"{place}/ax_at_minimum.parquet"]


def test_a_kept_run_goes_on_from_its_last_weights(kept):
    made = Plan(grid(epochs=7, kept=[str(kept)]))
    place = f"{kept}/runs/{RUN.path}"
    assert [block.path for block in made.new_blocks(RUN)] == ["epochs0005-0006", "epochs0007-0007"]
    assert made.previous_weights(wildcards("epochs0005-0006")) == [f"{place}/{archive.LAST_WEIGHTS}"]
    assert made.metrics_parts(wildcards())[0] == f"{place}/metrics.csv"
    assert made.all_blocks(wildcards()) == [[0, 1, 2], [3, 4], [5, 6], [7]]
    assert made.new_block_epochs(wildcards()) == [[5, 6], [7]]
    assert made.files_of("metrics") == [f"{PLACE}/metrics.csv"]
    tables = made.table_inputs(made.measurements["outliers"])(wildcards())
    assert tables["kept"] == [f"{place}/outliers.csv"]
    assert [path.replace(plan.RUN, PLACE) for path in tables["norms"]] == [
        f"{PLACE}/{folder}/norms.parquet" for folder in ("epochs0005-0006", "epochs0007-0007", "landmarks")
    ]


def test_without_a_measurement_what_needs_it_is_left_out():
    without = {"trimmed_eigenvalues": {"enabled": False}}
    made, whole = Plan(grid(measurements=without)), Plan(grid())
    assert set(whole.figures) - set(made.figures) == {"fig6_trimmed_eigenvalues"}
    assert set(whole.tables) - set(made.tables) == {"trimmed_eigenvalue_table"}  # the other claims are judged


def test_a_figure_for_each_data_set_has_files_for_each():
    made = Plan(grid(datasets=["digits", "mnist"]))
    (figure,) = [each for each in made.figures.values() if each.rule == "fig2_3_ax_over_epochs"]
    stems = ("fig2_ax_over_epochs_digits", "fig3_ax_over_epochs_mnist")
    assert made.figure_files(figure, ["svg"]) == [f"<results>/figures/{stem}.svg" for stem in stems]
    inputs = made.figure_inputs(figure)({"dataset": "mnist"})
    assert inputs["metrics"] == ["<results>/runs/mnist-fc/bs256/seed0/metrics.csv"]


def test_the_page_is_made_again_when_a_caption_or_a_panel_changes():
    made = Plan(grid())
    hashes = {made.code_of_page()}
    name, figure = next(iter(made.figures.items()))
    made.figures[name] = replace(figure, caption="Another caption.")
    hashes.add(made.code_of_page())
    spectrum = made.measurements["spectrum"]
    made.measurements["spectrum"] = replace(spectrum, panel=replace(spectrum.panel, title="another"))
    hashes.add(made.code_of_page())
    assert len(hashes) == 3


def test_captions_are_files_that_are_written_only_when_they_change(tmp_path):
    made = Plan(grid())
    plan.captions(made.figures, made.tables, tmp_path)
    found = {path.stem: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(found) == {each.rule for each in made.figures.values()} | set(made.tables)
    assert "\\|a_x\\|" in (tmp_path / "fig6_trimmed_eigenvalues.rst").read_text()
    plan.captions(made.figures, made.tables, tmp_path)
    assert {path.stem: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == found
