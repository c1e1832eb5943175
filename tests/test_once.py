"""What workers share is made once, and whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import once

ROOT = Path(__file__).parents[1]
WORKER = """
import sys, time
from pathlib import Path
from tests import once

def make(folder):
    (folder / "part").touch()
    time.sleep(0.5)
    with open(once.shared / "made", "a") as file:
        file.write("once\\n")
    (folder / "part").rename(folder / "whole")

once.shared = Path(sys.argv[1])
assert (once.made("thing", make) / "whole").exists()
"""


def test_of_workers_that_need_it_at_the_same_time_one_makes_it(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, tmp_path], cwd=ROOT) for _ in range(3)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "made").read_text() == "once\n"


def test_what_failed_halfway_is_made_anew(tmp_path, monkeypatch):
    def fail(folder):
        (folder / "half").touch()
        raise OSError("no space")

    monkeypatch.setattr(once, "shared", tmp_path)
    with pytest.raises(OSError, match="no space"):
        once.made("thing", fail)
    folder = once.made("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert once.made("thing", fail) == folder
