"""Which files a data set is read from, told without reading them."""

import numpy as np
import pytest

from fishertail import sources


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
    assert sources.training_samples(name, data_dir) == samples


def test_a_broken_file_is_left_to_the_reader(data_dir):
    (data_dir / "arrays.npz").write_bytes((data_dir / "arrays.npz").read_bytes()[:40])
    assert sources.training_samples("arrays", data_dir) is None


def test_files_are_not_looked_for_where_they_need_not_be():
    assert sources.training_samples("anything", "/nowhere", check_files=False) is None


def test_an_unknown_data_set_lists_what_there_could_be(data_dir):
    with pytest.raises(sources.SourceError) as error:
        sources.training_samples("cifar", data_dir)
    for expected in ("'cifar'", "digits, mnist, cifar10", f"{data_dir}/cifar.npz", f"{data_dir}/cifar/train/<class>/"):
        assert expected in str(error.value)


def test_the_users_files_are_watched(data_dir):
    assert sources.source_files("arrays", data_dir) == [str(data_dir / "arrays.npz")]
    assert sources.source_files("tree", data_dir) == [
        str(data_dir / "tree" / path) for path in ("test/a/1.png", "train/a/1.png", "train/a/2.png", "train/b/1.png")
    ]


def test_built_in_data_sets_have_no_files_to_watch(data_dir):
    assert sources.source_files("mnist", data_dir) == []
