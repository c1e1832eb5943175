"""The workflow on a real Grid Engine with TSUBAME's resource types."""

import pytest

from tests.schedulers.workflow import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SCHEDULER = "gridengine"


class TestGridEngine(Workflow):
    pass
