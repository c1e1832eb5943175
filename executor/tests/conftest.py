"""A scheduler that runs for all tests of a file, and a workflow on its login node."""

import loopback
import pytest
from login import LoginNode

pytest.register_assert_rewrite("behaviour")


@pytest.fixture(scope="module")
def scheduler(request, tmp_path_factory):
    """The scheduler that the test's module names."""
    with loopback.started(request.module.SCHEDULER, tmp_path_factory) as machine:
        yield machine


@pytest.fixture
def login(scheduler, tmp_path):
    """Nothing of which is left for the next test."""
    node = LoginNode(tmp_path / "login", scheduler)
    yield node
    node.leave()
