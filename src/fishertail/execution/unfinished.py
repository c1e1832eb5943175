"""The checkpoints that a job has finished, saved while it runs, so that a job that was killed does not start over.

They are saved in a hidden folder beside the job's outputs, which is removed once these are written. A saved checkpoint
is taken only if whatever it is made from, the options, the code, the versions and the machine are the same, so that a
kill alters no bit of the results.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fishertail.errors import StorageError
from fishertail.results import storage
from fishertail.results.schema import Table
from fishertail.training.checkpoints import Weights, prefix

if TYPE_CHECKING:  # what trains does not depend on what measures
    from fishertail.execution.measuring import Tables, Tensors

INTERVAL = 30.0  # seconds of work that a kill may lose, besides the checkpoint under way
_SELECTION = {"epochs", "checkpoints", "blocks"}  # parameters that only say which checkpoints are wanted


@dataclass
class Unfinished:
    """The checkpoints that a job has finished.

    Attributes:
        name: of what the job does.
        tables: that it makes for each checkpoint.
        outputs: the files that it is to write, by the names of these tables.
        provenance: of these files.
        inputs: by SGD step, a checksum of what the tables of the checkpoint are made from.
        network: a hash of the user's code that makes the network, which the provenance does not know; "" if none does.
    """

    name: str
    tables: Sequence[Table]
    outputs: Mapping[str, str]
    provenance: Mapping[str, Any]
    inputs: Mapping[int, str]
    network: str = ""
    _pending: "dict[int, Tables]" = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """Where they are saved."""
        return Path(self.outputs[self.tables[0].name]).parent / f".{self.name}.unfinished"

    def read(self) -> "dict[int, Tables]":
        """The tables of each checkpoint that was saved and would be made alike today, by step."""
        found = {}
        for step in self.inputs:
            try:
                found[step] = {table.name: self._read(table, step) for table in self.tables}
            except StorageError:  # not saved, broken, or of something else
                continue
        return found

    def add(self, step: int, tables: "Tables") -> None:
        """Take the tables of a checkpoint, and save them once `INTERVAL` has passed since the last time.

        A disk that is full does not end the job here: it may have room for the outputs. What could not be saved is
        tried again with the next, since training goes on before the first gap.
        """
        self._pending[step] = tables
        if time.monotonic() - self._saved < INTERVAL:
            return
        try:
            for each, given in list(self._pending.items()):
                for table in self.tables:
                    self._write(table, each, given[table.name])
                del self._pending[each]
        except StorageError as error:
            print(f"not saved before the job's end: {error}")
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove what was saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _record(self, step: int) -> dict[str, Any]:
        parameters = {key: value for key, value in self.provenance["parameters"].items() if key not in _SELECTION}
        record = {**self.provenance, "parameters": parameters, "inputs": self.inputs[step], "network": self.network}
        return dict(json.loads(json.dumps(record)))

    def _path(self, table: Table, step: int) -> Path:
        suffix = "safetensors" if table.suffix == "safetensors" else "parquet"  # a CSV forgets the types
        return self.folder / f"{prefix(step).rstrip('/')}.{table.name}.{suffix}"

    def _read(self, table: Table, step: int) -> Any:
        path = self._path(table, step)
        found = {key: value for key, value in storage.read_provenance(path).items() if key != "sha256"}
        if found != self._record(step):
            raise StorageError(f"{path}: of something else")
        return storage.read_tensors(path) if path.suffix == ".safetensors" else storage.read_table(path)

    def _write(self, table: Table, step: int, found: Any) -> None:
        write = storage.write_tensors if table.suffix == "safetensors" else storage.write_table
        write(found, self._path(table, step), self._record(step))


def checksum(weights: Weights, tables: Mapping[str, pd.DataFrame], tensors: "Mapping[str, Tensors]", step: int) -> str:
    """A SHA-256, in hexadecimal, of all that a checkpoint is measured from, besides the data.

    Args:
        weights: at this step.
        tables, tensors: of the needed measurements, by name; those of other steps do not count.
    """
    parts = [storage.tensor_checksum(weights)]
    for name in sorted(tables):
        parts += [name, storage.frame_checksum(tables[name][tables[name]["step"] == step])]
    for name in sorted(tensors):
        of_step = {key: each for key, each in tensors[name].items() if key.startswith(prefix(step))}
        parts += [name, storage.tensor_checksum(of_step)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
