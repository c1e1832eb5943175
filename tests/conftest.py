"""What all tests share: one thread, the data sets, and a project whose workflow has run to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits
from xdist.scheduler import LoadScopeScheduling

from tests import once
from tests.workflow.project import Project

TOGETHER = (
    "tests/page/test_page.py",
    *(
        f"{folder}/test_{name}.py"
        for folder in ("executor/tests", "tests/schedulers")
        for name in ("gridengine", "slurm")
    ),
)
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

settings.register_profile("fishertail", deadline=None)  # a busy machine is no failure
settings.load_profile("fishertail")


class Scheduling(LoadScopeScheduling):
    """The files that start a browser or a scheduler first, each on one worker; then the other tests, one by one.

    Not `--dist loadgroup`, which finds no groups: pytest-xdist 3.8 sets an attribute that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid

    def _reschedule(self, node) -> None:
        """A test in hand and one to come are enough: what waits for a long test could be run by the other worker."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log) if config.getoption("dist") == "load" else None  # which is what -n alone means


def pytest_collection_modifyitems(config, items):
    of_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if of_gpu and not _gpu():
        for item in of_gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU here"))


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """More threads than free cores make torch, and numpy's linear algebra, 10 to 30 times slower."""
    import torch

    torch.set_num_threads(1)
    threadpool_limits(1)


@pytest.fixture(scope="session", autouse=True)
def one_folder_for_all_workers(tmp_path_factory):
    """Where tests.once keeps what it has made."""
    base = tmp_path_factory.getbasetemp()
    once.shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    once.shared.mkdir(exist_ok=True)


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits: 1437 + 360 images of 8 x 8."""
    from fishertail.data import loading as datasets

    return datasets.load("digits")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A data_dir with the real MNIST and CIFAR-10; not to be changed."""
    if named := os.environ.get("FISHERTAIL_TEST_DATA"):
        return Path(named).resolve()
    if not SHARED_DATA.is_dir():
        pytest.skip("FISHERTAIL_TEST_DATA does not name a folder with MNIST and CIFAR-10")
    unpack = [sys.executable, SHARED_DATA / "unpack.py"]
    return once.made("data", lambda folder: subprocess.run([*unpack, folder], check=True))


@pytest.fixture(scope="session")
def finished_once() -> Project:
    """A project whose workflow has run to its end; nothing is to be changed or run in it, since all workers read it."""
    return Project(once.made("finished", lambda folder: Project.new(folder).run()))
