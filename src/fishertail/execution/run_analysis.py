"""The tables of a training run, as `analyse_run` gives them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pandas as pd
import torch

from fishertail.errors import StorageError
from fishertail.execution import run_summary, saved_tables
from fishertail.execution.chosen import FAILURES
from fishertail.measurements.measurement import Measurement, measurements
from fishertail.results import provenance
from fishertail.results.schema import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST, _CHARTS = ("spectrum", "outliers"), 4  # what a notebook shows of a run


@dataclass(frozen=True, repr=False)
class RunAnalysis:
    """The tables of a run: norms, spectra and outliers of every sample's gradient at its checkpoints.

    Attributes:
        tables: every table by name, those of other measurements included, with the columns `step` and `epoch`;
            eigenvectors are tensors by name.
    """

    tables: dict[str, Any]

    def __repr__(self) -> str:
        return f"RunAnalysis({', '.join(f'{name}: {len(table)}' for name, table in self.tables.items())} rows)"

    @property
    def norms(self) -> pd.DataFrame:
        """step, epoch, sample, label, loss, correct, and the norm in each layer and the network."""
        return self._frame("norms")

    @property
    def gradients(self) -> NoReturn:
        """The name of `norms` in version 0.1."""
        raise AttributeError(
            "RunAnalysis.gradients is RunAnalysis.norms since version 0.2, with the columns step and epoch"
        )

    @property
    def outliers(self) -> pd.DataFrame:
        """step, epoch, layer, median, mad, outliers_distance, outliers_norm, samples."""
        return self._frame("outliers")

    @property
    def spectrum(self) -> pd.DataFrame:
        """step, epoch, layer, rank, eigenvalue, residual, converged, certified, products, trace."""
        return self._frame("spectrum")

    @property
    def projections(self) -> pd.DataFrame:
        """step, epoch, sample, and a_x of rank 1 in each layer and the network."""
        return self._frame("projections")

    @property
    def eigenvectors(self) -> dict[str, torch.Tensor]:
        """step00000059/fc4, ...: (k, P) float32."""
        found: dict[str, torch.Tensor] = self.tables["eigenvectors"]
        return found

    @property
    def failures(self) -> pd.DataFrame:
        """step, epoch, measurement, reason: what could not be measured at a checkpoint, where others were."""
        found: pd.DataFrame = self.tables.get(FAILURES.name, FAILURES.empty())
        return found

    def plot(self, name: str, layers: Sequence[str] | None = None) -> "Figure":
        """A measurement over training, as a matplotlib figure: a line for each layer, SGD steps on a logarithmic axis.

        It shows what the measurement's panel on the page shows; without a panel, every column of its table, or the
        median over the samples of what it holds for each of them. A notebook shows the figure; elsewhere,
        `plot(...).savefig("name.svg")` writes it.

        Args:
            name: of the measurement (docs/measurements.md).
            layers: those to be drawn; all by default.

        Raises:
            ValueError: nothing of this name can be drawn, or a layer was not measured; the message lists what can.
            ImportError: matplotlib is not installed.
        """
        drawn = self._drawn()
        if name not in drawn:
            raise ValueError(f"plot: among {', '.join(drawn) or 'no measurement'} expected, found {name!r}")
        try:
            from fishertail.results import curves
        except ModuleNotFoundError as error:
            raise ImportError(f"plot: {error.name} expected, which is not installed: pip install matplotlib") from error
        table, panel = drawn[name], measurements()[name].panel
        frame = self._frame(table.name)
        if panel is not None and panel.table == table.name:
            return curves.of_panel(panel, frame, layers)
        if table.of_layers:
            return curves.of_samples(table, frame, layers)
        return curves.of_columns(frame, _changing(frame), layers)

    def save(self, folder: str | Path) -> None:
        """Write all tables into a folder, as the workflow, `Watch` and `fishertail measure` do.

        Raises:
            StorageError: the folder cannot be written, or holds tables that this analysis does not have.
        """
        foreign = [str(paths[0]) for name, paths in saved_tables.present(folder).items() if name not in self.tables]
        if foreign:
            raise StorageError(f"{foreign[0]}: a folder without tables of other runs expected; save into a new one")
        saved_tables.write(folder, self.tables, provenance.provenance("RunAnalysis.save", {}, []))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save`, `Watch` or `fishertail measure` wrote.

        Raises:
            StorageError: there are no tables, or one is broken.
        """
        return cls(saved_tables.read(folder))

    def page(self, path: str | Path) -> None:
        """Write a page with all that was measured: one HTML file, which fetches nothing.

        Raises:
            StorageError: it cannot be written.
            NodeError: a package that draws the page is not installed.
        """
        from fishertail.page import of_folder

        shown = {name: table for name, table in self.tables.items() if isinstance(table, pd.DataFrame)}
        with tempfile.TemporaryDirectory(prefix="fishertail-") as folder:
            named = Path(folder) / Path(path).stem  # which is the title
            RunAnalysis(shown).save(named)
            of_folder.write(named, path)

    def _repr_html_(self) -> str:
        """In a notebook: a table by step, and what the panels on the page show."""
        drawn = self._drawn()
        panels = [name for name in drawn if measurements()[name].panel is not None]
        panels.sort(key=lambda name: name not in _FIRST)
        try:
            figures = [self.plot(name) for name in panels[:_CHARTS]]
        except ImportError:
            figures = []
        others = [name for name in drawn if name not in panels[: len(figures)]]
        return run_summary.as_html(self.tables, figures, others, len(self.failures))

    def _drawn(self) -> dict[str, Table]:
        """The table that is drawn of each measurement of which one can be."""
        found = {name: self._drawn_of(each) for name, each in measurements().items()}
        return {name: table for name, table in found.items() if table is not None}

    def _drawn_of(self, measurement: Measurement) -> Table | None:
        """The table of its panel, else one that holds all samples, else one with numbers for each layer."""
        own = [table for table in measurement.tables if len(self.tables.get(table.name, ()))]
        frames = {table: self._frame(table.name) for table in own if table.suffix != "safetensors"}
        shown = [table for table in frames if measurement.panel and table.name == measurement.panel.table]
        wide = [table for table, frame in frames.items() if table.of_layers and _of_all_samples(frame)]
        long = [table for table, frame in frames.items() if not table.of_layers and _changing(frame)]
        return next(iter([*shown, *wide, *long]), None)

    def _frame(self, name: str) -> pd.DataFrame:
        found: pd.DataFrame = self.tables[name]
        return found


def _of_all_samples(frame: pd.DataFrame) -> bool:
    """Whether each step has every sample, unlike a table of outliers."""
    return bool((frame.groupby("step").size() == frame["sample"].nunique()).all())


def _changing(frame: pd.DataFrame) -> list[str]:
    """The columns of numbers that change during training; none if there are several rows for a step and layer."""
    keys = [name for name in ("step", "layer") if name in frame]
    if "step" not in keys or frame.duplicated(keys).any():
        return []
    numbers = frame.select_dtypes("number").drop(columns=["step", "epoch"], errors="ignore")
    values = numbers.groupby(frame.get("layer", pd.Series("", frame.index))).nunique().max()
    return [str(name) for name in numbers.columns[values > 1]]
