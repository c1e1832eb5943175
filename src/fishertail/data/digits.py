"""scikit-learn's handwritten digits, which need no download."""

from pathlib import Path

from fishertail.data.source import Arrays, BuiltIn, Source

TRAINING = 1437  # samples


def load(name: str, data_dir: Path, attempts: int) -> tuple[Arrays, str | Path]:
    """1,437 training and 360 test images of 8 x 8, and where they come from."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    split = train_test_split(images, labels, train_size=TRAINING, random_state=0, stratify=labels)
    arrays = dict(zip(("train_images", "test_images", "train_labels", "test_labels"), split, strict=True))
    return arrays, "scikit-learn's load_digits"


SOURCE = Source(
    name="digits",
    meaning="scikit-learn's handwritten digits, embedded in the package",
    load=load,
    built_in={"digits": BuiltIn("digits", TRAINING, "1,437 + 360 grey images of 8 x 8, 10 classes; no download")},
)
