"""What all tests share: one torch thread, long tests only on demand, and the data sets."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

settings.register_profile("fishertail", deadline=None)  # a busy machine is no failure
settings.load_profile("fishertail")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="long: run by make test-full"))
    of_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if of_gpu and not _gpu():
        for item in of_gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU here"))


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """More threads than free cores make torch 10 to 30 times slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits: 1437 + 360 images of 8 x 8."""
    from fishertail import datasets

    return datasets.load("digits")


@pytest.fixture(scope="session")
def real_data(tmp_path_factory):
    """A data_dir with the real MNIST and CIFAR-10."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real MNIST and CIFAR-10 are not beside this checkout")
    directory = tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, SHARED_DATA / "unpack.py", directory], check=True)
    return directory
