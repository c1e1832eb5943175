"""Checkpoints as training programs leave them: their weights by the model's names, and their SGD steps.

Read are safetensors, `torch.save` of a state dict or of a mapping that holds one, Lightning's .ckpt, the folders
`checkpoint-500` of Hugging Face, and the workflow's own files, which hold several steps each.
"""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fishertail.errors import CheckpointError
from fishertail.execution.weight_names import fitted, listed
from fishertail.training.checkpoints import FILE, Weights

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
_STATES = ("state_dict", "model_state_dict", "model")  # in a mapping that holds more than weights
_STEPS = ("global_step", "step", "iteration")
_OF_HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")
_BESIDE_FOLDERS = (*_OF_HUGGING_FACE, "training_args.bin")  # of the last step, where its Trainer saves a model
_OWN_FOLDER = re.compile(r"checkpoint[-_]\d+$")
_OF_A_STEP = re.compile(r"step(\d{8})/(.+)")  # of the workflow's files
_EPOCH_LAST = re.compile(r"(?:^|[^a-z])ep(?:och)?s?[^a-z0-9]*(\d+)[^0-9]*$", re.IGNORECASE)

Saved = nn.Module | Weights | str | Path  # what holds the weights of a checkpoint


@dataclass(frozen=True)
class CheckpointFile:
    """The weights of one SGD step, in a file whose names fit the model."""

    path: Path
    step: int
    names: Mapping[str, str] = field(repr=False)  # in the file, by those of the model
    stripped: str  # what the names in the file begin with, and those of the model do not
    left_out: tuple[str, ...]  # tensors of the file that lie outside of what was stripped
    trusted: bool

    def weights(self) -> Weights:
        """The state dict, read from the file now."""
        saved = {each.step: each.tensors for each in _read(self.path, self.trusted)}
        tensors = saved[self.step if self.step in saved else None]
        return {name: tensors[in_file] for name, in_file in self.names.items()}

    def content_hash(self) -> str:
        """The SHA-256 of the file, so that weights that were replaced are noticed."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find(
    places: Sequence[str | Path], model: nn.Module, *, steps_per_epoch: float | None = None, trusted: bool = False
) -> list[CheckpointFile]:
    """All checkpoints in some files and folders, each compared with the model, in the order of their steps.

    A step is what the file says of it, else the last number in its name, or in that of its folder. If that number
    counts epochs (`epoch3.pt`), it is multiplied by the steps of an epoch.

    Args:
        places: files; folders `checkpoint-N` and blocks of the workflow, whose weights are taken; or other folders,
            whose files of `SUFFIXES` and such folders are taken.
        model: whose names and shapes the weights must have.
        trusted: whether files are unpickled that hold more than weights, which runs the code that they name.

    Raises:
        CheckpointError: a file is missing or unreadable, lacks weights of the model or has others, has no step, or the
            step of another file. The message names the file and the keys.
    """
    found = [each for path in files_in(places) for each in _of_file(path, model, steps_per_epoch, trusted)]
    by_step: dict[int, CheckpointFile] = {}
    for each in found:
        if each.step in by_step:
            other = by_step[each.step].path
            raise CheckpointError(
                f"{each.path}: step {each.step} is also that of {other}; name the files that are wanted, not a folder"
            )
        by_step[each.step] = each
    return [by_step[step] for step in sorted(by_step)]


def weights_of(saved: Saved, model: nn.Module, step: int) -> Weights:
    """The state dict of a checkpoint for a model.

    Args:
        saved: a network of the same kind, a state dict, or a file as `find` reads it.
        step: of SGD, for a file that holds several, and for errors.

    Raises:
        CheckpointError: it cannot be read, or does not fit the model.
    """
    if isinstance(saved, nn.Module):
        saved = dict(saved.state_dict())
    tensors: Any = saved
    where = f"step {step}"
    if isinstance(saved, str | Path):
        found = _read(Path(saved), trusted=False)
        of_step = next((each for each in found if each.step == step), found[0] if len(found) == 1 else None)
        if of_step is None:
            steps = listed([str(each.step) for each in found])
            raise CheckpointError(f"{saved}: weights of step {step} expected, found those of {steps}")
        where, tensors = str(saved), of_step.tensors
    elif isinstance(saved, Mapping):
        tensors = next((saved[name] for name in _STATES if isinstance(saved.get(name), Mapping)), saved)
    if not isinstance(tensors, Mapping):
        kind = type(saved).__name__
        raise CheckpointError(f"{where}: a state dict, a file with one or a network expected, found {kind}")
    return {name: tensors[in_file] for name, in_file in fitted(where, tensors, model).names.items()}


def files_in(places: Sequence[str | Path]) -> list[Path]:
    """The checkpoint files among files and folders.

    Raises:
        CheckpointError: a place does not exist, or a folder holds no checkpoint.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_file():
            found.append(place)
            continue
        if not place.is_dir():
            raise CheckpointError(f"{place}: no such file or folder")
        inside = _in_folder(place)
        if not inside:
            raise CheckpointError(
                f"{place}: no checkpoint in this folder; files that end in {', '.join(SUFFIXES)} expected"
            )
        found += inside
    return found


