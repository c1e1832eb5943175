"""Data sets from every source by one interface, and a named fault for every file that is not one."""

import gzip
import hashlib
import re
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fishertail.data import dataset as stored
from fishertail.data import loading as datasets
from fishertail.data import source, torchvision
from fishertail.data.operators import declare_torchvision_operators
from fishertail.errors import DatasetError, StorageError
from fishertail.results import provenance

RANDOM = np.random.default_rng(0)


def arrays(shape=(4, 5), **changes) -> dict:
    """A sound data set of 12 + 6 images in 3 classes, and what is to be changed about it."""
    sound = {
        "train_images": RANDOM.integers(0, 256, (12, *shape), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": RANDOM.integers(0, 256, (6, *shape), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    return sound | changes


def save(path, content):
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def refused(name, data_dir, **options) -> str:
    with pytest.raises(DatasetError) as error:
        datasets.load(name, data_dir, **options)
    return str(error.value)


def test_digits_are_1437_and_360_images_of_8_by_8(digits):
    assert (digits.train_images.shape, digits.test_images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert digits.train_images.dtype == torch.uint8
    assert (digits.classes, digits.shape) == (10, (1, 8, 8))
    assert int(digits.train_images.max()) == 255


def test_the_digits_of_a_class_are_spread_over_both_parts_alike(digits):
    shares = [labels.bincount() / len(labels) for labels in (digits.train_labels, digits.test_labels)]
    torch.testing.assert_close(*shares, rtol=0, atol=2e-3)


def test_digits_are_the_same_every_time(digits):
    assert datasets.load("digits").content_hash == digits.content_hash


def test_pixels_are_scaled_to_0_to_1(digits):
    for images, labels in (digits.training_data(), digits.validation_data()):
        assert (images.dtype, len(images)) == (torch.float32, len(labels))
        assert (float(images.min()), float(images.max())) == (0, 1)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((4, 5), (1, 4, 5)),
        ((4, 5, 3), (3, 4, 5)),
        ((3, 4, 5), (3, 4, 5)),
        ((4, 5, 1), (1, 4, 5)),
        ((6, 5, 4), (4, 6, 5)),  # RGBA
        ((4, 6, 5), (4, 6, 5)),
        ((8, 4, 4), (8, 4, 4)),  # eight channels of 4 x 4
    ],
)
def test_npz_images_of_every_layout(tmp_path, shape, found):
    content = arrays(shape)
    save(tmp_path / "mine.npz", content)
    dataset = datasets.load("mine", tmp_path)
    assert (dataset.shape, dataset.classes, dataset.train_labels.dtype) == (found, 3, torch.int64)
    if shape in ((4, 5, 3), (6, 5, 4)):
        content["train_images"] = np.moveaxis(content["train_images"], -1, 1)
    np.testing.assert_array_equal(dataset.train_images, content["train_images"].reshape(12, *found))


def test_the_content_hash_tells_a_changed_pixel_and_a_changed_label(tmp_path):
    content = arrays()
    hashes = {datasets.load("mine", save(tmp_path / "mine.npz", content).parent).content_hash}
    content["test_images"][0, 0, 0] += 1
    hashes.add(datasets.load("mine", save(tmp_path / "mine.npz", content).parent).content_hash)
    content["train_labels"][0] = 1
    hashes.add(datasets.load("mine", save(tmp_path / "mine.npz", content).parent).content_hash)
    assert len(hashes) == 3


FAULTS = {
    "missing array": ({"test_labels": None}, "test_labels missing"),
    "float images": ({"train_images": np.zeros((12, 4, 5))}, "train_images: dtype uint8 expected, found float64"),
    "flat images": ({"train_images": np.zeros((12, 20), np.uint8)}, "train_images: shape .* expected, found (12, 20)"),
    "float labels": (
        {"train_labels": np.arange(12) % 3 / 1.0},
        "train_labels: one integer for each sample expected, found float",
    ),
    "one-hot labels": (
        {"test_labels": np.eye(6, dtype=int)},
        "test_labels: one integer for each sample .* of shape (6, 6)",
    ),
    "negative labels": ({"train_labels": np.arange(12) % 3 - 1}, "train_labels: labels from 0 on expected, found -1"),
    "fewer labels": ({"train_labels": np.arange(11) % 3}, "12 train images but 11 train labels"),
    "a class missing": ({"train_labels": np.arange(12) % 2 * 2}, r"every class from 0 .* expected, found [0, 2]"),
    "one class": ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(6, int)}, "at least two .* found [0]"),
    "a test class too many": ({"test_labels": np.arange(6)}, "test_labels: labels below 3 .* expected, found 5"),
    "test images of another size": (
        {"test_images": np.zeros((6, 5, 5), np.uint8)},
        "one shape expected, found (1, 4, 5)",
    ),
    "no test images": (
        {"test_images": np.zeros((0, 4, 5), np.uint8), "test_labels": np.zeros(0, int)},
        "no test images",
    ),
    "objects": ({"train_labels": np.array([{}] * 12)}, "not a readable npz file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_npz_names_the_file_and_the_fault(tmp_path, fault):
    changes, expected = FAULTS[fault]
    path = save(tmp_path / "mine.npz", arrays(**changes))
    pattern = ".*".join(re.escape(part) for part in expected.split(".*"))
    assert re.match(f"{path}: .*{pattern}", refused("mine", tmp_path))


@pytest.mark.parametrize("part", [0, 0.3, 0.9])
def test_a_truncated_npz_names_the_file(tmp_path, part):
    path = save(tmp_path / "mine.npz", arrays())
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert refused("mine", tmp_path).startswith(f"{path}: not a readable npz file (")


@pytest.fixture
def tree(tmp_path):
    """A folder of 4 x 6 images in the classes cat and dog, three a class in train and one in test."""
    for split, count in (("train", 3), ("test", 1)):
        for value, name in enumerate(("dog", "cat")):
            for index in range(count):
                path = tmp_path / "pets" / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (6, 4), 100 * value + index).save(path)
    return tmp_path / "pets"


