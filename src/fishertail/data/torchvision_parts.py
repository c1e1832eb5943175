"""Parts of MNIST and CIFAR-10: some of the classes, or the first of the training samples.

Each is read as the whole is, and cut; nothing is drawn at random.
"""

from dataclasses import dataclass
from pathlib import Path

from fishertail.data import npz, torchvision
from fishertail.data.source import SPLITS, Arrays, BuiltIn, Source


@dataclass(frozen=True)
class Part:
    """What is taken of a data set."""

    of: str  # the name of the whole
    classes: int | None = None  # the first so many; None: all
    samples: int | None = None  # the first so many training samples of these classes; None: all


PARTS = {
    "mnist_2classes": Part("mnist", classes=2),
    "mnist_5classes": Part("mnist", classes=5),
    "cifar10_10000": Part("cifar10", samples=10_000),
}
BUILT_IN = {
    "mnist_2classes": BuiltIn("MNIST, 2 classes", 12_665, "the digits 0 and 1 of MNIST: 12,665 + 2,115 images"),
    "mnist_5classes": BuiltIn("MNIST, 5 classes", 30_596, "the digits 0 to 4 of MNIST: 30,596 + 5,139 images"),
    "cifar10_10000": BuiltIn(
        "CIFAR-10, 10,000 images",
        10_000,
        "the first 10,000 training images of CIFAR-10, and its 10,000 test images",
        torchvision.BUILT_IN["cifar10"].classes,
    ),
}


def load(name: str, data_dir: Path, attempts: int) -> tuple[Arrays, str | Path]:
    """The part's images and labels, and where the whole comes from: the user's NAME.npz, or the official files.

    Raises:
        DatasetError: the whole cannot be read.
    """
    part = PARTS[name]
    read = npz.load if npz.files(part.of, data_dir) else torchvision.load
    whole, origin = read(part.of, data_dir, attempts)
    return cut(whole, part), origin


def cut(whole: Arrays, part: Part) -> Arrays:
    """The part of a data set, in the order of the whole.

    Args:
        whole: images and labels, as `Arrays` has them.
        part: its classes are cut from training and test samples, its number of samples from the training samples.
    """
    arrays = {}
    for split in SPLITS:
        labels = whole[f"{split}_labels"]
        wanted = slice(None) if part.classes is None else labels < part.classes
        most = part.samples if split == "train" else None
        for kind in ("images", "labels"):
            arrays[f"{split}_{kind}"] = whole[f"{split}_{kind}"][wanted][:most]
    return arrays


def files(name: str, data_dir: Path) -> list[Path]:
    """The user's file that takes the place of the whole, if there is one."""
    return npz.files(PARTS[name].of, data_dir) if name in PARTS else []


def training_samples(name: str, data_dir: Path) -> int | None:
    """How many are taken of the user's file; None for a part of its classes, whose sizes only its labels tell."""
    part, whole = PARTS[name], npz.training_samples(PARTS[name].of, data_dir)
    return None if whole is None or part.classes is not None else min(whole, part.samples or whole)


SOURCE = Source(
    name="torchvision_parts",
    meaning="parts of MNIST and CIFAR-10: some of the classes, or the first of the training samples",
    load=load,
    built_in=BUILT_IN,
    files=files,
    training_samples=training_samples,
)
