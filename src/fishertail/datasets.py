"""Where image data sets are loaded from.

Built in are `digits` (scikit-learn's, needs no download), `mnist` and `cifar10` (by torchvision). Any other name is
`data_dir/NAME.npz` with train_images, train_labels, test_images, test_labels, or a tree
`data_dir/NAME/{train,test}/<class>/*.png`.
"""

import importlib
from pathlib import Path

from fishertail import sources
from fishertail.data.dataset import Dataset, checked


def load(name: str, data_dir: str | Path = "data", *, attempts: int = 3) -> Dataset:
    """Load a data set from its source, downloading `mnist` and `cifar10` where they are missing.

    Raises:
        DatasetError: names the file and the fault, or the paths looked at and the URL tried.
    """
    data_dir = Path(data_dir)
    source = importlib.import_module(f"fishertail.{sources.module(name, data_dir)}")
    return checked(name, *source.load(name, data_dir, attempts))
