"""Convert kept runs of version 0.1, which counted time in epochs, to version 0.2, which counts SGD steps.

`python -m fishertail.results.conversion OLD NEW` converts the runs below OLD/runs. Nothing is lost: what version 0.1
measured at the ends of epochs stays, and what it did not measure (the checkpoints inside epochs, landmarks besides the
lowest validation loss) is missing, as it is from any run that was kept before it was measured.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishertail.errors import StorageError
from fishertail.results import of_run, storage
from fishertail.results.run import LANDMARKS, Block

if TYPE_CHECKING:
    import pandas as pd

_RENAMED = {"B_anew": "B_resolved", "decrease_anew_percent": "decrease_resolved_percent"}
_UNUSED: dict[str, Any] = dict.fromkeys(("channels", "hidden_widths", "initialisation", "factory")) | {"arguments": {}}


def convert(old: str | Path, new: str | Path) -> list[str]:
    """Convert every kept run below `old`.

    Args:
        old: a folder that version 0.1 kept runs in; it stays as it is.
        new: a folder, in which a run that is there already is replaced.

    Returns:
        the directories of the runs below `runs`.

    Raises:
        StorageError: a file is missing or broken.
    """
    converted = []
    for metrics in sorted(Path(old).glob("runs/*/bs*/seed*/metrics.csv")):
        if not (metrics.parent / "at_minimum" / "spectrum.csv").exists():
            raise StorageError(f"{metrics.parent}: a run kept by version 0.1, with at_minimum/spectrum.csv, expected")
    for record in sorted(Path(old).glob("runs/*/bs*/seed*/at_minimum/spectrum.csv")):
        place = record.parents[1]
        _Conversion(place, Path(new) / place.relative_to(old)).write()
        converted.append(str(place.relative_to(Path(old) / "runs")))
    if not converted:
        raise StorageError(f"{old}: a folder with kept runs in runs/ expected, found none")
    return converted


class _Conversion:
    """One run."""

    def __init__(self, old: Path, new: Path) -> None:
        self._old, self._new = old, new
        parameters = storage.read_provenance(old / "at_minimum" / "spectrum.csv")["parameters"]
        self._blocks: list[list[int]] = parameters["blocks"]
        self._run = _current(parameters["run"])
        samples = int(storage.read_table(old / "outliers.csv", ["samples"])["samples"].iloc[0])
        self._per_epoch = -(-samples // self._run["batch_size"])

    def write(self) -> None:
        """All files."""
        self._table("metrics.csv", "metrics.csv", {"run": self._run, "blocks": self._blocks})
        for epochs in self._blocks:
            folder = Block.of(epochs).path
            for name in ("metrics.csv", "spectrum.csv"):
                self._table(f"{folder}/{name}", f"{folder}/{name}")
        self._table("at_minimum/spectrum.csv", f"{LANDMARKS}/spectrum.csv")
        self._table("trimmed_eigenvalues.csv", f"{LANDMARKS}/trimmed.csv")
        self._table("outliers.csv", "outliers.csv")
        self._table("ax_statistics.csv", "ax_statistics.csv")
        self._table("outlier_samples.csv", "outlier_samples.csv")
        self._histograms()

    def _table(self, old: str, new: str, parameters: Mapping[str, Any] | None = None) -> None:
        record = storage.read_provenance(self._old / old)
        frame = storage.read_table(self._old / old).rename(columns=_RENAMED)
        if old == "outlier_samples.csv":
            layer = record["parameters"]["options"]["layer"]
            frame = frame[["epoch", "sample", "label", "loss", "correct", "norm", "a_x"]]
            frame = frame.rename(columns={"a_x": layer, "norm": "gradient_norm"})
        self._write(frame, new, record, parameters)

    def _histograms(self) -> None:
        """Those of the blocks and of the lowest validation loss, as one table."""
        from fishertail.results.schema import joined

        names = ("ax_histograms.parquet", "at_minimum/ax_histogram.parquet")
        parts = [storage.read_table(self._old / name) for name in names]
        frame = joined(parts).drop_duplicates(["epoch", "layer", "bin_left"])
        self._write(frame, "ax_histogram.parquet", storage.read_provenance(self._old / names[0]))

    def _write(
        self,
        frame: "pd.DataFrame",
        name: str,
        record: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if "epoch" not in frame:
            raise StorageError(f"{self._old}: a table of version 0.1 with the column epoch expected for {name}")
        frame = frame.sort_values("epoch", kind="stable", ignore_index=True)
        epochs = frame.pop("epoch")
        frame.insert(0, "step", epochs.astype("int32") * self._per_epoch)
        frame.insert(1, "epoch", epochs.astype("float64"))
        kept = {key: value for key, value in record.items() if key != "sha256"}
        given = dict(record["parameters"] if parameters is None else parameters)
        given |= _options(Path(name).stem, record["parameters"])
        if "run" in given:
            given["run"] = self._run
        whole = kept | {"parameters": given} | of_run.identity(self._run)
        storage.write_table(frame, self._new / name, whole)


def _options(table: str, old: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a measurement as version 0.2 names them, as far as version 0.1 wrote them."""
    tolerance = {"tolerance": old.get("tolerance")}
    known: dict[str, dict[str, Any]] = {
        "spectrum": {"layers": old.get("layers") or "all", "eigenpairs": old.get("eigenpairs"), **tolerance},
        "trimmed": {"fraction": old.get("fraction"), "spectrum": tolerance},
        "outliers": {"threshold": old.get("threshold")},
        "ax_statistics": {"near_zero": old.get("near_zero")},
        "ax_histogram": dict(old.get("bins", {})),
        "outlier_samples": {"outliers": {k: v for k, v in old.get("options", {}).items() if k != "layer"}},
    }
    return {"options": known[table]} if table in known else {}


def _current(run: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run without the keys that its network does not have."""
    architecture = {k: v for k, v in run["architecture"].items() if k not in _UNUSED or v != _UNUSED[k]}
    return {**run, "architecture": architecture}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Convert kept runs of fishertail 0.1.")
    parser.add_argument("old", help="a folder with runs/, as version 0.1 kept them")
    parser.add_argument("new", help="target")
    options = parser.parse_args()
    try:
        converted = convert(options.old, options.new)
    except StorageError as error:
        parser.exit(2, f"error: {error}\n")
    for run in converted:
        print(f"converted {run}")


if __name__ == "__main__":
    main()
