"""What a measurement declares: its question, its options, what it needs, its tables, its cost, and its function.

A registered file holds one, with its figure and its panel on the page. The file's docstring is its page in the docs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail import registry
from fishertail.results.exhibits import Figure, Panel
from fishertail.results.schema import Table
from fishertail.settings import Section
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

    from fishertail.gradients.matrix import GradientMatrix

    LossFunction = Callable[..., torch.Tensor]

PACKAGE, CONSTANT = "fishertail.measurements", "MEASUREMENT"
Scope = Literal["gradients", "tables", "pair", "run"]
OTHERS = frozenset({"measurement", "collect", "checkpoint", "layer_choice"})  # modules that register nothing


class Options(Section):
    """The options that every measurement has."""

    enabled: bool = Field(True, description="whether it is computed at all")


class GradientOptions(Options):
    """The options that every measurement of gradients has."""

    checkpoints: Schedule = Field(
        "all",
        description="at which checkpoints: all; landmarks (the lowest validation loss, twice its epoch, and the last, "
        "which are always among them); 'n per octave'; or a list of epochs, with the word steps for those inside the "
        "first two",
    )


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured of a run.

    Attributes:
        name: the name of its section in the configuration.
        rule: the name of its rule in the workflow, in the words of the paper.
        question: the question that it answers, in one sentence.
        scope: what it takes: the gradients of a checkpoint's network; other measurements' tables at a checkpoint; a
            pair of neighbouring checkpoints, with tables, tensors and parameters; or the tables of a whole run.
        measure: called with an `OpenCheckpoint`, a `Checkpoint`, a `Pair` or `RunTables`, as the scope is, and the
            options; returns its tables by name. Those of a checkpoint or a pair are without the columns `step` and
            `epoch`, those of a run have them where they need them.
        tables: the tables that it gives.
        options: its section of the configuration, with defaults.
        needs: names of the measurements whose tables it takes: for gradients, tables and pairs, of those of gradients.
        tensors: names of those of their tables that are tensors, which it takes, too; a measurement of gradients only.
        shown_by: options that do not alter its tables, but what others take or show of them.
        options_of: names of the measurements whose options it takes besides its own.
        at_minimum: whether it takes those tables' rows at the lowest validation loss alone; a measurement of a run
            only.
        check: called with the model and its loss (None: cross entropy) before anything is computed; raises
            `UnsupportedModelError` with a sentence where the measurement cannot apply to them.
        check_samples: called with the open matrix, the loss and the options before training begins; raises likewise
            where the measurement cannot apply to the samples. A measurement of gradients only.
        passes: its cost at a checkpoint, in forward and backward passes over the training data: a round number for the
            paper's networks and all of MNIST or CIFAR-10, without that of the measurements that it needs.
        memory: MB that a job takes beyond the memory budget.
        figures: the figures that show it.
        panel: its chart on the page.
    """

    name: str
    rule: str
    question: str
    scope: Scope
    measure: "Callable[..., Mapping[str, Any]]"
    tables: tuple[Table, ...]
    options: type[Options]
    needs: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    shown_by: tuple[str, ...] = ()
    options_of: tuple[str, ...] = ()
    at_minimum: bool = False
    check: "Callable[[nn.Module, LossFunction | None], None] | None" = None
    check_samples: "Callable[[GradientMatrix, LossFunction | None, Mapping[str, Any]], None] | None" = None
    passes: float = 0.0
    memory: int = 12000
    figures: tuple[Figure, ...] = ()
    panel: Panel | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as `measure` gets it.

    Attributes:
        step: SGD steps taken.
        tables: the tables of the needed measurements at this checkpoint, by name, with rows in the order of samples.
    """

    step: int
    tables: "Mapping[str, pd.DataFrame]"

    def layers(self, table: str) -> list[str]:
        """The layers that a table with a column for each of them has."""
        return tables()[table].layers(self.tables[table])


@dataclass(frozen=True)
class OpenCheckpoint(Checkpoint):
    """A checkpoint as `measure` gets it for a measurement of gradients.

    Attributes:
        model: with the weights of this step, in eval mode, on the device.
        loss: of one sample, as `gradient_norms` takes it; None is cross entropy.
        matrix: the gradient matrix G of all N samples, open: its length is N, it reads them (`read`, `outputs`), and it
            computes nothing until it is asked.
        device: as torch names it.
        memory_budget: bytes for gradients beyond data and model.
        learning_rate: of the run; NaN where it is not known.
        tensors: the tables of tensors that the measurement takes, by name, each by the name of a layer or "network".
    """

    model: "nn.Module"
    loss: "LossFunction | None"
    matrix: "GradientMatrix"
    device: str
    memory_budget: float
    learning_rate: float = float("nan")
    tensors: "Mapping[str, Mapping[str, torch.Tensor]]" = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredCheckpoint(Checkpoint):
    """A checkpoint of a `Pair`.

    Attributes:
        tensors: the tensors of the needed measurements at this checkpoint, by table and by their names there.
        parameters: (P,) the weights of each layer and of the network, by name, in the order of the eigenvectors.
    """

    tensors: "Mapping[str, Mapping[str, torch.Tensor]]"
    parameters: "Mapping[str, torch.Tensor]"


@dataclass(frozen=True)
class Pair:
    """Two neighbouring checkpoints among those that have all that is needed.

    Attributes:
        now: the checkpoint that is measured.
        before: the one measured before it; None at the first.
    """

    now: MeasuredCheckpoint
    before: MeasuredCheckpoint | None


@dataclass(frozen=True)
class RunTables:
    """A run as `measure` gets it.

    Attributes:
        tables: the tables of the needed measurements by name, at all checkpoints in the order of steps, or at the
            lowest validation loss alone (`Measurement.at_minimum`); without rows where the run has none.
    """

    tables: "Mapping[str, pd.DataFrame]"


def measurements() -> dict[str, Measurement]:
    """All measurements by name, each after those that it needs.

    Raises:
        TypeError: one needs a measurement that does not exist, or that is not of gradients and only a run may need; or
            takes the lowest validation loss alone and is not of a run.
    """
    found = registry.registered(PACKAGE, CONSTANT, Measurement, OTHERS)
    for name, each in found.items():
        unknown = [need for need in (*each.needs, *each.options_of) if need not in found]
        if unknown:
            raise TypeError(f"measurement {name}: needs {', '.join(unknown)}, expected among {', '.join(found)}")
        if each.at_minimum and each.scope != "run":
            raise TypeError(f"measurement {name}: at_minimum with scope run expected, found scope {each.scope}")
        later = [need for need in each.needs if found[need].scope != "gradients"]
        if later and each.scope != "run":
            raise TypeError(f"measurement {name}: only one of scope run may need {', '.join(later)}")
    order = TopologicalSorter({name: each.needs for name, each in found.items()}).static_order()
    return {name: found[name] for name in order}


def module(measurement: Measurement) -> str:
    """The module of a measurement, for the hash of code."""
    return registry.module_of(PACKAGE, CONSTANT, measurement, OTHERS)


def tables() -> dict[str, Table]:
    """All tables of all measurements by name."""
    return {table.name: table for each in measurements().values() for table in each.tables}


def options_given(measurement: Measurement, options: Mapping[str, Options]) -> dict[str, Any]:
    """The options that `measure` takes: its own, and those of `options_of` under the names of these.

    Args:
        options: those of all measurements by name.
    """
    own = {"enabled", "checkpoints"}
    given = options[measurement.name].model_dump(mode="json", exclude={*own, *measurement.shown_by})
    return given | {name: options[name].model_dump(mode="json", exclude=own) for name in measurement.options_of}
