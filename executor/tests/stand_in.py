"""A machine whose scheduler is a few programs of a test's own, put on the PATH of Snakemake."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class StandIn:
    """Programs that answer as those of a scheduler do, and run its jobs as processes of this machine.

    Args:
        folder: where they are put; they see its subfolder `state` as $STATE.
        site: the settings of the site.
        asks: the program whose calls are counted as queries.
        programs: the text of each program, by name; without a first line of its own it is a script of bash.
    """

    def __init__(self, folder: Path, site: Mapping[str, Any], *, asks: str, programs: Mapping[str, str]):
        self.folder, self.state, self.site, self.program_that_asks = folder, folder / "state", site, asks
        self.state.mkdir(parents=True)
        for name, text in programs.items():
            (folder / name).write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"STATE": str(self.state), "PATH": path}

    def popen(self, *arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments, cwd=cwd, **options)
