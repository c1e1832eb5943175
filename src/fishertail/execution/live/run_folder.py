"""The folder of a run that is measured while it trains: a file for each table, as the workflow names them.

A step is written whole or not at all: its tables are completed in a folder beside them, and then take their places.
`watch.json`, which comes last, says of which run the folder is and which steps it holds.
"""

import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fishertail.errors import StorageError
from fishertail.execution.live.lock import Lock, locked
from fishertail.execution.live.samples import POSITIONS
from fishertail.measurements.collect import run_tables
from fishertail.results import storage
from fishertail.results.schema import Table, joined
from fishertail.training.checkpoints import prefix

MANIFEST = "watch.json"
_UNFINISHED = ".step-"


class RunFolder:
    """The tables of a run so far.

    Args:
        path: made by `check`.
        own: the tables that a run may have.

    Attributes:
        measured: the steps that it holds.

    Raises:
        StorageError: the folder is not one that was written here.
    """

    def __init__(self, path: str | Path, own: Iterable[Table]) -> None:
        self.path, self._own = Path(path), tuple(own)
        self._identity: dict[str, Any] = {}
        self._lock: Lock | None = None  # held as long as this object lives
        self.measured = set(self._manifest()[1])

    def positions(self) -> NDArray[np.int64] | None:
        """The positions of the subset that is measured, if one was kept."""
        path = self.path / POSITIONS.file
        if not path.exists():
            return None
        return storage.read_table(path, POSITIONS.names)["sample"].to_numpy(dtype=np.int64, copy=True)

    def check(self, identity: Mapping[str, Any]) -> None:
        """Lock the folder for this process, and note what decides the numbers of this run, as JSON has it.

        Raises:
            StorageError: the folder has steps of a run with another, another process writes into it, or it cannot be
                written. What it says nothing of, as that of an earlier version, is taken to agree.
        """
        storage.ensure_writable(self.path)
        self._lock = locked(self.path)
        self._identity = dict(json.loads(json.dumps(identity)))
        manifest = self._joint_manifest()
        self.measured = set(manifest["steps"])
        for unfinished in self.path.glob(f"{_UNFINISHED}*"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        storage.write_text(json.dumps(manifest, indent=1), self.path / MANIFEST)

    def add(
        self,
        step: int,
        frames: Mapping[Table, pd.DataFrame],
        tensors: Mapping[Table, Mapping[str, Any]],
        record: Mapping[str, Any],
        whole: Collection[Table] = (),
    ) -> None:
        """Write the rows and tensors of a step into the files of the run.

        Args:
            record: the provenance of every file.
            whole: tables of which all steps are given.

        Raises:
            StorageError: not all could be written; the files are as they were.
        """
        unfinished = self._unfinished()
        try:
            for table, frame in frames.items():
                rows = frame if table in whole else self._with_earlier(table, frame, step)
                storage.write_table(rows, unfinished / table.file, record)
            for table, each in tensors.items():
                storage.write_tensors(each, unfinished / prefix(step) / table.file, record)
            manifest = self._joint_manifest(step)
            storage.write_text(json.dumps(manifest, indent=1), unfinished / MANIFEST)
            self._take_places(unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.measured.add(step)

    def with_earlier(self, found: Mapping[str, Any], step: int) -> dict[str, Any]:
        """The data frames of a step, each with the rows of the steps before."""
        known = run_tables()
        frames = {name: each for name, each in found.items() if isinstance(each, pd.DataFrame)}
        return {name: self._with_earlier(known[name], frame, step) for name, frame in frames.items()}

    def _with_earlier(self, table: Table, frame: pd.DataFrame, step: int) -> pd.DataFrame:
        """The rows of all steps; those of a step that was cut short are replaced."""
        path = self.path / table.file
        if "step" not in frame or not path.exists():
            return frame
        earlier = storage.read_table(path)
        rows = joined([earlier[earlier["step"] != step], frame])
        return rows.sort_values("step", kind="stable", ignore_index=True)

    def _unfinished(self) -> Path:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path))
        except OSError as error:
            raise StorageError(f"{self.path}: cannot write: {error.strerror or error}") from error

    def _take_places(self, unfinished: Path) -> None:
        files = [path for path in unfinished.rglob("*") if path.is_file()]
        try:
            for path in sorted(files, key=lambda path: path.name == MANIFEST):
                place = self.path / path.relative_to(unfinished)
                place.parent.mkdir(exist_ok=True)
                path.replace(place)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot write: {error.strerror or error}") from error

    def _joint_manifest(self, *more: int) -> dict[str, Any]:
        """What the folder says, which this process may have changed elsewhere, with this run and further steps."""
        recorded, steps = self._manifest()
        for key in [key for key in self._identity if steps and key in recorded]:
            if self._identity[key] != recorded[key]:
                name, wanted, found = _difference(key, self._identity[key], recorded[key])
                raise StorageError(
                    f"{self.path}: a run with {name} {_short(wanted)} expected, found one with {_short(found)}; give "
                    "another folder"
                )
        return {**recorded, **self._identity, "steps": sorted({*steps, *more})}

    def _manifest(self) -> tuple[dict[str, Any], list[int]]:
        """What the folder says of its run, and the steps that it has."""
        path = self.path / MANIFEST
        if not path.exists():
            foreign = [table.file for table in self._own if (self.path / table.file).exists()]
            if foreign:
                raise StorageError(
                    f"{self.path}: an empty folder, or one with {MANIFEST}, expected, found {', '.join(foreign)}"
                )
            return {}, []
        try:
            identity = json.loads(path.read_text(encoding="utf-8"))
            return identity, identity.pop("steps")
        except (ValueError, KeyError, AttributeError, OSError) as error:
            raise StorageError(f"{path}: not a file that fishertail wrote; give another folder") from error


def _difference(name: str, wanted: Any, found: Any) -> tuple[str, Any, Any]:
    """The first entry in which two mappings differ, with its dotted name."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            if wanted.get(key) != found.get(key):
                return _difference(f"{name}.{key}", wanted.get(key), found.get(key))
    return name, wanted, found


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
