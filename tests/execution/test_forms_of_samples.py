"""Measurements of samples in the forms that users have them in: mappings and tuples, of inputs and of targets."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fishertail
from fishertail.errors import UnsupportedModelError
from tests.gradients.parts import Rounded

MEASURED = [
    "norms", "spectrum", "outliers", "sample_scores", "noise_scale", "hessian", "true_fisher", "eigenvalue_statistics",
    "eigenvalue_count", "trimmed_eigenvalues",
]  # fmt: skip
OF_ANY_LOSS = ["norms", "spectrum", "outliers", "noise_scale", "hessian", "eigenvalue_count"]


class Two(nn.Module):
    """Takes the upper and the lower half of a digit."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 6), nn.Linear(6, 10)

    def forward(self, upper, lower):
        return self.last(torch.tanh(self.first(torch.cat([upper, lower], 1))))


@pytest.fixture
def halves(digits):
    torch.manual_seed(0)
    images, labels = digits.training_data()
    upper, lower = images[:40].flatten(1).split(32, dim=1)
    return upper, lower, labels[:40]


def weighted(outputs, targets):
    classes, weights = targets
    return (weights * F.cross_entropy(outputs, classes, reduction="none")).sum()


def watched(folder, *samples, **options):
    """All tables, measured without a failure."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        watch = fishertail.Watch(Two(), *samples, folder=folder, schedule=[0], device="cpu", **options)
        assert watch(0)
    return watch.analysis().tables


def same(found, expected):
    for name, table in expected.items():
        if isinstance(table, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], table, check_dtype=False, rtol=1e-5, atol=1e-7)


class Rows(torch.utils.data.Dataset):
    """A mapping for each sample, as Hugging Face's data sets have it."""

    def __init__(self, upper, lower, labels):
        self._columns = {"upper": upper, "lower": lower, "labels": labels}

    def __len__(self):
        return len(self._columns["labels"])

    def __getitem__(self, index):
        return {name: column[index] for name, column in self._columns.items()}


@pytest.mark.parametrize("form", ["by name", "a data set"])
def test_inputs_by_name_and_in_data_sets_are_measured_like_positional_ones(tmp_path, halves, form):
    upper, lower, labels = halves
    expected = watched(tmp_path / "tuple", (upper, lower), labels, measurements=MEASURED)
    assert expected["norms"]["label"].tolist() == labels.tolist()
    samples = ({"lower": lower, "upper": upper}, labels) if form == "by name" else (Rows(*halves),)
    same(watched(tmp_path / form, *samples, measurements=MEASURED), expected)


def test_inputs_in_a_tuple_are_measured_right(tmp_path, halves):
    upper, lower, labels = halves
    found = watched(tmp_path, (upper, lower), labels, measurements=MEASURED)
    torch.manual_seed(1)
    model = Two()
    distances = model(upper, lower).softmax(1) - F.one_hot(labels, 10)
    np.testing.assert_allclose(found["sample_scores"]["el2n"], distances.norm(dim=1).detach(), rtol=1e-5)
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*weights):
        outputs = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (upper, lower))
        return F.cross_entropy(outputs, labels)

    blocks = torch.autograd.functional.hessian(loss, values)
    size = [value.numel() for value in values]
    whole = torch.cat(
        [
            torch.cat([b.reshape(n, m) for b, m in zip(row, size, strict=True)], 1)
            for row, n in zip(blocks, size, strict=True)
        ]
    )
    largest = float(torch.linalg.eigvalsh(whole.double())[-1])
    assert found["hessian"]["eigenvalue"].item() == pytest.approx(largest, rel=1e-3)


def test_targets_in_a_tuple_are_measured(tmp_path, halves):
    upper, lower, labels = halves
    twice = torch.full((40,), 2.0)
    found = watched(tmp_path / "tuple", (upper, lower), (labels, twice), loss=weighted, measurements=OF_ANY_LOSS)
    plain = watched(tmp_path / "plain", (upper, lower), labels, measurements=OF_ANY_LOSS)
    assert found["norms"][["label", "correct"]].isna().all(axis=None)
    np.testing.assert_allclose(found["norms"]["network"], 2 * plain["norms"]["network"], rtol=1e-5)
    np.testing.assert_allclose(found["spectrum"]["eigenvalue"], 4 * plain["spectrum"]["eigenvalue"], rtol=1e-4)
    np.testing.assert_allclose(found["hessian"]["eigenvalue"], 2 * plain["hessian"]["eigenvalue"], rtol=1e-3)


