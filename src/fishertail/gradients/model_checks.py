"""What is refused before anything is computed, and which layers a model has."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fishertail.errors import UnsupportedModelError

NETWORK = "network"  # all layers together


def check_model(model: Any) -> None:
    """Raise `TypeError` unless it is a network."""
    if not isinstance(model, nn.Module):
        found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model: a torch.nn.Module expected, found {found}")


def refuse_undefined_gradients(model: nn.Module) -> None:
    """Refuse a model whose modules show that it has no per-sample gradients.

    Raises:
        UnsupportedModelError: names the layer or parameter, the reason, and what to do.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedModelError(
                f"layer {name!r}: batch normalisation by batch statistics makes the gradient of one sample "
                "meaningless; call model.eval() (with running statistics)"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise UnsupportedModelError(f"layer {name!r}: dropout makes the gradient random; call model.eval()")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq:
            raise UnsupportedModelError(
                f"layer {name!r}: scale_grad_by_freq makes the gradient of a sample depend on the others of its batch"
            )
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UnsupportedModelError(f"parameter {name!r} has no shape yet: call the model once before")
        if parameter.requires_grad and parameter.is_complex():
            raise UnsupportedModelError(f"parameter {name!r}: real numbers expected, found {parameter.dtype}")
    trained = {parameter.dtype: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if torch.float64 in trained and len(trained) > 1:
        found = ", ".join(f"{dtype} ({name!r})" for dtype, name in trained.items())
        raise UnsupportedModelError(f"parameters of one precision expected, found {found}")


def layers_of(
    model: nn.Module, trained: Mapping[str, torch.Tensor], names: Mapping[int, str], wanted: Sequence[str] | None
) -> dict[str, list[str]]:
    """The names of the trained parameters of each layer. One that several modules share belongs to the first.

    Args:
        trained: the trained parameters by name.
        names: their names by id.
        wanted: names of the layers that are wanted; all by default, and where "network" is among them.

    Raises:
        UnsupportedModelError: no parameter is trained, or a layer is called "network".
        ValueError: there is no such layer, or none is wanted.
    """
    layers: dict[str, list[str]] = {}
    for path, _ in model.named_modules():
        own = [name for name in trained if name.rpartition(".")[0] == path]
        if own:
            layers[path] = own
    if not layers:
        raise UnsupportedModelError("the model has no parameters that require gradients")
    if NETWORK in layers:
        raise UnsupportedModelError(f"a layer is named {NETWORK!r}, which stands for all layers together; rename it")
    check_names(wanted, [*layers, NETWORK])
    for name in wanted or ():
        if name not in layers and name != NETWORK:
            raise ValueError(_unknown_layer(model, name, layers, names))
    return {layer: own for layer, own in layers.items() if wanted is None or NETWORK in wanted or layer in wanted}


def check_names(wanted: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise `ValueError` where names of layers are none, or one string, which is a sequence of letters."""
    if wanted is not None and (isinstance(wanted, str) or not len(wanted)):
        raise ValueError(f"layers: a list of names among {', '.join(known)} expected, found {wanted!r}")


def _unknown_layer(model: nn.Module, name: str, layers: Collection[str], names: Mapping[int, str]) -> str:
    modules = dict(model.named_modules(remove_duplicate=False))
    own = modules[name].parameters(recurse=False) if name in modules else ()
    owners = {names[id(parameter)] for parameter in own if id(parameter) in names}
    if owners:
        return f"layers: the parameters of {name!r} are those of {', '.join(sorted(owners))}; ask for that layer"
    return f"layers: among {', '.join([*layers, NETWORK])} expected, found {name!r}"
