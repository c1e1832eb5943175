"""The step at which the noise of the gradient becomes larger than its mean."""

import numpy as np
import pandas as pd
import pytest

from tests.measurements import measured

STEPS = [0, 1, 3, 7, 15]


def noise(**ratios):
    parts = [
        pd.DataFrame({"step": STEPS, "epoch": np.array(STEPS) / 4, "layer": layer, "signal_to_noise": values})
        for layer, values in ratios.items()
    ]
    return {"noise_scale": pd.concat(parts).sort_values("step", kind="stable", ignore_index=True)}


RATIOS = noise(fc1=4 / (1 + np.array(STEPS)), fc2=[0.5, 0.4, 0.3, 0.2, 0.1], network=[np.nan] * 5)


def test_the_crossing_of_each_layer():
    table = measured.without_gradients("drift_to_diffusion", RATIOS).set_index("layer")
    assert table.index.tolist() == ["fc1", "fc2", "network"]
    assert table.loc["fc1"].tolist() == pytest.approx([3, 0.75, 4, 0.25])
    assert table["crossing_step"].isna().tolist() == [False, True, True]
    assert table.loc["fc2", ["largest_ratio", "last_ratio"]].tolist() == [0.5, 0.1]
    assert table.loc["network"].isna().all()


def test_a_mini_batch_is_less_noisy():
    table = measured.without_gradients("drift_to_diffusion", RATIOS, drift_to_diffusion={"batch_size": 4})
    assert table.set_index("layer").loc["fc1"].tolist() == pytest.approx([7, 1.75, 8, 0.5])


def test_a_run_without_checkpoints_has_no_rows():
    table = measured.without_gradients("drift_to_diffusion", {"noise_scale": RATIOS["noise_scale"].iloc[:0]})
    assert not len(table)
