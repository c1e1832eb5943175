"""Half the squared distance of a sample's outputs from its label as a one-hot vector.

f = 1/2 |z - e_y|^2, with a sum over the classes, whose derivative by the outputs z is z - e_y: the convention of the
literature on the Fisher matrix and the neural tangent kernel (Karakida, Akaho and Amari 2019, arXiv 1806.01316).
"""

import torch


def squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over the samples, for autograd of any order.

    Args:
        outputs: (n, C).
        labels: (n,) integers in [0, C).
    """
    return _errors(outputs, labels).square().sum(1).mean() / 2


def squared_errors(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) float64: that of each sample, of outputs and labels as `squared_error` takes them."""
    return _errors(outputs.double(), labels).square().sum(1) / 2


def _errors(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # not one_hot, which asks for the largest label and so cannot be differentiated sample by sample
    wanted = labels.unsqueeze(1) == torch.arange(outputs.shape[1], device=outputs.device)
    return outputs - wanted.to(outputs.dtype)
