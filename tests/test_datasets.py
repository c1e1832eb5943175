"""Data sets from every kind of source, and one clear error for every kind of fault."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from fishertail import datasets, sources
from fishertail.errors import DatasetError, StorageError


def arrays(images=(6, 5, 4), classes=3, test=3):
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", images[0]), ("test", test)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, *images[1:]), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(count) % classes
    return made


def save(tmp_path, **changes):
    made = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez(tmp_path / "own.npz", **made)
    return datasets.load("own", tmp_path)


def test_digits_are_1797_real_images_split_the_same_way_every_time(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.train_images.dtype == torch.uint8
    assert digits.train_images.max() == 255
    assert digits.classes == 10
    assert digits.content_hash == datasets.load("digits").content_hash


def test_images_are_scaled_to_one(digits):
    images, labels = digits.training_data()
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert torch.equal(labels, digits.train_labels)


@pytest.mark.parametrize(
    ("shape", "expected"), [((6, 5, 4), (1, 5, 4)), ((6, 5, 4, 3), (3, 5, 4)), ((6, 3, 5, 4), (3, 5, 4))]
)
def test_npz_of_every_layout(tmp_path, shape, expected):
    np.savez(tmp_path / "own.npz", **arrays(shape))
    dataset = datasets.load("own", tmp_path)
    assert dataset.shape == expected
    assert dataset.classes == 3
    assert sources.training_samples("own", tmp_path) == 6


def test_the_hash_tells_contents_apart(tmp_path):
    first = save(tmp_path)
    changed = arrays()["train_images"]
    changed[0, 0, 0] ^= 1
    assert save(tmp_path).content_hash == first.content_hash
    assert save(tmp_path, train_images=changed).content_hash != first.content_hash


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_image_folders(tmp_path, mode, channels):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "ant"):
            (tmp_path / "own" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new(mode, (6, 5), 40 * i if mode == "L" else (40 * i, 0, 0)).save(
                    tmp_path / "own" / split / name / f"{i}.png"
                )
    dataset = datasets.load("own", tmp_path)
    assert dataset.shape == (channels, 5, 6)
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.train_images[:3, 0, 0, 0].tolist() == [0, 40, 80]
    assert sources.training_samples("own", tmp_path) == 6
    assert len(sources.source_files("own", tmp_path)) == 8


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"test_labels": None}, "test_labels missing"),
        ({"train_images": np.zeros((6, 5, 4))}, "train_images: dtype uint8 expected, found float64"),
        ({"train_images": np.zeros((6, 20), np.uint8)}, r"train_images: shape .* expected, found \(6, 20\)"),
        ({"train_labels": np.arange(6) / 2}, "train_labels: one integer a sample expected, found float64"),
        ({"train_labels": np.arange(6) - 1}, "train_labels: labels from 0 on expected, found -1"),
        ({"train_labels": np.arange(5) % 3}, "6 train images but 5 train labels"),
        (
            {"train_labels": np.array([0, 2, 0, 2, 0, 2])},
            r"every class from 0 on and at least two expected, found \[0, 2\]",
        ),
        ({"test_labels": np.array([0, 1, 7])}, r"test_labels: labels below 3 .* found 7"),
        ({"test_images": np.zeros((3, 5, 5), np.uint8)}, "of one shape expected"),
        ({"test_images": np.zeros((0, 5, 4), np.uint8), "test_labels": np.zeros(0, int)}, "no test images"),
    ],
)
def test_every_fault_of_a_file_is_named(tmp_path, changes, fault):
    with pytest.raises(DatasetError, match=fault) as error:
        save(tmp_path, **changes)
    assert str(tmp_path / "own.npz") in str(error.value)


def test_a_truncated_npz_is_named(tmp_path):
    save(tmp_path)
    path = tmp_path / "own.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=f"{path}: not a readable npz file"):
        datasets.load("own", tmp_path)


@pytest.mark.parametrize("fault", ["not a readable image", "shape"])
def test_a_bad_image_in_a_folder_is_named(tmp_path, fault):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "own" / split / name).mkdir(parents=True)
            Image.new("L", (6, 5)).save(tmp_path / "own" / split / name / "0.png")
    bad = tmp_path / "own" / "train" / "b" / "1.png"
    bad.write_bytes(b"garbage") if fault == "not a readable image" else Image.new("L", (7, 5)).save(bad)
    with pytest.raises(DatasetError, match=f"{bad}: {fault}"):
        datasets.load("own", tmp_path)


def test_a_name_that_is_nowhere_lists_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown data set 'own', expected one of digits, .*own\.npz, or a folder"):
        datasets.load("own", tmp_path)


@pytest.mark.parametrize(("name", "path"), [("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py")])
def test_no_files_and_no_network_names_paths_and_url(tmp_path, monkeypatch, name, path):
    datasets._declare_torchvision_operators()
    from torchvision.datasets import CIFAR10, MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(DatasetError) as error:
        datasets.load(name, tmp_path, attempts=1)
    for part in (str(tmp_path / f"{name}.npz"), str(tmp_path / path), "http://127.0.0.1:9/", "machine.data_dir"):
        assert part in str(error.value)


def test_what_was_prepared_is_read_as_it_was(tmp_path, digits):
    datasets.write(digits, tmp_path / "digits.safetensors", {"data": [digits.content_hash]})
    read = datasets.read(tmp_path / "digits.safetensors")
    for field in dataclasses.fields(digits):
        a, b = getattr(read, field.name), getattr(digits, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_prepared_file_that_is_broken_is_refused(tmp_path, digits):
    path = tmp_path / "digits.safetensors"
    datasets.write(digits, path, {"data": [digits.content_hash]})
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=str(path)):
        datasets.read(path)


def test_the_real_mnist_and_cifar10(real_data):
    mnist, cifar10 = (datasets.load(name, real_data) for name in ("mnist", "cifar10"))
    assert mnist.train_images.shape == (60_000, 1, 28, 28)
    assert mnist.test_images.shape == (10_000, 1, 28, 28)
    assert int((mnist.train_labels == 0).sum()) == 5923
    assert cifar10.train_images.shape == (50_000, 3, 32, 32)
    assert torch.bincount(cifar10.train_labels).tolist() == [5000] * 10


def test_truncated_mnist_files_name_their_folder(real_data, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (real_data / "MNIST" / "raw").iterdir():
        (raw / path.name).write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=f"{raw}: not the files of mnist"):
        datasets.load("mnist", tmp_path)
