"""Schedulers for tests: a real one for all tests of a file, stand-ins, and one in memory."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import loopback
import pytest
from in_memory import Queue
from login import LoginNode
from snakemake_executor_plugin_queue import watch
from snakemake_executor_plugin_queue.ledger import Ledger
from snakemake_executor_plugin_queue.site import Site
from snakemake_executor_plugin_queue.watch import Watch
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


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def start(queue, tmp_path, monkeypatch):
    """Starts a Snakemake, that is, a `Watch` over the files that earlier ones left."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOST", "_GONE", "_PAUSE", "_AGAIN"):
        monkeypatch.setattr(watch, name, 0.0)
    said = []

    def make() -> Watch:
        inform = lambda level, text, once=None: said.append(text)  # noqa: E731
        site = Site(scheduler="slurm", account_required=False)
        return Watch(queue, site, Ledger(), logs=tmp_path, interval=0, latency=0, inform=inform)

    make.said = said
    return make
