"""`rank_samples`: the samples that a network finds hardest, first. Among them are those with a wrong label."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from fishertail.execution.analyse_run import analyse_run
from fishertail.execution.run_analysis import RunAnalysis
from fishertail.gradients.losses import CrossEntropy, loss_of
from fishertail.gradients.model_checks import NETWORK, check_model
from fishertail.statistics import samples
from fishertail.training.checkpoints import Weights

OUTLIER_SHARE = "outlier_share"
RANKED_BY = (*samples.SCORES, OUTLIER_SHARE)


def rank_samples(
    model: nn.Module | RunAnalysis,
    images: Any = None,
    labels: Any = None,
    *,
    score: str = "loss",
    checkpoints: Mapping[int, Weights | str | Path] | None = None,
    layer: str = NETWORK,
    threshold: float = 10,
    loss: Callable[..., torch.Tensor] | None = None,
    device: str = "auto",
    memory_budget: float | None = None,
    output: str | int | None = None,
) -> pd.DataFrame:
    """Every training sample with its scores, the worst first.

    A high score means that the network finds the sample hard: its label may be wrong, or the sample rare.
    docs/how-to/mislabelled-images.md measures how well each score finds wrong labels. Scores are means over the
    checkpoints, so take several, from early training on: a network that has trained long fits wrong labels, too.

    Args:
        model: the network, or the `RunAnalysis` of a run, of which all checkpoints count and nothing is computed.
        images, labels: the training samples, see `gradient_norms`; none with a `RunAnalysis`.
        score: by which to rank: grand (the norm of the sample's gradient, GraNd), el2n (the error of the output, EL2N;
            both Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075), loss, a_x (abs(a_x), the part of the gradient
            along the top eigenvector of F), or outlier_share (of the checkpoints at which the norm is an outlier).
        checkpoints: by SGD step, a state dict or a file of one; by default the model's own weights alone.
        layer: whose gradient norms and a_x count; by default that of the whole network.
        threshold: distance of an outlier's norm from the median, in units of MAD.
        loss, output: see `gradient_norms`; there is no EL2N but for cross entropy.
        device, memory_budget: see `analyse_run`. It costs about 3.5 passes a checkpoint with all scores; a_x takes most
            of them, and is left out unless it is asked for or part of the `RunAnalysis`.

    Returns:
        N rows: sample (its position), label, correct (the share of the checkpoints at which it is classified so), and
        a column for each score that is known. Among equals, the first sample comes first; a score that is no number
        comes before all others.

    Raises:
        ValueError: an unknown score, or one that the `RunAnalysis` has no table for, or no norms; samples given with
            one.
        TypeError: a network without samples.
        FishertailError: see `analyse_run`.
    """
    if score not in RANKED_BY:
        raise ValueError(f"score: among {', '.join(RANKED_BY)} expected, found {score!r}")
    if isinstance(model, RunAnalysis):
        if images is not None or labels is not None or checkpoints is not None:
            raise ValueError("images, labels, checkpoints: none expected with a RunAnalysis, which has its own")
        if "norms" not in model.tables:
            found = ", ".join(model.tables) or "no table"
            raise ValueError(f"model: a RunAnalysis with norms expected, which have the labels; found {found}")
        return _ranked(model.tables, score, layer, threshold)
    if images is None:
        raise TypeError("images, labels: samples expected with a network, found None")
    check_model(model)
    measurements = ["norms"]
    if isinstance(loss_of(loss), CrossEntropy):
        measurements.append("sample_scores")
    if score == "a_x":
        measurements.append("spectrum")
    analysis = analyse_run(
        model,
        {0: model.state_dict()} if checkpoints is None else checkpoints,
        images,
        labels,
        layers=[layer],
        loss=loss,
        measurements=measurements,
        device=device,
        memory_budget=memory_budget,
        output=output,
    )
    return _ranked(analysis.tables, score, layer, threshold)


def _ranked(tables: Mapping[str, Any], score: str, layer: str, threshold: float) -> pd.DataFrame:
    """The samples with all scores that the tables have."""
    found = {
        name: samples.score(name, tables, layer).mean(skipna=False)
        for name, table in samples.SCORES.items()
        if table in tables and (name not in ("grand", "a_x") or layer in tables[table])
    }
    if "grand" in found:
        history = samples.outlier_history(samples.by_step(tables["norms"], layer), threshold, "distance")
        found[OUTLIER_SHARE] = history[OUTLIER_SHARE]
    if score not in found:
        raise ValueError(f"score: one that the tables have expected ({', '.join(found)}), found {score!r}")
    of_each = tables["norms"].astype({"correct": float}).groupby("sample")
    known = pd.DataFrame({"label": of_each["label"].first(), "correct": of_each["correct"].mean(), **found})
    return known.reset_index().sort_values(
        score, ascending=False, kind="stable", na_position="first", ignore_index=True
    )
