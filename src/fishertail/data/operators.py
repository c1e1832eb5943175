"""Operators that torchvision expects of torch."""

from typing import Any


def declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch for which its compiled operators were not built.

    Data sets need none of those operators, but importing torchvision registers shapes for two of them and fails
    where they are not declared.
    """
    import torch

    schemas = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name, schema in schemas.items():
            library.define(name + schema)
        _LIBRARIES.append(library)  # the declarations live as long as this object


_LIBRARIES: list[Any] = []
