"""Training samples as users have them: in files, or as a function of theirs gives them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fishertail.data.dataset import channels_are_last
from fishertail.errors import DatasetError, UsageError
from fishertail.execution.command_line.user_code import result_of

Arrays = dict[str, Any]  # tensors or arrays by name
_PAIR = ("images", "labels")
_TRAINING = (("train_images", "train_labels"), _PAIR)
_VALIDATION = (("test_images", "test_labels"), _PAIR)


def load(data: str, labels: str | None = None, *, validation: bool = False) -> tuple[Any, Any]:
    """Images and labels of all samples, as `gradient_norms` takes them.

    Args:
        data: a file (.npz, .pt, .pth, .safetensors) with `images` and `labels`, or with `train_images` and
            `train_labels` as the workflow has them; or `package.module:function`, which gives a pair of tensors, or a
            Dataset or DataLoader of pairs, beside which the labels are None. With `labels`, a file that holds the
            images (.npy, too).
        labels: a file that holds the labels.
        validation: whether `test_images` and `test_labels` are meant, where a file has several.

    Of files, images of type uint8 become float32 in [0, 1], and (N, H, W) or (N, H, W, C) become (N, C, H, W), as in
    the workflow; others stay as they are. Whole numbers as labels become int64.

    Raises:
        DatasetError: a file is missing, unreadable or lacks something, or images and labels differ in number.
        UsageError: the function cannot be imported, or raises, or `labels` are given beside it.
    """
    if ":" in data and not Path(data).exists():
        if labels is not None:
            raise UsageError(f"--labels: none expected beside the function {data} of --data, which gives them, too")
        found = result_of(data, "--data")
        return found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if labels is None:
        images, targets = _both(_arrays(Path(data)), _VALIDATION if validation else _TRAINING, data)
    else:
        images, targets = _one(_arrays(Path(data)), "images", data), _one(_arrays(Path(labels)), "labels", labels)
    if images.ndim == 0 or targets.ndim == 0 or len(images) != len(targets) or len(images) == 0:
        shapes = f"{tuple(images.shape)} and {tuple(targets.shape)}"
        raise DatasetError(f"{data}: as many labels as images expected, found shapes {shapes}")
    return _scaled(images), targets if targets.is_floating_point() else targets.long()


def _arrays(path: Path) -> Arrays:
    """What a file holds; a single array, or a pair, under the names that these have elsewhere."""
    try:
        found: Any = _READERS[path.suffix](path)
    except KeyError:
        raise DatasetError(f"{path}: a file that ends in {', '.join(_READERS)} expected") from None
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except Exception as error:  # numpy, zipfile, pickle, safetensors and torch raise a dozen kinds on foreign files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetError(f"{path}: not readable as {path.suffix} ({reason})") from error
    if isinstance(found, torch.Tensor | np.ndarray):
        return {"": found}
    if isinstance(found, tuple | list) and len(found) == 2:
        return dict(zip(_PAIR, found, strict=True))
    if isinstance(found, Mapping):
        return dict(found)
    raise DatasetError(f"{path}: a mapping with images and labels expected, found {type(found).__name__}")


def _npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _npy(path: Path) -> NDArray[Any]:
    found: NDArray[Any] = np.load(path, allow_pickle=False)
    return found


def _pt(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Arrays:
    from safetensors.torch import load_file

    found: Arrays = load_file(path)
    return found


_READERS = {".npz": _npz, ".npy": _npy, ".pt": _pt, ".pth": _pt, ".safetensors": _safetensors}


def _both(arrays: Arrays, names: Sequence[tuple[str, str]], where: str) -> tuple[torch.Tensor, torch.Tensor]:
    for images, labels in names:
        if images in arrays and labels in arrays:
            return _tensor(arrays[images], images, where), _tensor(arrays[labels], labels, where)
    expected = " or ".join(f"{images} and {labels}" for images, labels in names)
    found = ", ".join(name or "one tensor without a name" for name in arrays) or "nothing"
    raise DatasetError(f"{where}: {expected} expected, found {found}")


def _one(arrays: Arrays, kind: str, where: str) -> torch.Tensor:
    if len(arrays) == 1:
        return _tensor(next(iter(arrays.values())), kind, where)
    name = next((name for name in (kind, f"train_{kind}") if name in arrays), None)
    if name is None:
        raise DatasetError(f"{where}: {kind} expected, found {', '.join(arrays) or 'nothing'}")
    return _tensor(arrays[name], name, where)


def _tensor(values: Any, name: str, where: str) -> torch.Tensor:
    try:
        if isinstance(values, list | tuple) and values and isinstance(values[0], torch.Tensor):
            return torch.stack(list(values))
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:  # of text, objects, or parts of several shapes
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise DatasetError(f"{where}: {name}: numbers of one shape for each sample expected, found {kind}") from error


def _scaled(images: torch.Tensor) -> torch.Tensor:
    if images.dtype != torch.uint8:
        return images
    if images.ndim == 3:
        images = images[:, None]
    elif channels_are_last(images.shape):
        images = images.permute(0, 3, 1, 2)
    return images.float().div(255)
