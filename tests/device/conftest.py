"""A process that has the simulated accelerator; in the tests' own it would be every other test's accelerator, too."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.device import simulated


@pytest.fixture(scope="session")
def plugin(request, tmp_path_factory) -> dict[str, str]:
    """The environment of a Python that finds the device."""
    if simulated.compiler() is None:
        pytest.skip("a C++ compiler expected (c++, or what CXX names) for the simulated accelerator, found none")
    library = simulated.built(request.config.cache.mkdir("simulated_accelerator"))
    return simulated.plugin(tmp_path_factory.mktemp("plugin"), library)


@pytest.fixture(scope="module")
def there(plugin) -> Callable:
    """Calls a function in the process that has the device."""
    added = {name: value for name, value in plugin.items() if name != "PYTHONPATH"}
    added["PYTHONPATH"] = os.pathsep.join(filter(None, [plugin["PYTHONPATH"], os.environ.get("PYTHONPATH")]))
    with (
        pytest.MonkeyPatch.context() as patch,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
    ):
        for name, value in added.items():
            patch.setenv(name, value)
        patch.syspath_prepend(plugin["PYTHONPATH"])  # a spawned process takes over sys.path
        yield lambda function, *arguments, **options: process.submit(function, *arguments, **options).result(300)
