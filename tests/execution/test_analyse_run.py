"""The analysis of a run in a call, in this process and in submitit's."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import CheckpointError, WorkerError
from fishertail.execution import analyse_run
from tests.truth import dense_gradients


def run(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    images, labels = torch.randn(60, 6), torch.randint(3, (60,))
    checkpoints = {}
    for step in range(4):
        checkpoints[step] = {name: tensor + 0.1 * step for name, tensor in model.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = fishertail.analyse_run(model, checkpoints, images, labels, device="cpu", threads=1, **options)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return result, model, checkpoints, images, labels


def test_it_is_what_the_single_calls_give():
    result, model, checkpoints, images, labels = run(k=2)
    model.load_state_dict(checkpoints[2])
    norms = fishertail.gradient_norms(model, images, labels)
    pairs = fishertail.fisher_eigenpairs(model, images, labels, k=2)
    rows = result.norms[result.norms["step"] == 2]
    assert np.allclose(rows["network"], norms.network, rtol=1e-6)
    found = result.spectrum.query("step == 2 and layer == 'network'")["eigenvalue"]
    assert np.allclose(found, pairs["network"].eigenvalues, rtol=1e-5)
    counts = result.outliers.query("step == 2 and layer == 'network'")["outliers_distance"].item()
    assert counts == fishertail.outliers(norms.network).count
    assert result.eigenvectors["step00000002/0"].shape == (2, 35)
    assert len(result.projections) == 4 * 60


@pytest.mark.slow
def test_eigenvectors_and_the_learning_rate_reach_the_measurements_that_take_them():
    result, *_ = run(measurements=["hessian"], learning_rate=0.5)
    hessian = result.tables["hessian"]
    assert np.allclose(hessian["rate_times_eigenvalue"], 0.5 * hessian["eigenvalue"])
    assert hessian["cosine"].between(0, 1).all()
    result, *_ = run(measurements=["hessian"])
    assert result.tables["hessian"]["rate_times_eigenvalue"].isna().all()


def test_epochs_are_told_from_the_steps_of_an_epoch():
    result, *_ = run()
    assert result.norms["epoch"].isna().all()
    result, *_ = run(steps_per_epoch=2)
    for table in (result.norms, result.spectrum, result.projections, result.outliers):
        assert (table["epoch"] == table["step"] / 2).all()
        assert table["step"].unique().tolist() == [0, 1, 2, 3]


def test_others_are_measured_with_what_they_need():
    result, *_ = run(measurements=["trimmed_eigenvalues", "ax_histogram"])
    assert set(result.tables) == {"norms", "spectrum", "projections", "eigenvectors", "trimmed", "ax_histogram"}
    assert (result.tables["trimmed"]["left_out"] == 6).all()
    counts = result.tables["ax_histogram"].groupby(["step", "layer"])["count"].sum()
    assert set(counts) == {60}


def test_pairs_and_whole_runs_are_measured_after_the_checkpoints_of_all_jobs():
    wanted = ["alignment", "drift_to_diffusion", "layers", "fit"]
    result, _, checkpoints, *_ = run(measurements=wanted, k=2)
    spread, *_ = run(measurements=wanted, k=2, jobs=2)
    for name in (*wanted, "noise_scale"):
        assert result.tables[name].equals(spread.tables[name]), name
    alignment = result.tables["alignment"].query("layer == 'network'")
    assert alignment["step"].tolist() == [0, 1, 2, 3]
    sizes = sum(tensor.numel() for tensor in checkpoints[0].values())
    assert alignment["displacement"].iloc[1:].tolist() == pytest.approx([0.1 * sizes**0.5] * 3, rel=1e-5)
    eigenvectors = [result.eigenvectors[f"step{step:08d}/network"] for step in range(4)]
    way = torch.full((sizes,), 0.1)
    shares = [float((vectors @ way).square().sum() / way.square().sum()) for vectors in eigenvectors]
    assert alignment["leading_share"].iloc[1:].tolist() == pytest.approx(shares[:3], abs=1e-4)
    assert result.tables["layers"]["layer"].tolist() == ["0", "2"] * 4
    assert result.tables["fit"]["train_loss"].tolist() == pytest.approx(
        result.norms.groupby("step")["loss"].mean().tolist(), rel=1e-6
    )


def test_a_regression_has_norms_outliers_and_noise():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 2), torch.randn(9, 4), torch.randn(9, 2)
    loss = nn.functional.mse_loss
    wanted = ["norms", "outliers", "spectrum", "trimmed_eigenvalues", "noise_scale", "alignment", "fit", "layers"]
    checkpoints = {0: model.state_dict(), 5: {name: 2 * tensor for name, tensor in model.state_dict().items()}}
    found = fishertail.analyse_run(
        model, checkpoints, inputs, targets, loss=loss, measurements=wanted, device="cpu", threads=1
    )
    assert found.norms[["label", "correct"]].isna().all().all()
    for step, weights in checkpoints.items():
        model.load_state_dict(weights)
        gradients = np.concatenate(list(dense_gradients(model, inputs, targets, loss).values()), axis=1)
        rows = found.norms[found.norms["step"] == step]
        np.testing.assert_allclose(rows["network"], np.linalg.norm(gradients, axis=1), rtol=1e-5)
        row = found.tables["noise_scale"].query("step == @step and layer == 'network'").iloc[0]
        assert row["mean_gradient_norm"] == pytest.approx(np.linalg.norm(gradients.mean(0)), rel=1e-5)
    assert found.tables["fit"]["train_accuracy"].isna().all()
    assert found.tables["trimmed"]["A"].notna().all()


def test_layers_and_thresholds():
    result, *_ = run(layers=["2", "network"], threshold=2)
    assert result.spectrum["layer"].unique().tolist() == ["2", "network"]
    norms = result.norms.query("step == 1")["0"].to_numpy()
    counts = result.outliers.query("step == 1 and layer == '0'")["outliers_distance"].item()
    assert counts == fishertail.outliers(norms, threshold=2).count


def test_jobs_give_the_same(tmp_path):
    here, *_ = run()
    spread, *_ = run(cluster="local", jobs=3, folder=tmp_path / "jobs")
    assert here.norms.equals(spread.norms)
    assert here.spectrum.equals(spread.spectrum)
    assert here.projections.equals(spread.projections)


def test_checkpoints_from_files(tmp_path):
    here, model, checkpoints, images, labels = run()
    for step, weights in checkpoints.items():
        torch.save(weights, tmp_path / f"{step}.pt")
    paths = {step: tmp_path / f"{step}.pt" for step in checkpoints}
    read = fishertail.analyse_run(model, paths, images, labels, device="cpu", threads=1)
    assert here.spectrum.equals(read.spectrum)


def dies(outputs, labels):
    os._exit(1)


def test_checkpoints_in_all_forms_that_the_command_reads(tmp_path):
    model, samples = nn.Linear(3, 2), (torch.randn(8, 3), torch.randint(2, (8,)))
    weights = model.state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"model": wrapped, "epoch": 7}, tmp_path / "wrapped.pt")
    forms = {
        0: weights,
        1: model,
        2: {"state_dict": wrapped},
        3: tmp_path / "wrapped.pt",
        4: str(tmp_path / "wrapped.pt"),
    }
    result = fishertail.analyse_run(model, forms, *samples, device="cpu")
    values = result.spectrum.query("layer == 'network'")["eigenvalue"].tolist()
    assert len(values) == 5
    assert len(set(values)) == 1
    other = nn.Linear(3, 4).state_dict()
    for wrong, fault in (
        ({5: other}, r"step 5: weight: shape \(2, 3\) expected, found \(4, 3\)"),
        (
            {5: {"net.0.weight": weights["weight"]}},
            "step 5: the weights of the model expected; it lacks weight, bias and",
        ),
        ({5: [1, 2]}, "step 5: a state dict, a file with one or a network expected, found list"),
    ):
        with pytest.raises(CheckpointError, match=fault):
            fishertail.analyse_run(model, wrong, *samples, device="cpu")


def test_results_are_short_in_a_terminal():
    result, model, _, images, labels = run()
    norms = fishertail.gradient_norms(model, images, labels)
    pairs = fishertail.fisher_eigenpairs(model, images, labels)["network"]
    assert repr(norms) == "GradientNorms(60 samples, 2 layers: 0, 2)"
    assert repr(pairs).startswith("Eigenpairs(eigenvalues=[")
    assert repr(pairs).endswith("1 of 1 converged, 60 samples, 53 parameters)")
    assert (
        repr(result) == "RunAnalysis(norms: 240, spectrum: 12, projections: 240, eigenvectors: 12, outliers: 12 rows)"
    )


@pytest.mark.slow
def test_faults(tmp_path):
    model, samples = nn.Linear(3, 2), (torch.randn(8, 3), torch.randint(2, (8,)))
    with pytest.raises(ValueError, match="at least one SGD step expected"):
        fishertail.analyse_run(model, {}, *samples)
    with pytest.raises(ValueError, match=r"measurements: among norms, .* expected, found 'curvature'"):
        fishertail.analyse_run(model, {0: model.state_dict()}, *samples, measurements=["norms", "curvature"])
    with pytest.raises(ValueError, match="timeout_min: only with cluster"):
        fishertail.analyse_run(model, {0: model.state_dict()}, *samples, timeout_min=3)
    with pytest.raises(CheckpointError, match=r"missing.pt: not a readable checkpoint \(\[Errno 2\]"):
        fishertail.analyse_run(
            model, {0: str(tmp_path / "missing.pt")}, *samples, cluster="local", folder=tmp_path / "jobs"
        )
    with pytest.raises(WorkerError, match="died"):
        fishertail.analyse_run(
            model, {0: model.state_dict()}, *samples, loss=dies, cluster="local", folder=tmp_path / "jobs"
        )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"checkpoints": {"step10": {}}}, "SGD steps, whole numbers of 0 or more, expected as keys, found 'step10'"),
        ({"checkpoints": {-1: {}}}, "SGD steps, whole numbers of 0 or more, expected as keys, found -1"),
        ({"checkpoints": [{}]}, "a mapping of SGD steps to state dicts or files expected, found list"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: a number above 0 expected, found 0"),
        ({"layers": "network"}, "layers: a list of names among , network expected, found 'network'"),
        ({"layers": []}, "layers: a list of names among , network expected, found []"),
        ({"model": nn.Linear}, "model: a torch.nn.Module expected, found the class Linear"),
    ],
)
def test_what_is_wrong_is_said_before_a_checkpoint_is_measured(monkeypatch, changes, expected):
    monkeypatch.setattr(analyse_run, "_analyse", lambda *arguments, **options: pytest.fail("checkpoints are measured"))
    model = nn.Linear(3, 2)
    call = {"model": model, "checkpoints": {0: model.state_dict()}}
    call |= {"images": torch.randn(8, 3), "labels": torch.randint(2, (8,))} | changes
    with pytest.raises((ValueError, TypeError)) as error:
        analyse_run.analyse_run(**call)
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize("model", [None, nn.Linear])
def test_what_is_no_network_is_named(tmp_path, model):
    samples = torch.randn(8, 3), torch.randint(2, (8,))
    for call in (fishertail.rank_samples, partial(fishertail.Watch, folder=tmp_path)):
        with pytest.raises(TypeError, match=r"model: a torch\.nn\.Module expected, found "):
            call(model, *samples)


class Refusing(nn.Module):
    """Runs only while a number that is saved with the weights is positive."""

    def __init__(self):
        super().__init__()
        self.register_buffer("limit", torch.ones(()))

    def forward(self, inputs):
        if self.limit < 0:
            raise RuntimeError("beyond the limit")
        return inputs


def test_what_fails_at_a_checkpoint_leaves_the_others():
    result, plain, checkpoints, images, labels = run(measurements=["norms", "spectrum", "ax_statistics"])
    model = nn.Sequential(*plain, Refusing())
    limits = {step: torch.tensor(-1.0 if step == 2 else 1.0) for step in checkpoints}
    damaged = {step: weights | {"3.limit": limits[step]} for step, weights in checkpoints.items()}
    with pytest.warns(UserWarning, match=r"step 2: norms failed: .*beyond the limit.* \(and 2 more; see RunAnalysis"):
        found = fishertail.analyse_run(
            model, damaged, images, labels, device="cpu", threads=1, measurements=["norms", "spectrum", "ax_statistics"]
        )
    for name in ("norms", "spectrum", "ax_statistics"):
        expected = result.tables[name].query("step != 2").reset_index(drop=True)
        assert found.tables[name].equals(expected)
    assert found.failures["step"].tolist() == [2, 2, 2]
    assert found.failures["measurement"].tolist() == ["norms", "spectrum", "ax_statistics"]
    assert found.failures["reason"].tolist()[1:] == ["needs norms, which failed", "needs spectrum, which failed"]
    assert result.failures.empty


@pytest.mark.parametrize("options", [{}, {"jobs": 2}, {"jobs": 2, "cluster": "local"}], ids=["one", "two", "local"])
def test_a_bad_checkpoint_costs_no_other_whatever_the_jobs(tmp_path, options):
    _, model, checkpoints, images, labels = run()
    damaged = {
        0: checkpoints[0],
        1: checkpoints[1] | {"3.weight": torch.ones(2)},
        2: checkpoints[2],
        3: tmp_path / "missing.pt",
    }
    options |= {"folder": tmp_path / "jobs"}
    with pytest.warns(UserWarning, match=r"step 1: checkpoint failed: .* it has 3.weight"):
        found = fishertail.analyse_run(model, damaged, images, labels, device="cpu", threads=1, **options)
    assert found.norms["step"].unique().tolist() == found.spectrum["step"].unique().tolist() == [0, 2]
    failures = found.failures.groupby("step")["measurement"].agg(list).to_dict()
    assert failures == {1: ["checkpoint"], 3: ["checkpoint"]}
    assert "missing.pt: not a readable checkpoint" in found.failures["reason"].iloc[-1]


@pytest.mark.parametrize("cluster", [None, "local"])
def test_where_no_job_can_measure_anything_the_first_error_is_raised(tmp_path, cluster):
    model, samples = nn.Linear(3, 2), (torch.randn(8, 3), torch.full((8,), 7))
    checkpoints = dict.fromkeys(range(3), model.state_dict())
    with pytest.raises(ValueError, match="labels: 0 to 1 expected"):
        fishertail.analyse_run(model, checkpoints, *samples, device="cpu", jobs=2, cluster=cluster, folder=tmp_path)


def test_where_nothing_can_be_measured_the_error_is_raised():
    model, samples = nn.Linear(3, 2), (torch.randn(8, 3), torch.full((8,), 7))
    with pytest.raises(ValueError, match="labels: 0 to 1 expected"):
        fishertail.analyse_run(model, {0: model.state_dict(), 1: model.state_dict()}, *samples, device="cpu")