def _in_folder(folder: Path) -> list[Path]:
    """A checkpoint's own folder has one file of weights, and others beside it, which are none."""
    weights = _weights_in(folder)
    if weights and (_OWN_FOLDER.search(folder.name) or weights[0].name == FILE):
        return weights
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    below = [file for path in paths if path.is_dir() and re.search(r"\d$", path.name) for file in _weights_in(path)]
    files = [path for path in paths if path.is_file() and path.suffix in SUFFIXES]
    return [path for path in files if not below or path.name not in _BESIDE_FOLDERS] + below


def _weights_in(folder: Path) -> list[Path]:
    return [folder / name for name in (*_OF_HUGGING_FACE, FILE) if (folder / name).is_file()][:1]


def _of_file(path: Path, model: nn.Module, per_epoch: float | None, trusted: bool) -> Iterator[CheckpointFile]:
    for saved in _read(path, trusted):
        fit = fitted(str(path), saved.tensors, model)
        left_out = tuple(name for name in saved.tensors if name not in set(fit.names.values()))
        step = _step_of_name(path, per_epoch) if saved.step is None else saved.step
        yield CheckpointFile(path, step, fit.names, fit.prefix, left_out, trusted)


@dataclass(frozen=True)
class _Saved:
    """What a file holds of one step."""

    tensors: dict[str, torch.Tensor]
    step: int | None


def _read(path: Path, trusted: bool) -> list[_Saved]:
    """The tensors are mapped into memory, not read, where the format allows it."""
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else [_pickled(path, trusted)]
    except CheckpointError:
        raise
    except Exception as error:  # safetensors, zipfile, pickle and torch each have their own for a broken file
        if foreign := _foreign(path, error):
            raise CheckpointError(
                f"{path}: more than weights is pickled in it ({foreign}); --trust reads it nevertheless, "
                "which runs code that the file names"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error


def _foreign(path: Path, error: Exception) -> str:
    """What torch refused to unpickle, if that is the error."""
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))[:5])
    return "".join(re.findall(r"Unsupported global: GLOBAL (\S+)", str(error))[:1])


def _safetensors(path: Path) -> list[_Saved]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
    if tensors and all(_OF_A_STEP.fullmatch(name) for name in tensors):
        by_step: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            step, rest = _OF_A_STEP.fullmatch(name).groups()  # type: ignore[union-attr]
            by_step.setdefault(int(step), {})[rest] = tensor
        return [_Saved(state, step) for step, state in by_step.items()]
    step = next((int(said[name]) for name in _STEPS if said.get(name, "").isdigit()), None)
    return [_Saved(tensors, step)]


def _pickled(path: Path, trusted: bool) -> _Saved:
    content = torch.load(path, map_location="cpu", weights_only=not trusted, mmap=zipfile.is_zipfile(path))
    if isinstance(content, nn.Module):
        return _Saved(dict(content.state_dict()), None)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: a state dict or a mapping with one expected, found {type(content).__name__}")
    state = next((content[name] for name in _STATES if isinstance(content.get(name), Mapping)), None)
    tensors = {name: each for name, each in (state or content).items() if isinstance(each, torch.Tensor)}
    if state is None and len(tensors) < len(content):
        found = listed([str(name) for name in content])
        raise CheckpointError(f"{path}: a state dict, or one below {', '.join(_STATES)}, expected; found {found}")
    return _Saved(tensors, None if state is None else _step_inside(content))


def _step_inside(content: Mapping[str, Any]) -> int | None:
    found = (content.get(name) for name in _STEPS)
    return next((int(step) for step in found if isinstance(step, int | torch.Tensor)), None)


def _step_of_name(path: Path, per_epoch: float | None) -> int:
    """The last number in the name of a file, or of its folder for Hugging Face's."""
    name = path.parent.name if path.name in _OF_HUGGING_FACE else _stem(path)
    if not re.search(r"\d", name):
        raise CheckpointError(
            f"{path}: its SGD step expected inside ({', '.join(_STEPS)}) or in its name; found neither"
        )
    if (epoch := _EPOCH_LAST.search(name)) is None:
        return int(re.findall(r"\d+", name)[-1])
    if per_epoch is None:
        raise CheckpointError(f"{path}: its name has an epoch and no SGD step; --steps-per-epoch expected")
    return round(int(epoch[1]) * per_epoch)


def _stem(path: Path) -> str:
    while path.suffix in SUFFIXES:
        path = path.with_suffix("")
    return path.name
