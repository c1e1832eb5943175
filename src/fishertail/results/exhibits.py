"""What is shown of all runs: figures, tables over runs, and charts of a run on the page.

An exhibit declares the tables that it needs, the settings that it depends on, and its caption. Its function gets the
rows of all runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fishertail.results.schema import RUN, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawn

    from fishertail.statistics.minimum import Minimum

EXPLORER = ("spectrum", "ax_histogram", "outliers", "outlier_samples")  # the tables of the page's explorer

Drawing = tuple["Drawn", "pd.DataFrame"]  # a figure, and the table of what it shows


@dataclass(frozen=True)
class Results:
    """Tables of all runs, each with the columns of `RUN` in front.

    Attributes:
        runs: dataset, model, batch_size, seed and figure_layer of each run.
        tables: by name.
        settings: values of the settings that the exhibit depends on, by dotted key.
        dataset: the data set to show, if there is an exhibit for each.
        titles: of data sets, by name.
    """

    runs: Sequence[Mapping[str, Any]]
    tables: Mapping[str, "pd.DataFrame"]
    settings: Mapping[str, Any]
    dataset: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    def title_of(self, dataset: str) -> str:
        """The data set as figures name it."""
        return self.titles.get(dataset, dataset)

    def __getitem__(self, name: str) -> "pd.DataFrame":
        return self.tables[name]

    def of_layer(self, name: str, layer: str | None = None) -> "pd.DataFrame":
        """The rows of a table that are of one layer; by default each run's figure layer."""
        table = self.tables[name]
        if layer is not None:
            return table[table["layer"] == layer]
        import pandas as pd

        wanted = pd.DataFrame(list(self.runs), columns=[*RUN, "figure_layer"])
        merged = table.merge(wanted, left_on=[*RUN, "layer"], right_on=[*RUN, "figure_layer"], how="inner")
        return merged.drop(columns="figure_layer")

    def minima(self) -> "dict[tuple[Any, ...], Minimum]":
        """E* of each run, by the columns of `RUN`; `metrics` must be among the tables."""
        from fishertail.statistics.minimum import lowest_validation_loss

        return {key: lowest_validation_loss(part) for key, part in self["metrics"].groupby(RUN, sort=False)}

    def at_minimum(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """The rows of a table that are of each run's E*."""
        import pandas as pd

        steps = pd.DataFrame([(*key, lowest.step) for key, lowest in self.minima().items()], columns=[*RUN, "step"])
        return table.merge(steps, on=[*RUN, "step"])


@dataclass(frozen=True)
class Figure:
    """A figure: SVG and PDF, and the table of what it shows as CSV.

    Attributes:
        name: the name of its files; with {dataset} in it, there is one figure for each data set.
        title: its title in lists.
        caption: what is shown and how to read it, for the page and the report.
        needs: names of the tables it is drawn from.
        draw: a function of `Results`; returns the figure and the table of what it shows.
        settings: dotted keys of the configuration that it depends on.
        numbers: called with the name of a data set; returns the number that replaces {number} in `name`.
        rule: the name of its rule; by default `name`, which must not contain {dataset} then.
    """

    name: str
    title: str
    caption: str
    needs: tuple[str, ...]
    draw: Callable[[Results], Drawing]
    settings: tuple[str, ...] = ()
    numbers: Callable[[str], int] | None = None
    rule: str = ""

    def __post_init__(self) -> None:
        if not self.rule:
            object.__setattr__(self, "rule", self.name)

    @property
    def by_dataset(self) -> bool:
        """Whether there is one for each data set."""
        return "{dataset}" in self.name

    def stem(self, dataset: str) -> str:
        """The name of its files, without a suffix; `dataset` counts where there is one for each."""
        return self._filled(self.name, dataset, dataset)

    def title_of(self, dataset: str, shown: str) -> str:
        """Its title, with the data set as it is shown."""
        return self._filled(self.title, dataset, shown)

    def _filled(self, text: str, dataset: str, shown: str) -> str:
        number = "" if self.numbers is None else self.numbers(dataset)
        return text.format(dataset=shown, number=number) if self.by_dataset else text


@dataclass(frozen=True)
class TableOfRuns:
    """Tables over all runs, each as CSV, Parquet, Markdown, LaTeX and HTML.

    Attributes:
        name: the name of the rule.
        title, caption, needs, settings: see `Figure`.
        tables: the tables it makes, with their columns.
        make: a function of `Results`; returns the tables by name.
        provenance_of: names of tables; `make` takes the provenance of their files as its second argument.
        category: where the report shows it.
        partly: whether it is also made when some of the tables that it needs are not.
        code: further modules that its code depends on, such as those of registered objects.
    """

    name: str
    title: str
    caption: str
    needs: tuple[str, ...]
    tables: tuple[Table, ...]
    make: Callable[..., "Mapping[str, pd.DataFrame]"]
    settings: tuple[str, ...] = ()
    provenance_of: tuple[str, ...] = ()
    category: str = "Tables"
    partly: bool = False
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A chart on the page of one column of a table over training, for the chosen run and layer.

    Attributes:
        table, column: what is drawn.
        title: the title of the axis.
        rows: column values that choose the rows, such as {"rank": 1}.
        scale: the scale of the axis.
        colour: the colour of the line.
        counts: whether the values are whole numbers.
    """

    table: str
    column: str
    title: str
    rows: Mapping[str, Any]
    scale: Literal["linear", "log"] = "linear"
    colour: str = "#0072B2"
    counts: bool = False