FORMS = {
    "arrays": lambda upper, lower, labels: ((upper.numpy(), lower.numpy()), labels.numpy()),
    "by name": lambda upper, lower, labels: ({"lower": lower, "upper": upper}, labels),
    "a data set": lambda *columns: (Rows(*columns),),
    "a loader": lambda *columns: (torch.utils.data.DataLoader(Rows(*columns), batch_size=7, shuffle=True),),
}


@pytest.mark.parametrize("form", FORMS)
def test_runs_and_rankings_take_every_form(halves, form):
    upper, lower, labels = halves
    torch.manual_seed(1)
    model, samples = Two(), FORMS[form](*halves)
    runs = [
        fishertail.analyse_run(model, {0: model.state_dict()}, *given, measurements=MEASURED, device="cpu")
        for given in (((upper, lower), labels), samples)
    ]
    assert runs[1].failures.empty
    same(runs[1].tables, runs[0].tables)
    expected = fishertail.rank_samples(model, (upper, lower), labels, device="cpu")
    pd.testing.assert_frame_equal(
        fishertail.rank_samples(model, *samples, device="cpu"), expected, check_dtype=False, rtol=1e-5
    )


class Heads(nn.Module):
    """The digit, and whether it is even."""

    def __init__(self):
        super().__init__()
        self.digit, self.even = nn.Linear(32, 10), nn.Linear(32, 2)

    def forward(self, inputs):
        return {"digit": self.digit(inputs), "even": self.even(inputs)}


def test_the_output_that_counts_is_chosen_everywhere(tmp_path, halves):
    upper, _, labels = halves
    model, samples = Heads(), (upper, labels % 2)
    alone = nn.Sequential()
    alone.add_module("even", model.even)
    expected = fishertail.analyse_run(alone, {0: alone.state_dict()}, *samples, measurements=MEASURED, device="cpu")
    found = fishertail.analyse_run(
        model, {0: model.state_dict()}, *samples, measurements=MEASURED, output="even", device="cpu"
    )
    watch = fishertail.Watch(model, *samples, folder=tmp_path, measurements=MEASURED, output="even", device="cpu")
    watch(0)
    for each in (found, watch.analysis()):
        assert each.failures.empty
        for name in ("spectrum", "hessian", "true_fisher", "eigenvalue_statistics"):
            rows = each.tables[name].query("layer == 'network'").reset_index(drop=True)
            truth = expected.tables[name].query("layer == 'network'").reset_index(drop=True)
            value = "largest" if name == "eigenvalue_statistics" else "eigenvalue"
            np.testing.assert_allclose(rows[value], truth[value], rtol=1e-3)
        np.testing.assert_allclose(
            each.tables["sample_scores"]["el2n"], expected.tables["sample_scores"]["el2n"], rtol=1e-5
        )
    ranked = fishertail.rank_samples(model, *samples, output="even", device="cpu")
    assert ranked["sample"].tolist() == fishertail.rank_samples(alone, *samples, device="cpu")["sample"].tolist()
    with pytest.raises(
        fishertail.errors.StorageError, match='a run with output "digit" expected, found one with "even"'
    ):
        fishertail.Watch(model, *samples, folder=tmp_path, output="digit", measurements=MEASURED, device="cpu")


def test_samples_that_do_not_fit_are_refused_before_a_job_starts(tmp_path):
    model = nn.Linear(32, 10)
    with pytest.raises(TypeError, match="labels expected; only a Dataset"):
        fishertail.analyse_run(
            model, {0: model.state_dict()}, torch.ones(3, 32), cluster="local", folder=tmp_path / "jobs"
        )
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("measurement", "message"),
    [
        ("sample_scores", r"one class for each sample expected, found torch.float32 of shape \(10,\)"),
        ("true_fisher", "120 outputs per sample"),
        ("hessian", "no second derivative"),
    ],
)
def test_what_cannot_be_measured_of_the_samples_is_refused_before_training(tmp_path, halves, measurement, message):
    upper, _, labels = halves
    model, targets = nn.Linear(32, 10), labels
    if measurement == "sample_scores":
        targets = F.one_hot(labels, 10).float()
    elif measurement == "true_fisher":
        model = nn.Linear(32, 120)
    else:
        model = nn.Sequential(nn.Linear(32, 10), Rounded())
    with pytest.raises(UnsupportedModelError, match=message):
        fishertail.Watch(model, upper, targets, folder=tmp_path, measurements=[measurement], device="cpu")
