"""SGD as in eq. (2), reproducible whatever the blocks."""

import pytest
import torch
from torch import nn

from fishertail import checkpoints, config, models, training
from fishertail.errors import DivergedError, StorageError

RUN = {"dataset": "digits", "batch_size": 100, "seed": 3}


def with_dropout(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, classes))


def run_of(name, **architecture):
    if name == "dropout":
        return RUN | {"model": name, "architecture": {"factory": f"{__name__}:with_dropout", "learning_rate": 0.05}}
    options = config.Config().architectures[name].model_dump() | {"hidden_widths": [16] * (4 if name == "fc" else 2)}
    return RUN | {"model": name, "architecture": options | {"learning_rate": 0.05} | architecture}


def weights_after(run, digits, blocks, tmp_path=None):
    """The weights after training in blocks, each from what the one before wrote to disk."""
    model = models.of_run(run, digits.shape, digits.classes)
    for number, epochs in enumerate(blocks):
        if number and tmp_path:
            last = blocks[number - 1][-1]
            model = models.of_run(run, digits.shape, digits.classes)
            model.load_state_dict(checkpoints.read(tmp_path / f"{last}.safetensors", [last])[last])
        weights = {epoch: state for epoch, _, state in training.train_run(model, digits, epochs, run)}
        if tmp_path:
            checkpoints.write(weights, tmp_path / f"{epochs[-1]}.safetensors", {})
    return weights[blocks[-1][-1]]


@pytest.mark.parametrize("name", ["fc", "conv", "dropout"])
@pytest.mark.parametrize("epochs_per_job", [1, 2, 5])
def test_weights_are_bit_identical_whatever_the_blocks(digits, tmp_path, name, epochs_per_job):
    run, grid = run_of(name), config.Config(epochs=5, epochs_per_job=epochs_per_job)
    blocks = [list(block.epochs) for block in grid.blocks(grid.runs[0])]
    whole = weights_after(run, digits, [range(6)])
    parts = weights_after(run, digits, blocks, tmp_path)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_epoch_0_is_the_network_as_it_came(digits):
    run = run_of("fc")
    initial = models.of_run(run, digits.shape, digits.classes).state_dict()
    ((epoch, metrics, weights),) = training.train_run(models.of_run(run, digits.shape, 10), digits, [0], run)
    assert epoch == 0
    assert 2 < metrics.validation_loss < 3
    assert all(torch.equal(weights[key], initial[key]) for key in initial)


def test_weights_that_were_given_out_do_not_change_later(digits):
    run = run_of("fc")
    model = models.of_run(run, digits.shape, digits.classes)
    weights = {epoch: state["fc1.weight"] for epoch, _, state in training.train_run(model, digits, [0, 1, 2], run)}
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


class Recorder(nn.Module):
    """Notes which samples it is trained on, batch by batch."""

    def __init__(self):
        super().__init__()
        self.head, self.batches = nn.Linear(1, 2), []

    def forward(self, x):
        self.batches.append(x[:, 0].int().tolist())
        return self.head(x)


def batches(batch_size, seed=0, epoch=1, samples=23):
    model, images = Recorder(), torch.arange(samples).float()[:, None]
    labels = torch.zeros(samples, dtype=torch.long)
    training.train_epoch(model, images, labels, batch_size=batch_size, learning_rate=0, seed=seed, epoch=epoch)
    return model.batches


def order(*arguments, **keywords):
    return [sample for batch in batches(*arguments, **keywords) for sample in batch]


def test_every_sample_is_seen_once_and_the_last_small_batch_is_used():
    assert [len(batch) for batch in batches(5)] == [5, 5, 5, 5, 3]
    assert sorted(order(5)) == list(range(23))


def test_the_order_depends_on_seed_and_epoch_alone():
    reference = order(5)
    torch.manual_seed(12345)
    assert order(5) == order(7) == reference
    assert order(5, epoch=2) != reference
    assert order(5, seed=1) != reference
    assert order(5, epoch=2) != order(5, seed=2)


def test_training_leaves_the_global_generator_alone(digits):
    model = with_dropout(digits.shape, 10)
    before = torch.random.get_rng_state()
    training.train_epoch(model, *digits.training_data(), batch_size=500, learning_rate=0.1, seed=0, epoch=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_is_plain_sgd_over_all_samples_once():
    torch.manual_seed(0)
    images, labels = torch.randn(23, 6), torch.arange(23) % 3
    model = nn.Linear(6, 3)
    weight, bias = (parameter.detach().double().clone() for parameter in model.parameters())
    training.train_epoch(model, images, labels, batch_size=5, learning_rate=0.1, seed=1, epoch=2)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(models.stream(1, 2)))
    assert [len(batch) for batch in order.split(5)] == [5, 5, 5, 5, 3]
    for batch in order.split(5):
        x = images[batch].double()
        residual = (torch.softmax(x @ weight.T + bias, 1) - nn.functional.one_hot(labels[batch], 3)) / len(batch)
        weight, bias = weight - 0.1 * residual.T @ x, bias - 0.1 * residual.sum(0)
    torch.testing.assert_close(model.weight.double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.bias.double(), bias, rtol=1e-5, atol=1e-6)


def test_metrics_are_those_of_float64(digits):
    run = run_of("fc")
    model = models.of_run(run, digits.shape, digits.classes)
    *_, (_, metrics, _) = training.train_run(model, digits, [1, 2], run)
    for split, (images, labels) in (("train", digits.training_data()), ("validation", digits.validation_data())):
        logits = model.double()(images.double()).detach()
        assert getattr(metrics, f"{split}_loss") == pytest.approx(
            float(nn.functional.cross_entropy(logits, labels)), rel=1e-6
        )
        assert getattr(metrics, f"{split}_accuracy") == float((logits.argmax(1) == labels).double().mean())


def test_a_network_that_draws_random_numbers_is_reproducible(digits):
    run, trained = run_of("dropout"), []
    for noise in (1, 2):
        model = models.of_run(run, digits.shape, digits.classes)
        torch.manual_seed(noise)  # the state of the global generator must not matter
        training.train_epoch(model, *digits.training_data(), batch_size=50, learning_rate=0.1, seed=0, epoch=1)
        trained.append(model[1].weight)
    assert torch.equal(*trained)


def test_divergence_names_run_epoch_and_rate(digits):
    run = run_of("fc", learning_rate=1e6)
    model = models.of_run(run, digits.shape, digits.classes)
    with pytest.raises(
        DivergedError, match=r"digits-fc, batch size 100, seed 3: .* after epoch 1 at learning rate 1000000"
    ):
        list(training.train_run(model, digits, [1, 2, 3], run))


def test_an_epoch_that_is_not_in_a_checkpoint_file_is_named(tmp_path):
    checkpoints.write({3: {"weight": torch.ones(2)}}, tmp_path / "c.safetensors", {})
    with pytest.raises(StorageError, match=r"c\.safetensors: no weights of epoch 4"):
        checkpoints.read(tmp_path / "c.safetensors", [3, 4])
