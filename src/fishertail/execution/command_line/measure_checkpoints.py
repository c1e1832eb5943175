"""Measure finished checkpoints one after the other, as `Watch` does while a network is trained."""

import json
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from fishertail import devices
from fishertail.errors import StorageError, UsageError
from fishertail.execution import saved_tables
from fishertail.execution.checkpoint_files import CheckpointFile
from fishertail.execution.chosen import FAILURES
from fishertail.execution.command_line.user_code import result_of
from fishertail.execution.command_line.validation import validated
from fishertail.execution.live.run_folder import RunFolder
from fishertail.execution.live.samples import content_hash
from fishertail.execution.live.watch import Watch
from fishertail.results import storage

SOURCES = "checkpoints.json"  # by step, the file that was measured, and its checksum


def made_by(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model that `package.module:function` makes.

    Raises:
        UsageError: there is no such function, it raises, or it gives something else.
    """
    model = result_of(factory, "FACTORY", **arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"FACTORY: a function that gives a torch.nn.Module expected; {factory} gives {type(model).__name__}"
        )
    return model


def measure(
    model: nn.Module,
    checkpoints: Sequence[CheckpointFile],
    samples: tuple[Any, Any],
    folder: str | Path,
    *,
    validation: tuple[Any, Any] | None = None,
    loss: Callable[..., torch.Tensor] | None = None,
    device: str = devices.AUTO,
    output: str | int | None = None,
    made: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[dict[str, Any], list[int]]:
    """Measure checkpoints, and keep the tables in a folder; those that it has are not measured again.

    Args:
        model: its weights are overwritten.
        samples: images and labels, see `gradient_norms`.
        folder, loss, output: see `Watch`.
        validation: like the samples, for the validation loss and accuracy in metrics.csv.
        device: a device that torch knows; auto takes a GPU where there is one.
        made: how the model was made, as JSON has it; it must agree where a folder is gone on with.
        options: the others of `Watch`.

    Returns:
        all tables of the folder, of which `failures` has what could not be measured at one of these checkpoints; and
        the steps of those that could not be written.

    Raises:
        UsageError: an option is wrong.
        FishertailError: see `Watch`; StorageError also if a checkpoint was replaced since it was measured.
    """
    steps, place = [each.step for each in checkpoints], devices.resolved(device)
    validate = partial(_of_validation, model, validation, loss=loss, device=place, output=output)
    validate()  # so that what does not fit is an error now
    try:
        watch = Watch(model, *samples, folder=folder, schedule=steps, loss=loss, device=place, output=output, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    run = RunFolder(folder, [])
    run.check({**(made or {}), "validation": content_hash(*validation) if validation else None})
    done = run.measured
    sources = _sources(Path(folder) / SOURCES, checkpoints, done)
    storage.write_text(json.dumps(sources, indent=1), Path(folder) / SOURCES)
    with _warnings_above_the_bar():
        for each in _shown([each for each in checkpoints if each.step not in done]):
            model.load_state_dict(each.weights())
            watch(each.step, **validate())
    kept = RunFolder(folder, []).measured
    lost = [step for step in steps if step not in kept]
    tables = saved_tables.read(folder) if kept else {}
    failures = tables.get(FAILURES.name, FAILURES.empty())
    return tables | {FAILURES.name: failures[failures["step"].isin(kept.intersection(steps))]}, lost


def _sources(path: Path, checkpoints: Sequence[CheckpointFile], done: Container[int]) -> dict[str, dict[str, str]]:
    """By step, the file that is measured, and its checksum, those of earlier calls included.

    Raises:
        StorageError: a step that is done was measured of other weights.
    """
    try:
        earlier: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise StorageError(f"{path}: not a file that fishertail wrote; give another folder") from error
    sources = {str(each.step): {"file": each.path.name, "sha256": each.content_hash()} for each in checkpoints}
    for each in checkpoints:
        source = sources[str(each.step)]
        if each.step in done and source["sha256"] != earlier.get(str(each.step), source)["sha256"]:
            raise StorageError(
                f"{path}: step {each.step} was measured of other weights than those of {each.path}; give another folder"
            )
    return earlier | sources


def _of_validation(model: nn.Module, samples: tuple[Any, Any] | None, **options: Any) -> dict[str, float]:
    try:
        return validated(model, *samples, **options) if samples else {}
    except Exception as error:  # whatever the user's model says of samples of another shape
        raise UsageError(f"--validation: {type(error).__name__}: {error}") from error


def _shown(checkpoints: Iterable[CheckpointFile]) -> Iterator[CheckpointFile]:
    """The checkpoints, with a bar that names the step in hand."""
    with tqdm(list(checkpoints), unit="checkpoint") as bar:
        for each in bar:
            bar.set_description(f"step {each.step:,}")
            yield each


@contextmanager
def _warnings_above_the_bar() -> Iterator[None]:
    """Print warnings as one line each."""

    def show(message: Warning | str, *place: Any) -> None:
        tqdm.write(f"warning: {message}")

    with warnings.catch_warnings():
        shown: Callable[..., None] = show
        warnings.showwarning = shown
        yield
