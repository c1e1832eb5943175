"""The options of measurements outside the workflow, and the layers that reach them."""

import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import StorageError
from fishertail.execution.command_line import cli


@pytest.fixture(scope="module")
def digits_run(digits):
    """A network, its weights at a step, and forty of the digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    images, labels = digits.training_data()
    return model, {0: model.state_dict()}, images[:40], labels[:40]


def measured(digits_run, *measurements, **options):
    return fishertail.analyse_run(*digits_run, measurements=measurements, device="cpu", **options)


def test_options_reach_their_measurements(digits_run):
    options = {
        "hessian": {"samples": 11, "layers": ["3"], "eigenpairs": 2},
        "trimmed_eigenvalues": {"fraction": 0.25},
        "outliers": {"threshold": 2},
        "spectrum": {"eigenpairs": 3},
    }
    found = measured(digits_run, "hessian", "trimmed_eigenvalues", "outliers", options=options, k=2, threshold=5)
    assert found.failures.empty
    assert found.tables["hessian"][["layer", "samples", "rank"]].to_numpy().tolist() == [["3", 11, 1], ["3", 11, 2]]
    assert (found.tables["trimmed"]["left_out"] == 10).all()
    assert found.spectrum["rank"].max() == 3
    norms = found.norms["network"].to_numpy()
    counts = found.outliers.set_index("layer")["outliers_distance"]
    assert counts["network"] == fishertail.outliers(norms, threshold=2).count != fishertail.outliers(norms, 5).count


def test_an_option_of_another_measurement_counts_where_it_is_taken(digits_run):
    """`outliers.reading` decides whose histories `samples` counts; `spectrum.tolerance` how `trimmed` is solved."""
    found = {
        reading: measured(digits_run, "samples", "outliers", options={"outliers": {"reading": reading, "threshold": 1}})
        for reading in ("distance", "norm")
    }
    counts = {reading: run.tables["samples"]["outlier_checkpoints"].sum() for reading, run in found.items()}
    row = found["norm"].outliers.query("layer == 'network'").iloc[0]
    assert counts == {reading: row[f"outliers_{reading}"] for reading in counts}
    assert counts["distance"] != counts["norm"]


@pytest.mark.parametrize("layers", [["3"], ["1", "network"]])
def test_layers_reach_what_has_them_as_the_spectrum_has(digits_run, layers):
    found = measured(digits_run, "true_fisher", "eigenvalue_statistics", "trimmed_eigenvalues", layers=layers)
    for name in ("spectrum", "true_fisher", "eigenvalue_statistics", "trimmed"):
        assert found.tables[name]["layer"].unique().tolist() == layers, name
    own = measured(digits_run, "true_fisher", layers=layers, options={"true_fisher": {"layers": "all"}})
    assert own.tables["true_fisher"]["layer"].unique().tolist() == ["1", "3", "network"]
    assert own.spectrum["layer"].unique().tolist() == layers


WRONG = {
    "measurement": ({"curvature": {}}, r"options: of what is measured \(.*hessian.*\) expected, found those of 'curv"),
    "not measured": ({"true_fisher": {}}, "found those of 'true_fisher'"),
    "option": ({"hessian": {"sample": 5}}, "options of hessian: among layers, .*samples.* expected, found 'sample'"),
    "of the workflow": ({"hessian": {"checkpoints": "all"}}, "expected, found 'checkpoints'"),
    "none": ({"norms": {"layers": "all"}}, "options of norms: none expected, found 'layers'"),
    "value": ({"hessian": {"samples": 0}}, "options of hessian: samples: .*greater than or equal to 1.*, found 0"),
    "layer": ({"hessian": {"layers": ["fc4"]}}, "options of hessian: layers: among 1, 3, network .* found 'fc4'"),
    "form": ({"hessian": 5}, "options of hessian: values by option expected, found 5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_measurement_and_option(digits_run, tmp_path, case):
    options, message = WRONG[case]
    model, _, *samples = digits_run
    with pytest.raises(ValueError, match=message):
        measured(digits_run, "hessian", options=options)
    with pytest.raises(ValueError, match=message):
        fishertail.Watch(model, *samples, folder=tmp_path, measurements=["hessian"], options=options, device="cpu")


def test_a_call_names_the_place_of_options(digits_run):
    with pytest.raises(ValueError, match=r"samples: only with cluster.*; those of a measurement go into options="):
        measured(digits_run, "hessian", samples=50)
    with pytest.raises(ValueError, match=r"options of spectrum: eigenpairs: .*greater than or equal to 1, found 0"):
        measured(digits_run, "spectrum", k=0)


def test_sensitivity_without_a_layer_that_it_can_take_says_so(digits_run):
    with pytest.warns(UserWarning, match=r"layers: among those of spectrum \(network\) expected, found 'last hidden'"):
        measured(digits_run, "data_sensitivity", layers=["network"])
    options = {"data_sensitivity": {"layers": ["network"], "shares": [0.5], "draws": [2], "left_out": [0.1]}}
    found = measured(digits_run, "data_sensitivity", layers=["network"], options=options)
    assert found.tables["subset_deviations"][["layer", "draws"]].to_numpy().tolist() == [["network", 2]]


def test_a_watch_of_other_options_is_another_run(digits_run, tmp_path):
    model, _, *samples = digits_run
    given = {"folder": tmp_path, "measurements": ["eigenvalue_statistics"], "device": "cpu"}
    watch = fishertail.Watch(model, *samples, options={"eigenvalue_statistics": {"samples": 7}}, **given)
    watch(0)
    assert watch.analysis().tables["eigenvalue_statistics"]["samples"].tolist() == [7, 7, 7]
    with pytest.raises(StorageError, match=r"a run with measurements.* expected"):
        fishertail.Watch(model, *samples, **given)


def test_the_command_line_takes_options(digits_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model, _, *samples = digits_run
    (tmp_path / "digits_net.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), "
        "nn.Linear(8, 10))\n"
    )
    torch.save(model.state_dict(), "step0.pt")
    torch.save(tuple(samples), "data.pt")
    command = ["measure", "digits_net:net", "--checkpoints", "step0.pt", "--data", "data.pt", "--device", "cpu"]
    command += ["--measurements", "hessian", "outliers"]
    options = ["hessian.samples=9", 'hessian.layers=["3"]', "outliers.reading=norm"]
    assert cli.main([*command, "--option", *options]) == 0
    hessian = fishertail.RunAnalysis.load("fishertail-run").tables["hessian"]
    assert hessian[["layer", "samples"]].to_numpy().tolist() == [["3", 9]]
    for wrong, said in (("hessian", "--option: MEASUREMENT.OPTION=VALUE expected"), ("hessian.sample=1", "'sample'")):
        assert cli.main([*command, "--out", "other", "--option", wrong]) == 2
        assert said in capsys.readouterr().err
