"""Today's networks by their names, through the whole workflow, on images of three classes."""

import numpy as np
import pytest

from fishertail.grid import config

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_a_network_goes_through_the_workflow(project, name):
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 100, (60, 8, 8)) + 50 * labels[:, None, None]
    split = {"train": slice(0, 48), "test": slice(48, 60)}
    arrays = {f"{part}_images": images[chosen].astype(np.uint8) for part, chosen in split.items()}
    (project.path / "data").mkdir()
    np.savez(project.path / "data" / "blobs.npz", **arrays, **{f"{p}_labels": labels[c] for p, c in split.items()})
    layer = config.default().architecture(name).figure_layer
    spectrum = {"layers": [layer, "network"], "checkpoints": [0]}
    project.write_grid(
        datasets=["blobs"], models=[name], batch_sizes=[16], epochs=1, measurements={"spectrum": spectrum}
    )
    project.run("results/figures/fig2_ax_over_epochs_blobs.svg")
    assert (project.path / f"results/runs/blobs-{name}/bs16/seed0/landmarks/spectrum.csv").exists()
