"""Claim 2: lambda_1 first grows strongly, then the gradients converge to 0.

**In the paper.** First lambda_1 and the outlying gradients grow strongly, then the gradients converge to 0 (4.2).

**Measured.** The largest lambda_1 over the initial one, where the largest is that of medians of three neighbouring
checkpoints, which one noisy checkpoint does not raise; and the largest median of abs(a_x) over that at the end, twice
the epoch of lowest validation loss. The median gradient norm stands beside it without a vote.

**What would change it.** Checkpoints at the ends of epochs alone: with batch size 16 lambda_1 rises and falls within
the first few hundred steps, so that "does not grow" was once found for want of checkpoints there. A shorter training:
the fall goes on for as long as the training data are fitted ever better.
"""

from typing import TYPE_CHECKING, Any

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fishertail.paper.claims.points import Key, Time

SMALLEST = 1e-12  # below it a median is as good as 0


def measure(results: Results) -> "pd.DataFrame":
    """How far lambda_1 grows from the initial, and the median abs(a_x) falls from its largest to the end."""
    import numpy as np

    from fishertail.paper.claims.points import Rows, measured

    spectrum = results.of_layer("spectrum")
    eigenvalues = Rows(spectrum[spectrum["rank"] == 1])
    sizes = Rows(results.of_layer("ax_statistics"))
    norms = Rows(results.of_layer("outliers")) if "outliers" in results.tables else None

    def of_run(run: "Key", time: "Time") -> dict[str, Any]:
        points = time.points()
        lambda_1, a_x = eigenvalues.at(run, points), sizes.at(run, points)
        norm = None if norms is None else norms.at(run, points)
        return {
            "growth": np.nan if lambda_1 is None else growth(lambda_1["eigenvalue"].to_numpy()),
            "fall": np.nan if a_x is None else fall(a_x["median"].to_numpy()),
            "fall_of_norms": np.nan if norm is None else fall(norm["median"].to_numpy()),
        }

    return measured(results, of_run)


def growth(values: "np.ndarray") -> float:
    """The largest median of three neighbours, which noise raises less than the largest value, over the first."""
    import numpy as np

    if len(values) < 3:
        return np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median([values[:-2], values[1:-1], values[2:]], axis=0).max() / values[0])


def fall(medians: "np.ndarray") -> float:
    """The largest over the last."""
    import numpy as np

    kept = np.maximum(medians, SMALLEST)
    return float(kept.max() / kept[-1])


CLAIM = Claim(
    name="2",
    statement="First lambda_1 and the outlying gradients grow strongly, then the gradients converge to 0.",
    measure=measure,
    quantities=(
        Quantity("growth", "largest lambda_1 / initial lambda_1", lower=2, scale="ratio"),
        Quantity("fall", "largest median of |a_x| / the last", lower=10, scale="ratio"),
        Quantity("fall_of_norms", "largest median gradient norm / the last", lower=10, scale="ratio", decides=False),
    ),
    needs=("metrics", "spectrum", "ax_statistics"),
    uses=("outliers",),
    figures=("fig3_ax_over_epochs_mnist", "fig2_ax_over_epochs_cifar10"),
)
