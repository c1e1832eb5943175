"""The configuration: its defaults, the grid it spans, and one message that lists every fault with its dotted path."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from fishertail.errors import ConfigError
from fishertail.grid import checks, config
from fishertail.results import of_run, storage

ROOT = Path(__file__).parents[2]
PAPER = yaml.safe_load((ROOT / "config.yaml").read_text())


def overlay(**keys) -> dict:
    """config.yaml with `keys` laid over it, as Snakemake does."""
    raw = copy.deepcopy(PAPER)
    update_config(raw, keys)
    return raw


def faults(raw) -> list[str]:
    with pytest.raises(ConfigError) as error:
        checks.load(raw)
    first, *lines = str(error.value).splitlines()
    assert first == f"the configuration has {len(lines)} fault(s):"
    return [line.strip() for line in lines]


def test_config_yaml_holds_the_defaults_but_for_the_epochs_of_the_paper_grid():
    general = overlay(epochs=30, epochs_per_job=10, measurements={"spectrum": {"checkpoints": "all"}})
    assert checks.load(general) == config.default() == checks.load({})


def test_every_run_of_the_paper_grid_has_fifteen_epochs_with_eigenpairs_and_most_of_the_early_ones():
    grid = checks.load(PAPER)
    for run in grid.runs:
        found = [grid.checkpoints_of("spectrum", block) for block in grid.blocks(run)]
        wanted = [epoch for selection in found for epoch in selection.epochs]
        assert len(wanted) >= 15
        assert wanted[:9] == [*range(9)]
        assert found[0].octaves


def test_the_schema_in_the_repository_is_that_of_the_model():
    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == config.schema(), "the configuration's model has changed: write its schema by `make schema`"


def test_config_yaml_satisfies_the_schema():
    jsonschema.validate(PAPER, config.schema())


OVERLAYS = ["profiles/demo/grid.yaml", "docs/reproduction/grid.yaml", "docs/reproduction/earlier/variants.yaml"]
EXTENSIONS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "extensions").glob("*.yaml"))


@pytest.mark.parametrize("path", OVERLAYS + EXTENSIONS)
def test_overlays_are_valid_and_the_runs_that_they_keep_fit(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    checks.load(overlay(**yaml.safe_load((ROOT / path).read_text())))


def fc(**keys) -> dict:
    return {"architectures": {"fc": keys}}


def measured(**keys) -> dict:
    return {"measurements": keys}


OF_NORMS = ("spectrum", "ax_histogram", "ax_statistics", "outlier_samples", "trimmed_eigenvalues", "fit", "layers")
OF_NORMS += ("trimmed_both_ends", "ax_at_minimum")
KNOWN = "alexnet, conv, fc, googlenet, resnet18, vit"
FAULTS = [
    ({"seed": [1]}, "seed: unknown key"),
    (fc(lerning_rate=1), "architectures.fc.lerning_rate: unknown key"),
    (measured(ax_histogram={"bins": 3}), "measurements.ax_histogram.bins: unknown key"),
    (measured(curvature={"enabled": True}), "measurements.curvature: unknown key"),
    ({"analysis": {"tolerance": 1e-3}}, "analysis: since version 0.2 the section measurements"),
    ({"machine": {"nodes": 4}}, "machine.nodes: unknown key"),
    ({"datasets": "mnist"}, "datasets: input should be a valid list, found 'mnist'"),
    ({"seeds": [0, 1.5]}, "seeds.1: input should be a valid integer, found 1.5"),
    ({"seeds": [0, True]}, "seeds.1: a whole number expected, found True"),
    ({"seeds": [3, 3]}, "seeds: entries must be distinct, found [3, 3]"),
    ({"batch_sizes": [0]}, "batch_sizes.0: input should be greater than or equal to 1, found 0"),
    ({"epochs": "many"}, "epochs: input should be a valid integer or a valid dictionary, found 'many'"),
    ({"epochs": True}, "epochs: a whole number expected, found True"),
    ({"epochs": {"default": 3, "mnist-fc": 0}}, "epochs.mnist-fc: input should be greater than or equal to 1, found 0"),
    ({"epochs": {"default": 3, "mnist-rnn": 4}}, f"epochs.mnist-rnn: unknown model 'rnn', expected one of {KNOWN}"),
    ({"epochs_per_job": {"mnist-rnn": 4}}, f"epochs_per_job.mnist-rnn: unknown model 'rnn', expected one of {KNOWN}"),
    (
        {"precision": {"default": "float32", "mnist-rnn": "bfloat16"}},
        f"precision.mnist-rnn: unknown model 'rnn', expected one of {KNOWN}",
    ),
    ({"precision": "float16"}, "precision"),
    ({"step_checkpoints": "sometimes"}, "step_checkpoints: input should be a valid boolean"),
    (fc(learning_rate=0), "architectures.fc.learning_rate: input should be greater than 0, found 0"),
    (fc(learning_rate=-0.1), "architectures.fc.learning_rate: input should be greater than 0, found -0.1"),
    (fc(learning_rate=True), "architectures.fc.learning_rate: a number expected, found True"),
    (fc(learning_rate=float("inf")), "architectures.fc.learning_rate: input should be a finite number, found inf"),
    (fc(hidden_widths=[500, "wide"]), "architectures.fc.hidden_widths.1: input should be a valid integer"),
    (fc(hidden_widths=None), "architectures.fc.hidden_widths: input should be a valid list, found None"),
    (fc(channels=[8] * 4), "architectures.fc.channels: unknown key"),
    (fc(arguments={"depth": 3}), "architectures.fc.arguments: unknown key"),
    (fc(factory="networks:two"), "architectures.fc.factory: unknown key"),
    (fc(initialisation="he"), "architectures.fc.initialisation: input should be 'lecun_normal' or 'torch', found 'he'"),
    (fc(loss="hinge"), "architectures.fc.loss: input should be 'cross_entropy' or 'squared_error', found 'hinge'"),
    (
        fc(loss="squared_error") | measured(sample_scores={"enabled": True}),
        "measurements.sample_scores.enabled: false expected for fc, whose loss is squared_error (sample_scores: plain",
    ),
    (fc(figure_layer="fc6"), "architectures.fc.figure_layer: one of fc1, fc2, fc3, fc4, fc5, network expected, found"),
    ({"architectures": {"conv": {"channels": [8]}}}, "architectures.conv.channels: list should have at least 4 items"),
    ({"architectures": {"vit": {"patch": 0}}}, "architectures.vit.patch: input should be greater than or equal to 1"),
    ({"datasets": ["digits"], "batch_sizes": [1437, 1438]}, "batch_sizes.1: at most 1437 (the training samples of"),
    (
        {"datasets": ["digits"]} | measured(spectrum={"eigenpairs": 1438}),
        "measurements.spectrum.eigenpairs: at most 1437 (the training samples of digits) expected, found 1438",
    ),
    (
        {"datasets": ["digits"]} | measured(true_fisher={"enabled": True, "eigenpairs": 1438}),
        "measurements.true_fisher.eigenpairs: at most 1437 (the training samples of digits) expected, found 1438",
    ),
    ({"datasets": ["mnist"], "batch_sizes": [60_001]}, "batch_sizes.0: at most 60000 (the training samples of mnist)"),
    (
        {"datasets": ["mnist", "svhn"]},
        "datasets.1: unknown data set 'svhn', expected one of digits, mnist, cifar10, ",
    ),
    ({"models": ["fc", "resnet"]}, f"models.1: unknown model 'resnet', expected one of {KNOWN}"),
    ({"only": ["mnist-fc/*", "svhn-*"]}, "only.1: a pattern of runs such as mnist-fc/bs16/seed0 expected, found"),
    ({"epochs": {"default": 3, 1: 3}}, "epochs.1: input should be a valid string, found 1"),
    ({"pathvars": {"result": "mine"}}, "pathvars.result: input should be 'results', 'logs' or 'benchmarks', found"),
    ({"pathvars": {"results": ""}}, "pathvars.results: string should match pattern '^[^<>{}]+$', found ''"),
    ({"pathvars": {"benchmarks": "<results>/times"}}, "pathvars.benchmarks: string should match pattern '^[^<>{}]+$'"),
    ({"kept": ["nowhere"]}, "kept.0: a folder with finished runs in runs/ expected, found 'nowhere'"),
    (
        measured(spectrum={"checkpoints": [1, 5, 3]}),
        "measurements.spectrum.checkpoints: epochs must be strictly increasing, found [1, 5, 3]",
    ),
    (
        measured(spectrum={"checkpoints": "some"}),
        "measurements.spectrum.checkpoints: all, landmarks, '4 per octave', or a list of epochs expected, found 'some'",
    ),
    (
        measured(spectrum={"checkpoints": [1, "x"]}),
        "measurements.spectrum.checkpoints: epochs, and the word steps for the checkpoints inside the first two, exp",
    ),
    (
        measured(ax_statistics={"checkpoints": "all"}),
        "measurements.ax_statistics.checkpoints: unknown key",
    ),
    (
        measured(norms={"enabled": False}, **{name: {"enabled": False} for name in OF_NORMS}),
        "measurements.norms.enabled: true expected, since outliers takes its tables; found False",
    ),
    (
        measured(norms={"checkpoints": [0, 1, "steps"]}),
        "measurements.spectrum.checkpoints: only checkpoints of measurements.norms expected, whose tables it takes, "
        "found epochs 2, 3, 4, 5, 6 of mnist-fc/bs16/seed0",
    ),
    (
        measured(norms={"checkpoints": list(range(801))}),
        "measurements.spectrum.checkpoints: only checkpoints of measurements.norms expected, whose tables it takes, "
        "found steps inside epochs of mnist-fc/bs16/seed0",
    ),
    (
        measured(spectrum={"layers": ["fc2", "fc4", "fc9"]}),
        "measurements.spectrum.layers.2: one of conv1, conv2, conv3, conv4, fc1, fc2, fc3",
    ),
    (
        measured(spectrum={"layers": ["fc2"]}),
        "measurements.spectrum.layers: the figure layer 'fc4' of fc expected",
    ),
    (
        measured(spectrum={"tolerance": 1}),
        "measurements.spectrum.tolerance: input should be less than 1, found 1",
    ),
    (
        measured(trimmed_eigenvalues={"fraction": 0}),
        "measurements.trimmed_eigenvalues.fraction: input should be greater than 0",
    ),
    (
        measured(outliers={"reading": "both"}),
        "measurements.outliers.reading: input should be 'distance' or 'norm', found 'both'",
    ),
    (
        measured(ax_histogram={"smallest": 2e4}),
        "measurements.ax_histogram: smallest less than largest (10000.0) expected, found 20000.0",
    ),
    ({"machine": {"device": "CUDA 1"}}, "machine.device: auto, or a device as torch names it"),
    ({"machine": {"memory_budget": "much"}}, "machine.memory_budget: input should be 'auto' or a valid number"),
    ({"machine": {"runtime_margin": 0.5}}, "machine.runtime_margin: input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("keys", "expected"), FAULTS, ids=[fault.split(": ")[0] for _, fault in FAULTS])
def test_a_fault_is_one_line_with_its_dotted_path(keys, expected):
    (line,) = faults(overlay(**keys))
    assert line.startswith(expected)


@pytest.mark.parametrize(("key", "value"), [("epochs", 3), ("epochs_per_job", 3), ("precision", "bfloat16")])
def test_what_is_said_by_run_needs_a_default(key, value):
    (line,) = faults(PAPER | {key: {"mnist-fc": value}})
    assert line.startswith(f"{key}: a mapping needs the key 'default', found {{'mnist-fc': {value!r}}}")


def test_the_precision_by_run_is_named_where_it_is_not_the_default():
    grid = config.complete()(precision={"default": "float32", "mnist-fc/bs256": "bfloat16"})
    named = {run.path: grid.parameters_of(run)["architecture"].get("precision") for run in grid.runs}
    assert {path for path, name in named.items() if name} == {f"mnist-fc/bs256/seed{seed}" for seed in (0, 1, 2)}
    assert set(named.values()) == {None, "bfloat16"}


def test_all_faults_are_in_one_message_however_they_hide_each_other():
    raw = overlay(
        typo=1,
        datasets=["mnist", "svhn"],
        models=["fc", "resnet"],
        batch_sizes=[16, 60_001],
        epochs=[10],
        epochs_per_job=0,
        architectures={"fc": {"learning_rate": 0, "figure_layer": "fc9"}, "conv": {"colour": "red"}},
        measurements={"spectrum": {"checkpoints": [3, 2], "layers": ["fc77"]}, "ax_histogram": {"smallest": 0}},
        machine={"memory_budget": -1},
    )
    assert sorted(line.split(": ")[0] for line in faults(raw)) == [
        "architectures.conv.colour",
        "architectures.fc.figure_layer",
        "architectures.fc.learning_rate",
        "batch_sizes.1",
        "datasets.1",
        "epochs",
        "epochs_per_job",
        "machine.memory_budget",
        "measurements.ax_histogram.smallest",
        "measurements.spectrum.checkpoints",
        "measurements.spectrum.layers.0",
        "models.1",
        "typo",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        {1: 2},
        {"measurements": None},
        {"measurements": {"norms": 3}},
        {"architectures": {"my-net": {}}},
        {"architectures": 3},
    ],
)
def test_a_configuration_of_another_shape_is_no_crash(raw):
    assert faults(raw)


def test_files_with_braces_in_their_names_are_named(tmp_path):
    """Snakemake takes them for wildcards, and says so in the middle of a plan."""
    folder = tmp_path / "data{x}"
    folder.mkdir()
    np.savez(folder / "mine.npz", train_labels=np.zeros(20, dtype=np.int64))
    (line,) = faults(overlay(datasets=["mine"], batch_sizes=[10], machine={"data_dir": str(folder)}))
    assert line == f"datasets.0: files without braces in their names expected, found {folder}/mine.npz"


def test_a_batch_larger_than_a_npz_file_is_a_fault(tmp_path):
    np.savez(tmp_path / "mine.npz", train_labels=np.zeros(20, dtype=np.int64))
    (line,) = faults(overlay(datasets=["mine"], batch_sizes=[20, 21], machine={"data_dir": str(tmp_path)}))
    assert line == "batch_sizes.1: at most 20 (the training samples of mine) expected, found 21"


def test_an_unknown_data_set_is_told_where_it_was_looked_for(tmp_path):
    (line,) = faults(overlay(datasets=["mine"], machine={"data_dir": str(tmp_path)}))
    assert f"a file {tmp_path}/mine.npz" in line
    assert f"a folder {tmp_path}/mine/train/<class>/" in line


@pytest.fixture
def with_factory(tmp_path, monkeypatch):
    """A configuration whose only model comes from a factory with the layers `stem` and `head`."""
    (tmp_path / "networks.py").write_text(
        "from collections import OrderedDict\n"
        "from torch import nn\n"
        "def two(shape, classes, width):\n"
        "    layers = [('stem', nn.Linear(3, width)), ('relu', nn.ReLU()), ('head', nn.Linear(width, classes))]\n"
        "    return nn.Sequential(OrderedDict(layers))\n"
        "def none(shape, classes, width):\n"
        "    return nn.Flatten()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def make(layers="all", **keys):
        mine = {"factory": "networks:two", "arguments": {"width": 4}, "learning_rate": 0.1, "figure_layer": "head"}
        return overlay(
            models=["mine"], architectures={"mine": mine | keys}, measurements={"spectrum": {"layers": layers}}
        )

    return make


def test_a_model_from_a_factory_is_taken(with_factory):
    assert checks.load(with_factory(layers=["stem", "head"])).models == ["mine"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"factory": "no.such.module:f"},
            "factory: an importable module expected, found 'no.such.module' (for one in src/: pip install -e ., or ",
        ),
        ({"factory": "networks"}, "factory: string should match pattern"),
        ({"factory": "networks:three"}, "factory: calling networks:three failed: module 'networks' has no attribute"),
        ({"arguments": {}}, "factory: calling networks:two failed: two() missing 1 required positional argument"),
        ({"factory": "networks:none"}, "factory: a network with parameters expected, that of networks:none has none"),
        ({"figure_layer": "fc4"}, "figure_layer: one of stem, head, network expected, found 'fc4'"),
        ({"hidden_widths": [3]}, "hidden_widths: unknown key"),
        ({"loss": "hinge"}, "loss: input should be 'cross_entropy' or 'squared_error', found 'hinge'"),
        ({"factory": None}, "factory: input should be a valid string, found None"),
    ],
)
def test_faults_of_a_factory(with_factory, keys, expected):
    (line,) = faults(with_factory(**keys))
    assert line.startswith(f"architectures.mine.{expected}")


def test_layers_are_checked_against_those_of_the_factorys_model(with_factory):
    (line,) = faults(with_factory(layers=["head", "fc4"]))
    assert line == "measurements.spectrum.layers.1: one of head, network, stem expected, found 'fc4'"


def test_digits_from_the_command_line_are_numbers():
    found = checks.load(overlay(seeds=["0", "2"], batch_sizes=["16"], epochs="3"))
    assert (found.seeds, found.batch_sizes, found.epochs) == ([0, 2], [16], 3)


def test_a_measurement_that_is_not_wanted_is_not_made():
    grid = checks.load(overlay(measurements={"trimmed_eigenvalues": {"enabled": False}}))
    assert "trimmed_eigenvalues" not in grid.enabled
    assert set(config.default().enabled) - set(grid.enabled) == {"trimmed_eigenvalues"}


def test_measurements_that_know_the_squared_error_are_taken():
    of_gaussian = {"true_fisher": {"enabled": True}, "eigenvalue_statistics": {"enabled": True}}
    grid = checks.load(overlay(models=["fc"]) | fc(loss="squared_error") | measured(**of_gaussian))
    assert set(of_gaussian) <= set(grid.enabled)


def test_todays_networks_are_models_and_their_layers_are_known():
    raw = {"models": ["vit"], "epochs": 30, "measurements": {"spectrum": {"layers": ["net.heads.head", "network"]}}}
    assert checks.load(raw).models == ["vit"]
    (line,) = faults({"models": ["vit"], "architectures": {"vit": {"figure_layer": "heads"}}})
    assert line.startswith("architectures.vit.figure_layer: one of net, net.conv_proj, ")


def test_what_a_network_cannot_be_made_of_is_named():
    (line,) = faults({"models": ["vit"], "architectures": {"vit": {"width": 63}}})
    assert line.startswith("architectures.vit: calling vit failed: ")


def test_a_setting_by_its_key():
    assert config.default().setting("measurements.ax_statistics.near_zero") == 0.1


def test_only_takes_some_of_the_runs():
    grid = checks.load(overlay(only=["*/seed0", "mnist-fc/bs16/*"]))
    assert len(grid.runs) == 8 + 2
    assert len(grid.all_runs) == 24


@pytest.fixture
def kept(tmp_path):
    """A folder with a finished run of mnist-fc/bs16/seed0 of 30 epochs."""
    run = config.default().runs[0]
    parameters = config.default().parameters_of(run)
    record = {"parameters": {"run": parameters, "blocks": [[*range(31)]]}} | of_run.identity(parameters)
    storage.write_table(pd.DataFrame({"step": [0]}), tmp_path / "runs" / run.path / "metrics.csv", record)
    return str(tmp_path)


def test_a_kept_run_that_fits_is_taken(kept):
    assert checks.load(overlay(kept=[kept])).kept == [kept]


def test_a_kept_run_that_does_not_fit_is_a_fault(kept):
    place = f"{kept}/runs/mnist-fc/bs16/seed0"
    (line,) = faults(overlay(kept=[kept], epochs=31))
    assert line.startswith(f"kept: {place}: 30 epochs, expected 31 or more, or last_weights.safetensors")
    for change in (fc(learning_rate=0.1), {"precision": "bfloat16"}):
        (line,) = faults(overlay(kept=[kept]) | change)
        assert line.startswith(f"kept: {place}: trained with architecture ")
    assert checks.load(overlay(kept=[kept], epochs=31), check_sources=False).epochs == 31  # in a job


def test_what_no_result_depends_on_is_not_shown():
    shown = yaml.safe_load(config.as_yaml(config.default()))
    assert set(shown) == {
        *(
            "datasets",
            "models",
            "batch_sizes",
            "seeds",
            "only",
            "epochs",
            "epochs_per_job",
            "precision",
            "step_checkpoints",
        ),
        *("architectures", "measurements"),
    }
