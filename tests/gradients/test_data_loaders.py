"""Which samples of a DataLoader are measured."""

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import fishertail

SAMPLES = 20


@pytest.fixture
def data():
    torch.manual_seed(0)
    return nn.Linear(4, 3), torch.randn(SAMPLES, 4), torch.arange(SAMPLES) % 3


def test_the_indices_of_a_subset_sampler_in_their_order(data):
    """The usual way to part training and validation samples."""
    model, images, labels = data
    wanted = torch.randperm(SAMPLES)[:7]
    loader = DataLoader(TensorDataset(images, labels), 3, sampler=SubsetRandomSampler(wanted))
    expected = fishertail.gradient_norms(model, images[wanted], labels[wanted])
    assert (fishertail.gradient_norms(model, loader).network == expected.network).all()


@pytest.mark.filterwarnings("error")
def test_a_sampler_of_all_ranks_stands_for_all_samples(data):
    model, images, labels = data
    dataset = TensorDataset(images, labels)
    loader = DataLoader(dataset, 3, sampler=DistributedSampler(dataset, num_replicas=2, rank=1))
    assert len(fishertail.gradient_norms(model, loader).network) == SAMPLES


def test_another_sampler_is_warned_of(data):
    model, images, labels = data
    loader = DataLoader(TensorDataset(images, labels), 3, sampler=WeightedRandomSampler(torch.ones(SAMPLES), 5))
    with pytest.warns(
        UserWarning, match="every sample of the dataset is measured once, whatever WeightedRandomSampler"
    ):
        assert len(fishertail.gradient_norms(model, loader).network) == SAMPLES


class Flipped(Dataset):
    """Samples of which one is augmented."""

    def __init__(self, images, labels, augmented):
        self.images, self.labels, self.augmented = images, labels, augmented

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        noise = torch.randn(()) if index == self.augmented else 0.0
        return self.images[index] + noise, self.labels[index]


@pytest.mark.parametrize("augmented", [0, 8, SAMPLES - 1])
def test_a_random_sample_is_found_among_several(data, augmented):
    model, images, labels = data
    with pytest.raises(ValueError, match=f"Flipped: sample {augmented} differs when it is read again"):
        fishertail.gradient_norms(model, Flipped(images, labels, augmented))


def test_a_sample_that_is_not_finite_is_the_same_when_it_is_read_again(data):
    model, images, labels = data
    images[0] = torch.nan
    found = fishertail.gradient_norms(model, TensorDataset(images, labels))
    assert found.network[0] == float("inf")
    assert (found.network[1:] > 0).all()
