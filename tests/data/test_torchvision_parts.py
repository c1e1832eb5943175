"""Parts of MNIST and CIFAR-10 against the whole, whose images and labels are made up or real."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fishertail.data import loading as datasets
from fishertail.data import source
from fishertail.data.torchvision_parts import PARTS, Part, cut

LABELS = arrays.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 9))


@given(train=LABELS, test=LABELS, classes=st.none() | st.integers(1, 10), samples=st.none() | st.integers(0, 40))
def test_a_part_has_the_first_samples_of_the_first_classes_in_their_order(train, test, classes, samples):
    """An image is its position, so that a kept image says where it was."""
    whole = {"train_labels": train, "test_labels": test}
    whole |= {f"{split}_images": np.arange(len(whole[f"{split}_labels"])) for split in ("train", "test")}
    part = cut(whole, Part("whole", classes, samples))
    for split in ("train", "test"):
        labels = whole[f"{split}_labels"].tolist()
        expected = [i for i, label in enumerate(labels) if classes is None or label < classes]
        expected = expected[:samples] if split == "train" else expected
        assert part[f"{split}_images"].tolist() == expected
        assert part[f"{split}_labels"].tolist() == [labels[i] for i in expected]


@pytest.fixture
def data_dir(tmp_path):
    """A data_dir with a user's mnist.npz and cifar10.npz of 30 training and 20 test samples in 10 classes."""
    for name in ("mnist", "cifar10"):
        labels = {"train_labels": np.arange(30) % 10, "test_labels": np.arange(20) % 10}
        images = {f"{split}_images": np.zeros((n, 4, 4), np.uint8) for split, n in (("train", 30), ("test", 20))}
        np.savez(tmp_path / f"{name}.npz", **images, **labels)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("mnist_2classes", 6, 4, 2), ("mnist_5classes", 15, 10, 5), ("cifar10_10000", 30, 20, 10)],
)
def test_the_users_file_takes_the_place_of_the_whole_and_is_watched(data_dir, name, train, test, classes):
    dataset = datasets.load(name, data_dir)
    assert (len(dataset.train_labels), len(dataset.test_labels), dataset.classes) == (train, test, classes)
    assert source.source_files(name, data_dir) == [str(data_dir / f"{PARTS[name].of}.npz")]
    assert source.training_samples(name, data_dir) == (30 if name == "cifar10_10000" else None)


def test_the_official_files_are_not_watched_and_their_number_is_known(tmp_path):
    found = {name: source.training_samples(name, tmp_path) for name in PARTS}
    assert found == {"mnist_2classes": 12_665, "mnist_5classes": 30_596, "cifar10_10000": 10_000}
    assert not any(source.source_files(name, tmp_path) for name in PARTS)


def test_every_part_is_registered_and_no_other_name_is_taken(tmp_path):
    assert set(PARTS) <= set(source.built_in())
    assert source.source_of("mnist_2classes", tmp_path).name == "torchvision_parts"
    with pytest.raises(source.UnknownDatasetError):
        source.source_of("mnist_3classes", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes", "test"), [("mnist_2classes", 2, 2_115), ("mnist_5classes", 5, 5_139)])
def test_the_digits_below_a_number_of_the_real_mnist(real_data, name, classes, test):
    whole, part = datasets.load("mnist", real_data), datasets.load(name, real_data)
    assert part.classes == classes
    assert len(part.train_labels) == source.built_in()[name].training_samples
    assert len(part.test_labels) == test
    assert (part.train_images == whole.train_images[whole.train_labels < classes]).all()


@pytest.mark.slow
def test_the_first_10000_training_images_of_the_real_cifar10(real_data):
    whole, part = datasets.load("cifar10", real_data), datasets.load("cifar10_10000", real_data)
    assert (part.train_images == whole.train_images[:10_000]).all()
    assert (part.train_labels == whole.train_labels[:10_000]).all()
    assert part.train_labels.bincount().min() >= 900
    assert len(part.test_labels) == 10_000
