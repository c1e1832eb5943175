"""All figures and tables over runs: the paper's, and those of measurements."""

from fishertail import registry
from fishertail.measurements.measurement import measurements
from fishertail.measurements.measurement import module as module_of_measurement
from fishertail.results.exhibits import Figure, TableOfRuns

_FIGURES, _TABLES = "fishertail.paper.figures", "fishertail.paper.tables"


def figures() -> dict[str, Figure]:
    """All figures by name, the paper's first."""
    found = dict(registry.registered(_FIGURES, "FIGURE", Figure))
    return found | {figure.name: figure for each in measurements().values() for figure in each.figures}


def tables() -> dict[str, TableOfRuns]:
    """All tables over runs by the name of their rule."""
    return registry.registered(_TABLES, "TABLE", TableOfRuns)


def module_of_figure(figure: Figure) -> str:
    """The module of a figure, for the hash of code."""
    for each in measurements().values():
        if figure in each.figures:
            return module_of_measurement(each)
    return registry.module_of(_FIGURES, "FIGURE", figure)


def module_of_table(table: TableOfRuns) -> str:
    """The module of a table over runs, for the hash of code."""
    return registry.module_of(_TABLES, "TABLE", table)
