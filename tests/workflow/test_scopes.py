"""Measurements of pairs of checkpoints and of whole runs, in the workflow."""

import pytest
import torch

from fishertail.results import storage

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
ON = {name: {"enabled": True} for name in ("noise_scale", "alignment", "drift_to_diffusion")}
RUN = "results/runs/digits-fc/bs256/seed0"


def test_a_finished_run_gains_them_without_training(finished):
    finished.write_grid(measurements=ON)
    rules = finished.rules_to_run()
    added = {"gradient_noise": 2, "gradient_noise_at_landmarks": 1, "alignment": 2, "drift_to_diffusion": 1}
    figures = {"noise_scale_over_training": 1, "alignment_over_training": 1}
    assert rules == added | figures | {"page": 1}


def test_pairs_chain_over_blocks_and_more_epochs_go_on_from_them(finished):
    finished.write_grid(measurements=ON)
    finished.run()
    folder = finished.path / RUN
    blocks = [storage.read_table(folder / name / "alignment.csv") for name in ("epochs0001-0002", "epochs0003-0004")]
    first, second = (table[table["layer"] == "network"] for table in blocks)
    assert first["displacement"].isna().tolist() == [True] + [False] * (len(first) - 1)
    assert second["displacement"].notna().all()
    weights = [storage.read_tensors(folder / name / "checkpoints.safetensors") for name in
               ("epochs0001-0002", "epochs0003-0004")]  # fmt: skip
    before, after = int(first["step"].iloc[-1]), int(second["step"].iloc[0])
    squares = [
        (tensor.double() - weights[0][name.replace(f"step{after:08d}", f"step{before:08d}")].double()).square().sum()
        for name, tensor in weights[1].items()
        if name.startswith(f"step{after:08d}/")
    ]
    assert second["displacement"].iloc[0] == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-6)
    crossing = storage.read_table(folder / "drift_to_diffusion.csv")
    assert crossing["layer"].tolist() == ["fc1", "fc2", "fc3", "fc4", "fc5", "network"]
    assert "noise scale (samples)" in (finished.path / "results/report/index.html").read_text()
    assert finished.rules_to_run() == {}
    finished.write_grid(measurements=ON, epochs=6)
    rules = finished.rules_to_run()
    once = ("train", "gradient_noise", "alignment", "drift_to_diffusion", "layers", "fit")
    assert {name: rules[name] for name in once} == dict.fromkeys(once, 1)