def test_a_folder_has_its_classes_in_alphabetical_order(tree):
    dataset = datasets.load("pets", tree.parent)
    assert dataset.shape == (1, 4, 6)
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1]  # cat, dog
    assert dataset.train_images[:, 0, 0, 0].tolist() == [100, 101, 102, 0, 1, 2]
    assert dataset.test_labels.tolist() == [0, 1]


def test_colour_images_have_three_channels(tree):
    for path in tree.glob("*/*/*.png"):
        Image.new("RGB", (6, 4), (10, 20, 30)).save(path)
    dataset = datasets.load("pets", tree.parent)
    assert dataset.shape == (3, 4, 6)
    assert dataset.train_images[0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("mode", "dtype", "suffix"), [("I;16", "uint16", "png"), ("I", "int32", "tif"), ("F", "float32", "tif")]
)
def test_an_image_of_more_than_8_bits_is_named(tree, mode, dtype, suffix):
    path = tree / "train" / "dog" / f"deep.{suffix}"
    Image.fromarray((load_digits().images[0] * 1000).astype(dtype)).save(path)
    assert refused("pets", tree.parent).startswith(
        f"{path}: an image of 8 bits a channel expected, found Pillow's mode {mode}; scale it"
    )


def test_of_an_image_the_first_frame_counts_as_it_is_stored(tree):
    """Animated, turned by EXIF, and with transparency."""
    for path in tree.glob("*/*/*.png"):
        colours = [(10, 20, 30, 0), (40, 50, 60, 255)]
        first, second = (Image.new("RGBA", (6, 4), colour) for colour in colours)
        turned = Image.Exif()
        turned[0x0112] = 6  # orientation: by 90 degrees
        first.save(path, save_all=True, append_images=[second], exif=turned)
        with Image.open(path) as image:
            assert (image.n_frames, image.getexif()[0x0112]) == (2, 6)
    dataset = datasets.load("pets", tree.parent)
    assert dataset.shape == (3, 4, 6)
    assert dataset.train_images[0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_8_bits_is_read(tree, mode):
    for path in tree.glob("*/*/*.png"):
        path.unlink()
        Image.new(mode, (6, 4)).save(path.with_suffix(".jpg" if mode == "YCbCr" else ".tif"))
    assert datasets.load("pets", tree.parent).shape == (3, 4, 6)


def test_an_image_of_another_size_is_named(tree):
    Image.new("L", (7, 4)).save(tree / "train" / "dog" / "1.png")
    expected = f"{tree}/train/dog/1.png: shape (4, 6) as in {tree}/train/cat/0.png expected, found (4, 7)"
    assert refused("pets", tree.parent) == expected


def test_a_file_that_is_no_image_is_named(tree):
    (tree / "train" / "dog" / "notes.txt").write_text("not an image")
    assert refused("pets", tree.parent).startswith(f"{tree}/train/dog/notes.txt: not a readable image (")


def test_a_folder_without_classes_is_named(tree):
    for path in tree.glob("test/*/*"):
        path.rename(tree / "test" / f"{path.parent.name}.png")
        path.parent.rmdir()
    assert refused("pets", tree.parent) == f"{tree}/test: one folder for each class expected, found none"


def test_pictures_of_other_splits_are_no_files_of_the_data_set(tree):
    before = source.source_files("pets", tree.parent)
    assert len(before) == 8
    (tree / "val" / "cat").mkdir(parents=True)
    (tree / "train" / "cat" / "0.png").rename(tree / "val" / "cat" / "0.png")
    assert source.source_files("pets", tree.parent) == [path for path in before if "train/cat/0" not in path]


@pytest.mark.parametrize("name", ["bee", "emu"])  # which comes first or last
def test_a_training_class_without_pictures_is_named(tree, name):
    (tree / "test" / "cat" / "0.png").unlink()  # a class may lack test images
    assert len(datasets.load("pets", tree.parent).test_labels) == 1
    (tree / "train" / name).mkdir()
    assert refused("pets", tree.parent) == f"{tree}/train/{name}: pictures of a class expected, found none"


def test_pictures_in_a_folder_of_a_class_are_not_overlooked(tree):
    (tree / "train" / "dog" / "more").mkdir()
    (tree / "train" / "dog" / "1.png").rename(tree / "train" / "dog" / "more" / "1.png")
    assert refused("pets", tree.parent) == f"{tree}/train/dog/more: a picture expected, found a folder"


def test_a_test_class_that_train_lacks_is_named(tree):
    (tree / "test" / "dog").rename(tree / "test" / "emu")
    assert refused("pets", tree.parent) == f"{tree}/test: classes ['emu'] are not among those of train"


def test_a_name_that_is_nothing_lists_the_paths_looked_at(tmp_path):
    message = refused("svhn", tmp_path)
    assert f"{tmp_path}/svhn.npz" in message
    assert f"{tmp_path}/svhn/train/<class>/" in message


@pytest.fixture
def torchvision_datasets(monkeypatch):
    """torchvision.datasets, which finds nobody where it downloads from."""
    declare_torchvision_operators()
    from torchvision import datasets as module

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(module.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return module


@pytest.mark.parametrize(
    ("name", "folder", "url"),
    [
        ("mnist", "MNIST/raw", "http://127.0.0.1:9/"),
        ("cifar10", "cifar-10-batches-py", "http://127.0.0.1:9/cifar-10-python.tar.gz"),
    ],
)
def test_without_files_and_network_the_paths_and_the_url_are_named_every_time(
    torchvision_datasets, tmp_path, name, folder, url
):
    for _ in range(2):  # what the first attempt leaves behind is not taken for a data set
        message = refused(name, tmp_path, attempts=1)
        for expected in (f"{tmp_path}/{name}.npz", f"{tmp_path}/{folder}", f"{url} could not be downloaded"):
            assert expected in message


def test_the_pause_between_attempts_doubles(torchvision_datasets, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(torchvision.time, "sleep", pauses.append)
    assert "4 attempts" in refused("cifar10", tmp_path, attempts=4)
    assert pauses == [1, 2, 4]


def test_mnist_is_downloaded_and_an_interrupted_download_goes_on(
    torchvision_datasets, real_data, tmp_path, monkeypatch
):
    served, resources = tmp_path / "served", []
    served.mkdir()
    for path in sorted((real_data / "MNIST" / "raw").iterdir()):
        content = gzip.compress(path.read_bytes(), compresslevel=1)
        (served / f"{path.name}.gz").write_bytes(content)
        resources.append((f"{path.name}.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(torchvision_datasets.MNIST, "resources", resources)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(torchvision_datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        (served / resources[2][0]).rename(tmp_path / "away")
        assert "could not be downloaded" in refused("mnist", tmp_path, attempts=1)
        (tmp_path / "away").rename(served / resources[2][0])
        assert len(datasets.load("mnist", tmp_path).train_images) == 60_000
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write_mnist(data_dir, cut: int = 0):
    """The four files of MNIST with two images each."""
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = struct.pack(">IIII", 2051, 2, 28, 28) + bytes(2 * 28 * 28 - cut)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 2) + bytes([0, 1]))
    return raw


def test_truncated_mnist_files_name_the_folder(torchvision_datasets, tmp_path):
    raw = write_mnist(tmp_path, cut=1)
    message = refused("mnist", tmp_path)
    assert message.startswith(f"{raw}: not the files of mnist (")
    assert message.endswith("; delete the folder")


def test_mnist_with_too_few_images_is_refused(torchvision_datasets, tmp_path):
    raw = write_mnist(tmp_path)
    assert refused("mnist", tmp_path) == f"{raw}: 60000 train images expected, found 2"


@pytest.mark.parametrize("content", [b"", b"no pickle at all"])
def test_broken_cifar10_files_name_the_folder(torchvision_datasets, tmp_path, content):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(content)
    assert refused("cifar10", tmp_path).startswith(f"{folder}: not the files of cifar10 (")


def test_the_real_mnist(real_data):
    dataset = datasets.load("mnist", real_data)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert dataset.train_labels.bincount().tolist() == counts


def test_the_real_cifar10(real_data):
    dataset = datasets.load("cifar10", real_data)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert dataset.train_labels.bincount().tolist() == [5000] * 10
    assert dataset.test_labels.bincount().tolist() == [1000] * 10


def prepared(dataset, path):
    stored.write(dataset, path, provenance.provenance("prepare_dataset", {}, [dataset.content_hash]))
    return path


def test_a_prepared_data_set_is_read_back_whole(digits, tmp_path):
    found = stored.read(prepared(digits, tmp_path / "digits.safetensors"))
    assert (found.name, found.classes, found.content_hash) == ("digits", 10, digits.content_hash)
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(found, part), getattr(digits, part))


def test_a_broken_prepared_data_set_is_refused(digits, tmp_path):
    path = prepared(digits, tmp_path / "digits.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{path}: .*checksum"):
        stored.read(path)
