"""What a table holds: its declared columns, and for wide tables a further column for each layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fishertail.errors import StorageError, UnsupportedModelError

if TYPE_CHECKING:
    import pandas as pd

RUN = ["dataset", "model", "batch_size", "seed"]  # the columns that name a run in tables over runs


@dataclass(frozen=True)
class Column:
    """A column and what it means, with its unit where it has one."""

    name: str
    meaning: str


STEP = Column("step", "SGD steps taken; 0 is the network before training")
EPOCH = Column("epoch", "`step` / steps per epoch, so a whole number at the end of an epoch")
LAYER = Column("layer", "as `model.named_modules()` names it, or `network` for all layers together")
SAMPLE = Column("sample", "position of the training sample in the data set")


@dataclass(frozen=True)
class Table:
    """A table of results."""

    name: str  # also that of its file
    suffix: Literal["csv", "parquet", "safetensors"]
    meaning: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()  # columns that identify a row, besides those of the run
    of_layers: str | None = None  # what a further column for each layer holds; None where there is none
    kept: bool = True  # small enough to be kept with a finished run
    of_runs: bool = False  # whether the columns of RUN come first

    @property
    def file(self) -> str:
        return f"{self.name}.{self.suffix}"

    @property
    def names(self) -> list[str]:
        """The names of the declared columns."""
        return [*(RUN if self.of_runs else ()), *(column.name for column in self.columns)]

    @property
    def form(self) -> str:
        """What of the declaration decides which rows and columns a file has."""
        return f"{self.file}: {' '.join(self.names)}; by {' '.join(self.keys)}{'; by layer' if self.of_layers else ''}"

    def layers(self, frame: "pd.DataFrame") -> list[str]:
        """The columns of `frame` that are layers.

        Raises:
            ValueError: the table has no column for each layer.
        """
        if self.of_layers is None:
            raise ValueError(f"{self.name}: has no column for each layer")
        return [name for name in frame.columns if name not in {*self.names, *RUN}]

    def columns_of(self, layers: Sequence[str]) -> list[str]:
        """The columns of these layers.

        Raises:
            UnsupportedModelError: a layer has the name of a declared column.
        """
        taken = [layer for layer in layers if layer in {*self.names, *RUN}]
        if taken:
            raise UnsupportedModelError(
                f"layer {taken[0]!r}: a name that is no column of the table {self.name} expected "
                f"({', '.join(dict.fromkeys([*RUN, *self.names]))}); rename the layer"
            )
        return list(layers)

    def check(self, frame: "pd.DataFrame", where: str) -> None:
        """Raise `StorageError` unless `frame` has exactly the declared columns, and layers where it may."""
        missing = [name for name in self.names if name not in frame]
        foreign = [] if self.of_layers else [name for name in frame if name not in self.names]
        if missing or foreign:
            raise StorageError(f"{where}: columns {self.names} expected, found {list(frame)}")

    def empty(self) -> "pd.DataFrame":
        """A frame without rows."""
        import pandas as pd

        return pd.DataFrame(columns=self.names)


def shown_layer(name: str) -> str:
    """A layer for readers: PyTorch gives the empty name to a model that is one layer."""
    return name or "(model)"


def joined(parts: Sequence["pd.DataFrame"]) -> "pd.DataFrame":
    """The rows of all parts. Parts without rows are left out, since their untyped columns would change the others'."""
    import pandas as pd

    return pd.concat([part for part in parts if len(part)] or list(parts[:1]), ignore_index=True)
