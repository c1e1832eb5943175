"""Training samples in files of each kind: the same tensors, scaled as in the workflow, or a sentence."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fishertail.data import dataset
from fishertail.errors import DatasetError
from fishertail.execution.command_line.sample_files import load

IMAGES, LABELS = np.random.default_rng(0).normal(size=(7, 1, 4, 4)).astype(np.float32), np.arange(7) % 3
TENSORS = {"images": torch.from_numpy(IMAGES), "labels": torch.from_numpy(LABELS)}
PAIR = (TENSORS["images"], TENSORS["labels"])

WRITERS = {
    "a.npz": lambda path: np.savez(path, images=IMAGES, labels=LABELS.astype(np.uint8)),
    "workflow.npz": lambda path: np.savez(path, train_images=IMAGES, train_labels=LABELS, test_images=IMAGES[:2]),
    "mapping.pt": lambda path: torch.save(TENSORS, path),
    "pair.pth": lambda path: torch.save(PAIR, path),
    "list.pt": lambda path: torch.save(list(PAIR), path),
    "a.safetensors": lambda path: save_file(TENSORS, path),
    "lists.pt": lambda path: torch.save({"images": IMAGES.tolist(), "labels": LABELS.tolist()}, path),
    "tensors.pt": lambda path: torch.save({"images": list(PAIR[0]), "labels": list(PAIR[1])}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file(tmp_path, name):
    WRITERS[name](tmp_path / name)
    images, labels = load(str(tmp_path / name))
    assert torch.equal(images, PAIR[0])
    assert torch.equal(labels, PAIR[1])
    assert labels.dtype == torch.int64


def test_a_file_with_both_splits_gives_that_which_is_meant(tmp_path):
    np.savez(
        tmp_path / "a.npz", train_images=IMAGES, train_labels=LABELS, test_images=IMAGES[:2], test_labels=LABELS[:2]
    )
    assert len(load(str(tmp_path / "a.npz"))[0]) == 7
    assert len(load(str(tmp_path / "a.npz"), validation=True)[0]) == 2


def test_labels_in_a_file_of_their_own(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    torch.save(PAIR[1].to(torch.int16), tmp_path / "y.pt")
    images, labels = load(str(tmp_path / "x.npy"), str(tmp_path / "y.pt"))
    assert torch.equal(images, PAIR[0])
    assert torch.equal(labels, PAIR[1])


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 3), (5, 3, 8, 8), (5, 1, 8, 8)])
def test_pictures_are_scaled_as_in_the_workflow(tmp_path, shape):
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(5) % 2
    arrays = {f"{split}_{kind}": value for split in ("train", "test")
              for kind, value in (("images", pictures), ("labels", labels))}  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays)
    truth, _ = dataset.checked("a", arrays, "a").training_data()
    assert torch.equal(load(str(tmp_path / "a.npz"))[0], truth)


def test_targets_of_a_regression_stay_numbers(tmp_path):
    torch.save({"images": PAIR[0], "labels": torch.linspace(0, 1, 7)}, tmp_path / "a.pt")
    assert torch.equal(load(str(tmp_path / "a.pt"))[1], torch.linspace(0, 1, 7))


def test_what_a_function_gives(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "given_samples.py").write_text(
        "import torch\npair = lambda: (torch.ones(3, 2), torch.arange(3))\n"
        "dataset = lambda: torch.utils.data.TensorDataset(*pair())\n"
    )
    images, labels = load("given_samples:pair")
    assert torch.equal(images, torch.ones(3, 2))
    assert torch.equal(labels, torch.arange(3))
    given, labels = load("given_samples:dataset")
    assert len(given) == 3
    assert labels is None


FAULTS = {
    "one.npz": (
        lambda path: np.savez(path, images=IMAGES),
        "train_images and train_labels or images and labels expected",
    ),
    "short.npz": (lambda path: np.savez(path, images=IMAGES, labels=LABELS[:3]), "as many labels as images expected"),
    "none.npz": (
        lambda path: np.savez(path, images=IMAGES[:0], labels=LABELS[:0]),
        "as many labels as images expected",
    ),
    "scalar.pt": (lambda path: torch.save({"images": torch.ones(()), "labels": torch.ones(())}, path), "found shapes"),
    "cut.npz": (lambda path: path.write_bytes(b"PK\x03\x04"), "not readable as .npz"),
    "cut.safetensors": (lambda path: path.write_bytes(b"1234"), "not readable as .safetensors"),
    "text.pt": (lambda path: torch.save("text", path), "a mapping with images and labels expected, found str"),
    "tensor.pt": (lambda path: torch.save(PAIR[0], path), "found one tensor without a name"),
    "pickled.npy": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not readable as .npy"),
    "names.npz": (
        lambda path: np.savez(path, images=IMAGES, labels=np.array(["cat", "dog"])[LABELS % 2]),
        "labels: numbers of one shape for each sample expected, found an array of <U3",
    ),
    "names.pt": (
        lambda path: torch.save({"images": PAIR[0], "labels": ["cat"] * 7}, path),
        "labels: numbers of one shape for each sample expected, found list",
    ),
    "shapes.pt": (
        lambda path: torch.save({"images": [torch.ones(2), torch.ones(3)], "labels": [0, 1]}, path),
        "images: numbers of one shape for each sample expected, found list",
    ),
    "nothing.pt": (
        lambda path: torch.save({"images": None, "labels": [0, 1]}, path),
        "images: numbers of one shape for each sample expected, found NoneType",
    ),
    "a.csv": (lambda path: path.touch(), "a file that ends in .npz"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_sentence_names_the_file_and_the_fault(tmp_path, name):
    write, message = FAULTS[name]
    write(tmp_path / name)
    with pytest.raises(DatasetError, match=re.escape(message)) as error:
        load(str(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_file_with_other_names_beside_labels(tmp_path):
    np.savez(tmp_path / "x.npz", a=IMAGES, b=IMAGES)
    np.save(tmp_path / "y.npy", LABELS)
    with pytest.raises(DatasetError, match=r"x\.npz: images expected, found a, b"):
        load(str(tmp_path / "x.npz"), str(tmp_path / "y.npy"))
    with pytest.raises(DatasetError, match=r"z\.npy: no such file"):
        load(str(tmp_path / "y.npy"), str(tmp_path / "z.npy"))
