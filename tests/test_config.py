"""The configuration: its defaults, the grid it spans, and one message that lists every fault with its dotted path."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config

from fishertail import config
from fishertail.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAPER = yaml.safe_load((ROOT / "config.yaml").read_text())


def overlay(**keys) -> dict:
    """config.yaml with `keys` laid over it, as Snakemake does."""
    raw = copy.deepcopy(PAPER)
    update_config(raw, keys)
    return raw


def faults(raw) -> list[str]:
    with pytest.raises(ConfigError) as error:
        config.load(raw)
    first, *lines = str(error.value).splitlines()
    assert first == f"the configuration has {len(lines)} fault(s):"
    return [line.strip() for line in lines]


def test_config_yaml_holds_the_defaults_but_for_the_epochs_of_the_paper_grid():
    general = overlay(epochs=30, epochs_per_job=10, analysis={"spectrum_epochs": "all"})
    assert config.load(general) == config.Config() == config.load({})


def test_every_run_of_the_paper_grid_has_fifteen_epochs_with_eigenpairs_and_most_of_the_early_ones():
    grid = config.load(PAPER)
    for run in grid.runs:
        wanted = [epoch for block in grid.blocks(run) for epoch in grid.spectrum_epochs_of(block)]
        assert len(wanted) >= 15
        assert wanted[:11] == list(range(11))


def test_the_schema_in_the_repository_is_that_of_the_model():
    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == config.schema(), "the configuration's model has changed: write its schema anew by `make schema`"


def test_config_yaml_satisfies_the_schema():
    jsonschema.validate(PAPER, config.schema())


@pytest.mark.parametrize(
    "path", ["profiles/demo/grid.yaml", "docs/reproduction/grid.yaml", "docs/reproduction/variants.yaml"]
)
def test_overlays_are_valid_and_the_runs_that_they_keep_fit(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config.load(overlay(**yaml.safe_load((ROOT / path).read_text())))


def fc(**keys) -> dict:
    return {"architectures": {"fc": keys}}


def analysis(**keys) -> dict:
    return {"analysis": keys}


FAULTS = [
    ({"seed": [1]}, "seed: unknown key"),
    (fc(lerning_rate=1), "architectures.fc.lerning_rate: unknown key"),
    (analysis(histogram={"bins": 3}), "analysis.histogram.bins: unknown key"),
    ({"machine": {"nodes": 4}}, "machine.nodes: unknown key"),
    ({"datasets": "mnist"}, "datasets: input should be a valid list, found 'mnist'"),
    ({"seeds": [0, 1.5]}, "seeds.1: input should be a valid integer, found 1.5"),
    ({"seeds": [0, True]}, "seeds.1: a whole number expected, found True"),
    ({"seeds": [3, 3]}, "seeds: entries must be distinct, found [3, 3]"),
    ({"batch_sizes": [0]}, "batch_sizes.0: input should be greater than or equal to 1, found 0"),
    ({"epochs": "many"}, "epochs: input should be a valid integer or a valid dictionary, found 'many'"),
    ({"epochs": True}, "epochs: a whole number expected, found True"),
    ({"epochs": {"default": 3, "mnist-fc": 0}}, "epochs.mnist-fc: input should be greater than or equal to 1, found 0"),
    ({"epochs": {"default": 3, "mnist-rnn": 4}}, "epochs.mnist-rnn: unknown model 'rnn', expected one of fc, conv"),
    ({"epochs_per_job": {"mnist-rnn": 4}}, "epochs_per_job.mnist-rnn: unknown model 'rnn', expected one of fc, conv"),
    (fc(learning_rate=0), "architectures.fc.learning_rate: input should be greater than 0, found 0"),
    (fc(learning_rate=-0.1), "architectures.fc.learning_rate: input should be greater than 0, found -0.1"),
    (fc(learning_rate=True), "architectures.fc.learning_rate: a number expected, found True"),
    (fc(learning_rate=float("inf")), "architectures.fc.learning_rate: input should be a finite number, found inf"),
    (fc(hidden_widths=[500, "wide"]), "architectures.fc.hidden_widths.1: input should be a valid integer"),
    (fc(hidden_widths=None), "architectures.fc.hidden_widths: required for the model fc"),
    (fc(channels=[8] * 4), "architectures.fc.channels: not a key of the model fc"),
    (fc(arguments={"depth": 3}), "architectures.fc.arguments: only a factory takes arguments"),
    (fc(figure_layer="fc6"), "architectures.fc.figure_layer: one of fc1, fc2, fc3, fc4, fc5, network expected, found"),
    ({"architectures": {"conv": {"channels": [8]}}}, "architectures.conv.channels: four numbers expected, found 1"),
    ({"datasets": ["digits"], "batch_sizes": [1437, 1438]}, "batch_sizes.1: at most 1437 (the training samples of"),
    ({"datasets": ["mnist"], "batch_sizes": [60_001]}, "batch_sizes.0: at most 60000 (the training samples of mnist)"),
    (
        {"datasets": ["mnist", "svhn"]},
        "datasets.1: unknown data set 'svhn', expected one of digits, mnist, cifar10, or",
    ),
    ({"models": ["fc", "resnet"]}, "models.1: unknown model 'resnet', expected one of fc, conv"),
    (analysis(spectrum_epochs=[1, 5, 3]), "analysis.spectrum_epochs: epochs must be strictly increasing, found"),
    (
        analysis(spectrum_epochs=[31]) | {"epochs": 30},
        "analysis.spectrum_epochs: some up to 30 (the key epochs) expected, found 31 as the",
    ),
    (analysis(spectrum_epochs="some"), "analysis.spectrum_epochs: input should be 'all' or a valid list, found 'some'"),
    (analysis(spectrum_epochs=[1, "x"]), "analysis.spectrum_epochs.1: input should be a valid integer, found 'x'"),
    (analysis(layers=["fc2", "fc4", "fc9"]), "analysis.layers.2: one of conv1, conv2, conv3, conv4, fc1, fc2, fc3"),
    (analysis(layers=["fc2"]), "analysis.layers: must contain the figure layer 'fc4' of fc"),
    (analysis(tolerance=1), "analysis.tolerance: input should be less than 1, found 1"),
    (analysis(histogram={"smallest": 2e4}), "analysis.histogram.smallest: less than largest (10000.0) expected"),
    ({"machine": {"device": "CUDA 1"}}, "machine.device: auto, or a device as torch names it"),
    ({"machine": {"memory_budget": "much"}}, "machine.memory_budget: input should be 'auto' or a valid number"),
]


@pytest.mark.parametrize(("keys", "expected"), FAULTS, ids=[fault.split(": ")[0] for _, fault in FAULTS])
def test_a_fault_is_one_line_with_its_dotted_path(keys, expected):
    (line,) = faults(overlay(**keys))
    assert line.startswith(expected)


@pytest.mark.parametrize("key", ["epochs", "epochs_per_job"])
def test_epochs_by_run_need_a_default(key):
    (line,) = faults(PAPER | {key: {"mnist-fc": 3}})
    assert line.startswith(f"{key}: a mapping needs the key 'default', found {{'mnist-fc': 3}}")


def test_all_faults_are_in_one_message_however_they_hide_each_other():
    raw = overlay(
        typo=1,
        datasets=["mnist", "svhn"],
        models=["fc", "resnet"],
        batch_sizes=[16, 60_001],
        epochs=[10],
        epochs_per_job=0,
        architectures={"fc": {"learning_rate": 0, "figure_layer": "fc9"}, "conv": {"colour": "red"}},
        analysis={"spectrum_epochs": [3, 2], "layers": ["fc77"], "histogram": {"smallest": 0}},
        machine={"memory_budget": -1},
    )
    assert sorted(line.split(": ")[0] for line in faults(raw)) == [
        "analysis.histogram.smallest",
        "analysis.layers.0",
        "analysis.spectrum_epochs",
        "architectures.conv.colour",
        "architectures.fc.figure_layer",
        "architectures.fc.learning_rate",
        "batch_sizes.1",
        "datasets.1",
        "epochs",
        "epochs_per_job",
        "machine.memory_budget",
        "models.1",
        "typo",
    ]


@pytest.mark.parametrize("raw", [{1: 2}, {"analysis": None}, {"architectures": {"my-net": {}}}, {"architectures": 3}])
def test_a_configuration_of_another_shape_is_no_crash(raw):
    assert faults(raw)


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
    )
    monkeypatch.syspath_prepend(tmp_path)

    def make(layers="all", **keys):
        mine = {"factory": "networks:two", "arguments": {"width": 4}, "learning_rate": 0.1, "figure_layer": "head"}
        return overlay(models=["mine"], architectures={"mine": mine | keys}, analysis={"layers": layers})

    return make


def test_a_model_from_a_factory_is_taken(with_factory):
    assert config.load(with_factory(layers=["stem", "head"])).models == ["mine"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"factory": "no.such.module:f"}, "factory: an importable module expected, found 'no.such.module'"),
        ({"factory": "networks"}, "factory: string should match pattern"),
        ({"factory": "networks:three"}, "factory: calling networks:three failed: module 'networks' has no attribute"),
        ({"arguments": {}}, "factory: calling networks:two failed: two() missing 1 required positional argument"),
        ({"figure_layer": "fc4"}, "figure_layer: one of stem, head, network expected, found 'fc4'"),
        ({"hidden_widths": [3]}, "hidden_widths: not a key of a model with a factory (see arguments)"),
        ({"factory": None, "arguments": {}}, "factory: required for a model that is not fc or conv"),
    ],
)
def test_faults_of_a_factory(with_factory, keys, expected):
    (line,) = faults(with_factory(**keys))
    assert line.startswith(f"architectures.mine.{expected}")


def test_layers_are_checked_against_those_of_the_factorys_model(with_factory):
    (line,) = faults(with_factory(layers=["head", "fc4"]))
    assert line == "analysis.layers.1: one of head, network, stem expected, found 'fc4'"


def test_digits_from_the_command_line_are_numbers():
    found = config.load(overlay(seeds=["0", "2"], batch_sizes=["16"], epochs="3"))
    assert (found.seeds, found.batch_sizes, found.epochs) == ([0, 2], [16], 3)


@given(last=st.integers(1, 500), step=st.integers(1, 600))
def test_blocks_cover_every_epoch_once(last, step):
    grid = config.Config(epochs=last, epochs_per_job=step)
    blocks = grid.blocks(grid.runs[0])
    assert [epoch for block in blocks for epoch in block.epochs] == list(range(last + 1))
    assert all(block.last - block.first < step for block in blocks)


def test_the_most_exact_number_of_epochs_counts():
    grid = config.Config(epochs={"default": 1, "mnist-fc": 2, "mnist-fc/bs256": 3})
    found = {run.path.removesuffix("/seed0"): grid.epochs_of(run) for run in grid.runs if run.seed == 0}
    assert [found.pop(key) for key in ("mnist-fc/bs16", "mnist-fc/bs256")] == [2, 3]
    assert set(found.values()) == {1}


def test_runs_are_every_combination_of_the_grid():
    assert len(config.Config().runs) == len({run.path for run in config.Config().runs}) == 2 * 2 * 2 * 3


def test_blocks_are_of_the_length_that_is_given_for_the_run():
    grid = config.Config(epochs=12, epochs_per_job={"default": 5, "mnist-conv/bs256": 12}, seeds=[0])
    lengths = {run.path: [block.last - block.first + 1 for block in grid.blocks(run)] for run in grid.runs}
    assert lengths.pop("mnist-conv/bs256/seed0") == [12]
    assert set(map(tuple, lengths.values())) == {(5, 5, 2)}


def test_spectrum_epochs_are_dealt_out_to_the_blocks():
    grid = config.Config(epochs=30, epochs_per_job=10, analysis={"spectrum_epochs": [0, 10, 11]})
    assert [grid.spectrum_epochs_of(block) for block in grid.blocks(grid.runs[0])] == [[0, 10], [11], []]


def test_spectrum_epochs_that_a_run_does_not_have_are_passed_over():
    grid = config.load(overlay(epochs=15, analysis={"spectrum_epochs": [0, 12, 400]}))
    assert [grid.spectrum_epochs_of(block) for block in grid.blocks(grid.runs[0])] == [[0], [12]]
