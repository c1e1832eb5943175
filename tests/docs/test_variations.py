"""docs/reproduction/variations.csv belongs to the tables beside it: where nothing is varied, it says what they say."""

import numpy as np
import pandas as pd

from fishertail.results import storage
from tests.workflow.project import ROOT

REPRODUCTION = ROOT / "docs/reproduction"
CHOSEN = {"layer": {"fc": "fc4", "conv": "fc2"}, "share of outliers": "1 %", "share of the data": "10 %"}
NETWORK = ["claim", "dataset", "model", "batch_size"]
EFFECT = ["effect", "low", "high", "verdict"]


def chosen(row: pd.Series) -> bool:
    choice = CHOSEN[row["varied"]]
    return row["value"] == (choice[row["model"]] if isinstance(choice, dict) else choice)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Effects by network and by the order of the quantities, whose names differ."""
    table = table.assign(batch_size=table["batch_size"].astype(str), order=table.groupby(NETWORK).cumcount())
    return table.set_index([*NETWORK, "order"])[EFFECT].sort_index()


def test_the_choices_of_the_criteria_give_the_verdicts_of_the_tables():
    varied = pd.read_csv(REPRODUCTION / "variations.csv")
    effects = storage.read_table(REPRODUCTION / "tables/claim_effects.csv")
    found = in_order(varied[varied.apply(chosen, axis=1)])
    expected = in_order(effects[effects["votes"] & effects["decides"] & (effects["claim"] <= 6)])
    assert len(found) == len(expected) > 0
    assert found["verdict"].to_list() == expected["verdict"].to_list()
    assert found.index.equals(expected.index)
    numbers = EFFECT[:3]
    np.testing.assert_allclose(found[numbers].astype(float), expected[numbers].astype(float), rtol=1e-9)
