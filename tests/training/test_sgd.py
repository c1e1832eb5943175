"""SGD as in eq. (2), reproducible whatever the blocks, and whatever is looked at inside an epoch."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from fishertail.errors import DivergedError
from fishertail.grid import config
from fishertail.results.run import Block
from fishertail.training import checkpoints, schedule, sgd
from fishertail.training.networks import build

RUN = {"dataset": "digits", "batch_size": 100, "seed": 3}
STEPS = 15  # of an epoch of digits at batch size 100
OCTAVES = [1, 2, 4, 8, 16]  # inside its first two epochs


def with_dropout(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, classes))


def run_of(name, **architecture):
    if name == "dropout":
        return RUN | {"model": name, "architecture": {"factory": f"{__name__}:with_dropout", "learning_rate": 0.05}}
    options = config.default().architecture(name).model_dump() | {"hidden_widths": [16] * (4 if name == "fc" else 2)}
    return RUN | {"model": name, "architecture": options | {"learning_rate": 0.05} | architecture}


def trained(run, digits, epochs, **options):
    """What a fresh network is at each checkpoint of these epochs."""
    model = build.of_run(run, digits.shape, digits.classes)
    return list(sgd.train_run(model, digits, epochs, run, **options))


def weights_after(run, digits, blocks, folder=None, octaves=False):
    """The last weights after training in blocks, each from what the one before wrote to `folder`."""
    model = build.of_run(run, digits.shape, digits.classes)
    for number, epochs in enumerate(blocks):
        if number and folder:
            model = build.of_run(run, digits.shape, digits.classes)
            model.load_state_dict(checkpoints.read_last(folder / f"{number - 1}.safetensors")[1])
        found = {at.step: at.weights for at in sgd.train_run(model, digits, epochs, run, octaves=octaves)}
        if folder:
            checkpoints.write(found, folder / f"{number}.safetensors", {})
    return found[max(found)]


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("octaves", [False, True])
@pytest.mark.parametrize("name", ["fc", "conv", "dropout"])
@pytest.mark.parametrize("epochs_per_job", [1, 2, 5])
def test_weights_are_bit_identical_whatever_the_blocks_and_the_checkpoints(
    digits, tmp_path, name, epochs_per_job, octaves
):
    run, grid = run_of(name), config.complete()(epochs=5, epochs_per_job=epochs_per_job)
    blocks = [list(block.epochs) for block in grid.blocks(grid.runs[0])]
    whole = weights_after(run, digits, [range(6)])
    assert same(whole, weights_after(run, digits, blocks, tmp_path, octaves))


@pytest.mark.parametrize("name", ["fc", "dropout"])
def test_checkpoints_inside_epochs_change_no_other(digits, name):
    run = run_of(name)
    ends = {at.step: at for at in trained(run, digits, range(4))}
    found = {at.step: at for at in trained(run, digits, range(4), octaves=True)}
    assert list(ends) == [0, 15, 30, 45]
    assert list(found) == sorted([*ends, *OCTAVES])
    assert all(same(at.weights, found[step].weights) and at.metrics == found[step].metrics for step, at in ends.items())


def test_a_checkpoint_inside_an_epoch_is_of_so_many_steps(digits):
    """Against a loop that stops there, in the same order of samples."""
    run = run_of("fc")
    inside = {at.step: at.weights for at in trained(run, digits, range(3), octaves=True)}
    model = build.of_run(run, digits.shape, digits.classes).to(memory_format=torch.channels_last)
    images, labels = digits.training_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, foreach=True)
    steps = 0
    for epoch in (1, 2):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(build.stream(3, epoch)))
        for batch in order.split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            steps += 1
            if steps in OCTAVES:
                for key, weight in model.state_dict().items():
                    torch.testing.assert_close(inside[steps][key], weight, rtol=1e-5, atol=1e-7)
    assert steps == 2 * STEPS


@pytest.mark.parametrize(("epochs", "steps"), [([0, 1], [0, 1, 2, 4, 8, 15]), ([2], [16, 30]), ([3], [45])])
def test_a_block_of_one_epoch_has_the_octaves_inside_it(digits, epochs, steps):
    assert [at.step for at in trained(run_of("fc"), digits, epochs, octaves=True)] == steps


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    [(1437, [0, 1, 2, 3]), (800, [0, 1, 2, 4, 6]), (500, [0, 1, 2, 3, 4, 6, 9])],
)
def test_epochs_of_one_step_two_and_three(digits, batch_size, steps):
    run = run_of("fc") | {"batch_size": batch_size}
    assert [at.step for at in trained(run, digits, range(4), octaves=True)] == steps


def test_mixed_precision_multiplies_in_bfloat16_and_updates_in_float32(digits):
    """Against a loop that casts weights and activations itself."""
    run = run_of("fc", precision="bfloat16")
    images, labels = digits.training_data()
    model = build.of_run(run, digits.shape, digits.classes)
    parameters = dict(model.named_parameters())

    def outputs(batch):
        x = batch.flatten(1).bfloat16()
        for layer in ("fc1", "fc2", "fc3", "fc4", "fc5"):
            weight, bias = (parameters[f"{layer}.{part}"].bfloat16() for part in ("weight", "bias"))
            x = nn.functional.linear(x if layer == "fc1" else x.relu(), weight, bias)
        return x.float()

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(build.stream(3, 1)))
    for batch in order.split(100):
        loss = nn.functional.cross_entropy(outputs(images[batch]), labels[batch])
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter.sub_(0.05 * gradient)
    found, exact = trained(run, digits, range(2))[-1], trained(run_of("fc"), digits, range(2))[-1]
    for key, weight in found.weights.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, parameters[key].detach(), rtol=0, atol=2e-5)
    assert 1e-4 < (found.weights["fc1.weight"] - exact.weights["fc1.weight"]).abs().max() < 1e-2
    with torch.no_grad():
        expected = nn.functional.cross_entropy(outputs(images), labels).item()
    assert found.metrics.train_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_mixed_precision_is_bit_identical_whatever_the_blocks(digits, tmp_path, name):
    run = run_of(name, precision="bfloat16")
    whole = weights_after(run, digits, [range(6)])
    assert same(whole, weights_after(run, digits, [range(2), range(2, 5), range(5, 6)], tmp_path, octaves=True))


def test_what_looks_into_an_epoch_may_draw_random_numbers_and_change_the_mode(digits):
    def after(**options):
        model = build.of_run(run_of("dropout"), digits.shape, digits.classes)
        sgd.train_epoch(model, *digits.training_data(), batch_size=50, learning_rate=0.1, seed=0, epoch=1, **options)
        return model.state_dict(), model.training

    def look(step):
        seen.append((step, torch.rand(3)))

    seen = []
    (weights, _), (looked_at, training) = after(), after(look=look, at=[1, 5, 29])
    assert same(weights, looked_at)
    assert training
    assert [step for step, _ in seen] == [1, 5, 29]


def test_step_0_is_the_network_as_it_came(digits):
    run = run_of("fc")
    initial = build.of_run(run, digits.shape, digits.classes).state_dict()
    at = trained(run, digits, [0, 1])[0]
    assert at.step == 0
    assert 2 < at.metrics.validation_loss < 3
    assert same(at.weights, initial)


def test_weights_that_were_given_out_do_not_change_later(digits):
    weights = [at.weights["fc1.weight"] for at in trained(run_of("fc"), digits, [0, 1, 2], octaves=True)]
    assert all(not torch.equal(first, second) for first, second in pairwise(weights))


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
    sgd.train_epoch(model, images, labels, batch_size=batch_size, learning_rate=0, seed=seed, epoch=epoch)
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
    sgd.train_epoch(model, *digits.training_data(), batch_size=500, learning_rate=0.1, seed=0, epoch=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_is_plain_sgd_over_all_samples_once():
    torch.manual_seed(0)
    images, labels = torch.randn(23, 6), torch.arange(23) % 3
    model = nn.Linear(6, 3)
    weight, bias = (parameter.detach().double().clone() for parameter in model.parameters())
    sgd.train_epoch(model, images, labels, batch_size=5, learning_rate=0.1, seed=1, epoch=2)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(build.stream(1, 2)))
    assert [len(batch) for batch in order.split(5)] == [5, 5, 5, 5, 3]
    for batch in order.split(5):
        x = images[batch].double()
        residual = (torch.softmax(x @ weight.T + bias, 1) - nn.functional.one_hot(labels[batch], 3)) / len(batch)
        weight, bias = weight - 0.1 * residual.T @ x, bias - 0.1 * residual.sum(0)
    torch.testing.assert_close(model.weight.double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.bias.double(), bias, rtol=1e-5, atol=1e-6)


def test_metrics_are_those_of_float64(digits):
    run = run_of("fc")
    model = build.of_run(run, digits.shape, digits.classes)
    metrics = list(sgd.train_run(model, digits, [0, 1, 2], run))[-1].metrics
    for split, (images, labels) in (("train", digits.training_data()), ("validation", digits.validation_data())):
        logits = model.double()(images.double()).detach()
        assert getattr(metrics, f"{split}_loss") == pytest.approx(
            float(nn.functional.cross_entropy(logits, labels)), rel=1e-6
        )
        assert getattr(metrics, f"{split}_accuracy") == float((logits.argmax(1) == labels).double().mean())


def test_a_network_that_draws_random_numbers_is_reproducible(digits):
    run, trained = run_of("dropout"), []
    for noise in (1, 2):
        model = build.of_run(run, digits.shape, digits.classes)
        torch.manual_seed(noise)  # the state of the global generator must not matter
        sgd.train_epoch(model, *digits.training_data(), batch_size=50, learning_rate=0.1, seed=0, epoch=1)
        trained.append(model[1].weight)
    assert torch.equal(*trained)


@pytest.mark.parametrize(("octaves", "step"), [(False, r"step 15 \(epoch 1\)"), (True, r"step \d \(epoch 0\.\d+\)")])
def test_divergence_names_run_step_and_rate(digits, octaves, step):
    run = run_of("fc", learning_rate=1e6)
    expected = rf"digits-fc, batch size 100, seed 3: .* after {step} at learning rate 1000000"
    with pytest.raises(DivergedError, match=expected):
        trained(run, digits, [0, 1, 2, 3], octaves=octaves)


def test_the_octaves_of_digits_are_those_of_the_schedule():
    assert schedule.steps_per_epoch(1437, 100) == STEPS
    assert schedule.octaves(STEPS) == OCTAVES
    assert schedule.Selection((1, 2), True).steps(Block(1, 2), STEPS) == [1, 2, 4, 8, 15, 16, 30]
