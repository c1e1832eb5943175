"""How the eigenvalues of the Fisher matrix depend on the width of a network with random weights.

Karakida, Akaho and Amari (2019, arXiv 1806.01316) derive by mean-field theory, for wide networks with Gaussian weights
N(0, sigma^2 / fan-in), linear outputs and the squared error: with width M the mean of the eigenvalues falls as 1/M,
their second moment stays as it is, and the largest rises as M. Gradient descent then needs a rate below 2 / lambda_max,
which falls as 1/M. This program measures the three slopes on a logarithmic scale, with their standard errors.

The Fisher matrix is that of the sum of squared errors, twice that of their half, which the paper has: the rates are
half of its own, and slopes are the same.

Run it with `python examples/karakida.py`; `--picture FILE` draws the result.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress
from torch import nn

import fishertail

SAMPLES, OUTPUTS = 50, 2
SIGMA_W, SIGMA_B = 3**0.5, 0.8  # of tanh networks that carry signals through many layers
THEORY = {"mean": -1, "second_moment": 0, "largest": 1}


def network(width: int, generator: torch.Generator) -> nn.Sequential:
    """Three hidden layers of tanh with as many inputs as units, since the theory widens all layers together."""
    layers: list[nn.Module] = []
    for outputs in (width, width, width, OUTPUTS):
        layer = nn.Linear(width, outputs)
        nn.init.normal_(layer.weight, 0, SIGMA_W / width**0.5, generator=generator)
        nn.init.normal_(layer.bias, 0, SIGMA_B, generator=generator)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def statistics(width: int, seed: int) -> pd.DataFrame:
    """Mean, second moment and largest eigenvalue of the network's Fisher matrix over random samples."""
    generator = torch.Generator().manual_seed(seed)
    model = network(width, generator)
    inputs = torch.randn(SAMPLES, width, generator=generator)
    run = fishertail.analyse_run(
        model,
        {0: model.state_dict()},
        inputs,
        torch.zeros(SAMPLES, OUTPUTS),  # the Fisher matrix does not depend on the targets
        loss=nn.MSELoss(reduction="sum"),
        measurements=["eigenvalue_statistics"],
        device="cpu",
    )
    found: pd.DataFrame = run.tables["eigenvalue_statistics"]
    return found[found["layer"] == "network"].assign(width=width, seed=seed)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """The slope of the logarithm of each statistic on that of the width, and its standard error."""
    rows = []
    for name, theory in THEORY.items():
        line = linregress(np.log(table["width"]), np.log(table[name]))
        rows.append({"statistic": name, "slope": line.slope, "error": line.stderr, "theory": theory})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, file: str) -> None:
    """The three statistics over the width, with lines of the slopes of theory through their geometric means."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for panel, (name, theory) in zip(panels, THEORY.items(), strict=True):
        widths = np.array([table["width"].min(), table["width"].max()])
        middle = np.exp(np.log(table["width"]).mean()), np.exp(np.log(table[name]).mean())
        panel.plot(widths, middle[1] * (widths / middle[0]) ** theory, color="grey", label=f"slope {theory}")
        panel.plot(table["width"], table[name], "o", markersize=4, color="#0072B2")
        panel.set(xscale="log", yscale="log", xlabel="width", title=name.replace("_", " "))
        if theory == 0:  # a scale that does not magnify the scatter
            panel.set_ylim(middle[1] / 10, middle[1] * 10)
        panel.legend(frameon=False)
    figure.savefig(file)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--seeds", type=int, default=3, help="networks of each width")
    parser.add_argument("--picture", metavar="FILE", help="where to draw the result")
    options = parser.parse_args(arguments)
    table = pd.concat([statistics(width, seed) for width in options.widths for seed in range(options.seeds)])
    print(table.groupby("width")[[*THEORY, "rate"]].mean().to_string(float_format="{:.4g}".format))
    print(slopes(table).to_string(index=False, float_format="{:.3f}".format))
    if options.picture:
        draw(table, options.picture)


if __name__ == "__main__":
    main()
