"""Which files a data set is read from, told without reading them."""

import numpy as np
import pytest

from fishertail.data import source


@pytest.fixture
def data_dir(tmp_path):
    """A data_dir with arrays.npz of 7 training samples and a folder `tree` of 3."""
    np.savez(tmp_path / "arrays.npz", train_labels=np.zeros(7, dtype=np.int64), other=np.zeros(2))
    for path in ("train/a/1.png", "train/a/2.png", "train/b/1.png", "test/a/1.png"):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "samples"), [("digits", 1437), ("mnist", 60_000), ("cifar10", 50_000), ("arrays", 7), ("tree", 3)]
)
def test_the_number_of_training_samples(data_dir, name, samples):
    assert source.training_samples(name, data_dir) == samples


def test_a_broken_file_is_left_to_the_reader(data_dir):
    (data_dir / "arrays.npz").write_bytes((data_dir / "arrays.npz").read_bytes()[:40])
    assert source.training_samples("arrays", data_dir) is None


def test_an_unknown_data_set_lists_what_there_could_be(data_dir):
    with pytest.raises(source.UnknownDatasetError) as error:
        source.training_samples("cifar", data_dir)
    for expected in ("'cifar'", "digits, mnist, cifar10", f"{data_dir}/cifar.npz", f"{data_dir}/cifar/train/<class>/"):
        assert expected in str(error.value)


def test_the_users_files_are_watched(data_dir):
    assert source.source_files("arrays", data_dir) == [str(data_dir / "arrays.npz")]
    assert source.source_files("tree", data_dir) == [
        str(data_dir / "tree" / path) for path in ("test/a/1.png", "train/a/1.png", "train/a/2.png", "train/b/1.png")
    ]


def test_built_in_data_sets_have_no_files_to_watch(data_dir):
    assert source.source_files("mnist", data_dir) == []


@pytest.mark.parametrize(
    ("name", "of"), [("digits", "digits"), ("mnist", "torchvision"), ("arrays", "npz"), ("tree", "folder")]
)
def test_the_source_of_a_data_set(data_dir, name, of):
    found = source.source_of(name, data_dir)
    assert (found.name, source.module(found)) == (of, f"data.{of}")


def test_a_users_file_takes_the_place_of_a_built_in_data_set_and_a_folder_does_not(data_dir):
    (data_dir / "tree").rename(data_dir / "mnist")
    assert source.source_of("mnist", data_dir).name == "torchvision"
    assert source.training_samples("mnist", data_dir) == 60_000
    assert source.source_files("mnist", data_dir) == []
    (data_dir / "arrays.npz").rename(data_dir / "mnist.npz")
    assert source.source_of("mnist", data_dir).name == "npz"
    assert source.training_samples("mnist", data_dir) == 7
    assert source.source_files("mnist", data_dir) == [str(data_dir / "mnist.npz")]


def test_built_in_data_sets_have_titles_and_classes():
    found = source.built_in()
    assert [found[name].title for name in ("digits", "mnist", "cifar10")] == ["digits", "MNIST", "CIFAR-10"]
    assert found["cifar10"].classes[:3] == ("airplane", "automobile", "bird")
