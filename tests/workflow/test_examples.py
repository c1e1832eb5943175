"""The networks in examples/torchvision_networks: as factories, in the library, and through the workflow."""

import shutil
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
import yaml

from fishertail import gradient_norms, models
from tests.truth import dense_gradients
from tests.workflow.project import ROOT, Project

EXAMPLES = ROOT / "examples"
NAMES = ["alexnet", "googlenet", "resnet18"]
pytestmark = pytest.mark.slow


def overlay(name: str) -> dict:
    return yaml.safe_load((EXAMPLES / "torchvision_networks" / f"{name}.yaml").read_text())


class ProjectWithExamples(Project):
    """A project whose examples can be imported, as their README says."""

    @classmethod
    def new(cls, path: Path) -> Self:
        shutil.copytree(EXAMPLES, path / "examples")
        return super().new(path)

    @property
    def additions(self) -> dict[str, str]:
        return super().additions | {"PYTHONPATH": f"{self.path / 'src'}:{self.path / 'examples'}"}


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_grey_and_coloured_images_of_any_size(name, digits, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    options = overlay(name)["architectures"][name]
    assert options["figure_layer"] in models.factory_layer_names(options["factory"], {})
    for shape in [(3, 32, 32), digits.shape]:
        model = models.build(name, options, shape, digits.classes, seed=0).eval()
        assert model(torch.zeros(2, *shape)).shape == (2, digits.classes)
    images, labels = (tensor[:4] for tensor in digits.training_data("cpu"))
    norms = gradient_norms(model, images, labels)
    truth = np.hstack(list(dense_gradients(model, images, labels).values()))
    np.testing.assert_allclose(norms.network, np.linalg.norm(truth, axis=1), rtol=1e-3)


@pytest.mark.workflow
def test_a_network_goes_through_the_workflow_as_the_example_has_it(tmp_path):
    project = ProjectWithExamples.new(tmp_path)
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 100, (60, 8, 8)) + 50 * labels[:, None, None]
    split = {"train": slice(0, 48), "test": slice(48, 60)}
    arrays = {f"{part}_images": images[chosen].astype(np.uint8) for part, chosen in split.items()}
    (project.path / "data").mkdir()
    np.savez(project.path / "data" / "blobs.npz", **arrays, **{f"{p}_labels": labels[c] for p, c in split.items()})
    short = {"datasets": ["blobs"], "batch_sizes": [16], "epochs": 1, "epochs_per_job": 1}
    (project.path / "grid.yaml").write_text(yaml.safe_dump(overlay("resnet18") | short))
    project.run("results/resnet18/figures/fig2_ax_over_epochs_blobs.svg")
    assert (project.path / "results/resnet18/runs/blobs-resnet18/bs16/seed0/epochs0001-0001/spectrum.csv").exists()
