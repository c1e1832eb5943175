"""The explorer's data, where a browser is not needed."""

import base64
import io

import pandas as pd
import pytest
import torch
from PIL import Image

from fishertail.measurements.measurement import measurements
from fishertail.page import data, render
from fishertail.page.instruments import all_instruments
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN

RUN_OF_GRID = {"dataset": "mnist", "model": "fc", "batch_size": 16, "seed": 0}


def explorer_data(settings, **tables):
    """Of one run."""
    tables = {name: table.assign(**RUN_OF_GRID)[[*RUN, *table]] for name, table in tables.items()}
    results = Results([RUN_OF_GRID | {"figure_layer": "fc4"}], tables, settings)
    return data.explorer_data(results, [], all_instruments(measurements(), tables))


@pytest.mark.parametrize(
    ("channels", "kind", "mode"), [(1, "png", "L"), (2, "png", "L"), (3, "jpeg", "RGB"), (5, "jpeg", "RGB")]
)
def test_images_of_any_number_of_channels_are_shown_small(channels, kind, mode):
    images = torch.randint(0, 256, (2, channels, 200, 100), dtype=torch.uint8)
    shown = data.image_data(type("Dataset", (), {"train_images": images}), [1])
    start, _, content = shown["1"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert start == f"data:image/{kind};base64"
    assert (picture.size, picture.mode) == ((48, 96), mode)


@pytest.mark.parametrize(("reading", "counts"), [("distance", [1, 2, 123_457]), ("norm", [300, 200, 100])])
def test_outliers_are_counted_as_the_settings_say_and_shown_to_the_last(reading, counts):
    steps = {"step": [0, 4, 8], "epoch": [0.0, 1.0, 2.0]}
    both = {"outliers_distance": [1, 2, 123_457], "outliers_norm": [300, 200, 100]}
    outliers = pd.DataFrame({**steps, "layer": "network", **both, "samples": 1_000_000})
    metrics = pd.DataFrame({**steps, "train_loss": [3.0, 2, 1], "train_accuracy": [0.1, 0.5, 0.9]})
    shown = explorer_data({"measurements.outliers.reading": reading}, outliers=outliers, metrics=metrics)
    run = shown["runs"][0]
    assert run["layers"]["network"]["curves"]["outliers"]["values"] == counts
    assert [share for *_, share in run["fit"]] == pytest.approx([count / 1e6 for count in counts], rel=1e-4)
    assert shown["fit"]["loss"] == (-1 if reading == "distance" else 1)


ONE = (
    "1 run: mnist/fc, at batch size 16. 1 stopped early, so its validation loss may fall further: mnist-fc/bs16/seed0."
)
TWO = (
    "2 runs: mnist/fc, at batch size 16. 2 stopped early, so their validation loss may fall further: "
    "mnist-fc/bs16/seed0, mnist-fc/bs16/seed1."
)


@pytest.mark.parametrize(("seeds", "text"), [([0], ONE), ([0, 1], TWO)])
def test_how_many_runs_there_are_is_said_in_words(seeds, text):
    runs = [RUN_OF_GRID | {"seed": seed} for seed in seeds]
    losses = pd.DataFrame({"step": [0, 4], "epoch": [0.0, 1.0], "validation_loss": [2.0, 1.0]})
    metrics = pd.concat([losses.assign(**run) for run in runs])
    assert render.networks(Results(runs, {"metrics": metrics}, {})) == text


def test_counts_are_whole_where_a_run_lacks_one():
    html = render.table_html(pd.DataFrame({"outliers": [16_599, None], "lambda_1": [0.123456, 1e-9]}))
    assert all(f'"number">{cell}</td>' in html for cell in ("16599", "–", "0.1235", "1e-09"))
