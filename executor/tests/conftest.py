"""A scheduler that runs for all tests of a file, and a workflow on its login node."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import loopback
import pytest
from login import LoginNode
from stand_in import StandIn

pytest.register_assert_rewrite("behaviour")


@pytest.fixture(scope="module")
def scheduler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Namespace]:
    """The scheduler that the test's module names."""
    with loopback.started(request.module.SCHEDULER, tmp_path_factory) as machine:
        yield machine


@pytest.fixture
def login(scheduler: loopback.Namespace, tmp_path: Path) -> Iterator[LoginNode]:
    """A login node of the scheduler, of which nothing is left for the next test."""
    node = LoginNode(tmp_path / "login", scheduler)
    yield node
    node.leave()


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., LoginNode]:
    """A login node for the site, query program and programs of a `StandIn`."""

    def make(site: Mapping[str, Any], *, asks: str, programs: Mapping[str, str]) -> LoginNode:
        return LoginNode(tmp_path / "login", StandIn(tmp_path / "bin", site, asks=asks, programs=programs))

    return make
