"""The analysis of a run in a call, in this process and in submitit's."""

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import WorkerError


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


def test_faults(tmp_path):
    model, samples = nn.Linear(3, 2), (torch.randn(8, 3), torch.randint(2, (8,)))
    with pytest.raises(ValueError, match="at least one SGD step expected"):
        fishertail.analyse_run(model, {}, *samples)
    with pytest.raises(ValueError, match=r"measurements: among norms, .* expected, found 'curvature'"):
        fishertail.analyse_run(model, {0: model.state_dict()}, *samples, measurements=["norms", "curvature"])
    with pytest.raises(ValueError, match="timeout_min: only with cluster"):
        fishertail.analyse_run(model, {0: model.state_dict()}, *samples, timeout_min=3)
    with pytest.raises(WorkerError, match="died"):
        fishertail.analyse_run(
            model, {0: str(tmp_path / "missing.pt")}, *samples, cluster="local", folder=tmp_path / "jobs"
        )
