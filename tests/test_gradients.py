"""Per-sample gradient norms against float64 loops over single samples, and the refusal of what cannot be exact."""

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import UnsupportedModelError
from fishertail.gradients.matrix import GradientMatrix
from tests.trained import digits_network
from tests.truth import dense_gradients, norms_without_cancellation


def assert_exact(model, images, labels, loss=None, **options):
    """The norms and the rows are those of the float64 loop."""
    truth = dense_gradients(model, images, labels, loss)
    norms = fishertail.gradient_norms(model, images, labels, loss=loss, **options)
    assert set(norms.layers) == set(truth)
    expected = np.stack([np.linalg.norm(truth[layer], axis=1) for layer in norms.layers], axis=1)
    np.testing.assert_allclose(norms.per_layer, expected, rtol=2e-4, atol=1e-6 * expected.max())
    np.testing.assert_allclose(norms.network, np.linalg.norm(expected, axis=1), rtol=2e-4)
    with GradientMatrix(model, images, labels, loss=loss, batch_size=3) as matrix:
        for layer, gradients in truth.items():
            vector = torch.randn(1, gradients.shape[1])
            parts = [batch.rows[layer].project(vector) for batch in matrix.batches()]
            expected = gradients @ vector.double().numpy().T
            np.testing.assert_allclose(
                torch.cat(parts).numpy(), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max()
            )


@pytest.mark.parametrize(("name", "epochs"), [("fc", 1), ("fc", 25), ("conv", 1), ("conv", 25)])
def test_norms_on_trained_checkpoints(name, epochs):
    model, images, labels = digits_network(name, epochs)
    norms = fishertail.gradient_norms(model, images, labels, batch_size=417)  # uneven batches
    assert epochs == 1 or norms.correct.all()
    truth = norms_without_cancellation(model, images, labels, range(len(labels)))
    errors = np.abs(norms.per_layer - truth) / truth
    assert np.median(errors) <= 1e-5
    assert (errors[truth > 1e-12] <= 1e-3).mean() >= 0.99
    for column in range(truth.shape[1]):
        found, expected = (fishertail.outliers(n[:, column]) for n in (norms.per_layer, truth))
        assert found.mad == pytest.approx(expected.mad, rel=1e-4)
        assert abs(found.count - expected.count) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "name", "epochs", "rate"), [("mnist", "fc", 12, 0.05), ("cifar10", "conv", 2, 0.01)]
)
def test_norms_on_the_papers_data(real_data, dataset, name, epochs, rate):
    from fishertail.data import loading
    from fishertail.grid import config
    from fishertail.training import sgd
    from fishertail.training.networks import build

    data = loading.load(dataset, real_data)
    architecture = config.default().architecture(name).model_dump() | {"learning_rate": rate}
    run = {"dataset": dataset, "model": name, "batch_size": 16, "seed": 0, "architecture": architecture}
    model = build.of_run(run, data.shape, data.classes)
    images, labels = (tensor[:10_000] for tensor in data.training_data())
    for epoch in range(1, epochs + 1):
        sgd.train_epoch(model, images, labels, batch_size=16, learning_rate=rate, seed=0, epoch=epoch)
    norms = fishertail.gradient_norms(model.eval(), images, labels)
    index = np.linspace(0, len(labels) - 1, 1000).astype(int)
    truth = norms_without_cancellation(model, images, labels, index)
    errors = np.abs(norms.per_layer[index] - truth) / truth
    print(
        f"{dataset}: accuracy {norms.correct.mean():.4f}, median error {np.median(errors):.1e}, max {errors.max():.1e}"
    )
    assert np.median(errors) <= 1e-5
    assert (errors[truth > 1e-12] <= 1e-3).mean() >= 0.99


def test_losses_and_correctness():
    model, images, labels = digits_network("fc", 1)
    norms = fishertail.gradient_norms(model, images, labels)
    logits = model(images).double()
    np.testing.assert_allclose(
        norms.loss, nn.functional.cross_entropy(logits, labels, reduction="none").detach(), rtol=1e-5
    )
    assert norms.correct.sum() == (logits.argmax(1) == labels).sum()


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100, 5000])
def test_norms_do_not_depend_on_the_batches(batch_size):
    model, images, labels = digits_network("conv", 1)
    part = slice(0, 100)
    reference = fishertail.gradient_norms(model, images[part], labels[part])
    norms = fishertail.gradient_norms(model, images[part], labels[part], batch_size=batch_size)
    np.testing.assert_allclose(norms.per_layer, reference.per_layer, rtol=1e-4)


def test_norms_down_to_1e_200_do_not_vanish():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].bias[:] = torch.tensor([460.0, 0, 0])
    norms = fishertail.gradient_norms(model, torch.rand(6, 4), torch.zeros(6, dtype=torch.long))
    assert ((norms.network > 1e-203) & (norms.network < 1e-197)).all()


class Residual(nn.Module):
    """Convolutions, every normalisation and in-place ReLU, as in common image networks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, stride=1)
        self.gn = nn.GroupNorm(2, 8)
        self.ln = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.bn(self.stem(x)))
        x = x + self.relu(self.gn(self.grouped(x)))
        return self.head(self.ln(x.mean((2, 3))))


class TwiceCalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class WeightUsedOutside(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.layer(x) + x @ self.layer.weight)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 6), nn.Linear(6, 6)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(torch.tanh(self.encoder(x)))


class ClassToken(nn.Module):
    """Attention, an embedding table and a parameter of the root module, as in a transformer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embedding(x)], dim=1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x)[:, 0])


def vectors(n=7, features=6):
    return torch.randn(n, features), torch.arange(n) % 4


MODELS = {
    "residual": (Residual, lambda: (torch.randn(7, 3, 8, 8), torch.arange(7) % 4)),
    "module called twice": (TwiceCalled, vectors),
    "weight used outside its module": (WeightUsedOutside, vectors),
    "tied weights": (Tied, vectors),
    "attention, embedding, root parameter": (ClassToken, lambda: (torch.randint(11, (7, 5)), torch.arange(7) % 4)),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Flatten(), nn.Linear(75, 4)),
        lambda: (torch.randn(7, 2, 3, 3), torch.arange(7) % 4),
    ),
    "circular padding": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(48, 4)),
        lambda: (torch.randn(7, 2, 4, 4), torch.arange(7) % 4),
    ),
    "linear over tokens": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 4)),
        lambda: (torch.randn(7, 3, 6), torch.arange(7) % 4),
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_networks_of_every_kind_are_exact(case):
    torch.manual_seed(0)
    make, data = MODELS[case]
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    assert_exact(model, *data())


def test_an_exported_network_is_exact():
    torch.manual_seed(0)
    images, labels = vectors()
    shapes = ({0: torch.export.Dim("samples", min=1, max=999)},)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    assert_exact(torch.export.export(model, (images,), dynamic_shapes=shapes).module(), images, labels)


def test_frozen_parameters_do_not_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 4))
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    norms = fishertail.gradient_norms(model, *vectors())
    assert norms.layers == ("2", "4")
    assert_exact(model, *vectors())


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.functional.l1_loss,
        nn.CrossEntropyLoss(label_smoothing=0.1),
        lambda z, y: (z - y).square().sum(),
    ],
    ids=["mse", "l1", "label smoothing", "lambda"],
)
def test_other_losses(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    assert_exact(model, torch.randn(7, 6), torch.rand(7, 4), loss=loss)


def test_regression_has_no_correctness():
    model = nn.Linear(6, 2)
    assert fishertail.gradient_norms(model, torch.randn(5, 6), torch.randn(5, 2), loss=nn.MSELoss()).correct is None


def test_plain_cross_entropy_module_is_as_exact_as_the_default():
    model, images, labels = digits_network("fc", 25)
    default, module = (fishertail.gradient_norms(model, images, labels, loss=f) for f in (None, nn.CrossEntropyLoss()))
    np.testing.assert_array_equal(default.per_layer, module.per_layer)


def test_the_model_is_left_as_it_was():
    model = Residual().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fishertail.gradient_norms(model, torch.randn(5, 3, 8, 8), torch.arange(5) % 4)
    assert not model.training
    assert model.relu.inplace
    assert not model.stem._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_output_without_a_row_a_sample_is_refused():
    class Summed(nn.Linear):
        def forward(self, x):
            return super().forward(x).sum(0)

    with pytest.raises(UnsupportedModelError, match="one tensor with a row for each sample"):
        fishertail.gradient_norms(Summed(6, 4), *vectors())


@pytest.mark.parametrize(
    ("images", "labels", "fault"),
    [
        (torch.randn(3, 6), torch.arange(2), "3 images and 2 labels"),
        (torch.randn(0, 6), torch.arange(0), "found none"),
        (torch.randn(3, 6), torch.tensor([0, 1, 4]), "labels: 0 to 3 expected, found 0 to 4"),
        (torch.randn(3, 6), torch.rand(3), "labels: integers, or probabilities"),
    ],
)
def test_data_that_do_not_fit_are_refused(images, labels, fault):
    with pytest.raises(ValueError, match=fault):
        fishertail.gradient_norms(nn.Linear(6, 4), images, labels)


def test_the_network_stands_for_all_layers_and_is_of_those_that_are_chosen():
    model, samples = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4)), vectors()
    whole = fishertail.gradient_norms(model, *samples)
    for layers in (["network"], ["2", "network"]):
        found = fishertail.gradient_norms(model, *samples, layers=layers)
        assert found.layers == whole.layers
        np.testing.assert_array_equal(found.network, whole.network)
    part = fishertail.gradient_norms(model, *samples, layers=["2"])
    np.testing.assert_allclose(part.network, whole.per_layer[:, 1])


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match="layers: among 0, 2, network expected, found 'fc9'"):
        fishertail.gradient_norms(
            nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4)), *vectors(), layers=["fc9"]
        )


def test_a_gradient_that_is_not_finite_has_an_infinite_norm():
    images, labels = vectors()
    images[2] = torch.inf
    norms = fishertail.gradient_norms(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4)), images, labels)
    assert np.isinf(norms.network).tolist() == [i == 2 for i in range(7)]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fc", "conv"])
def test_a_gpu_gives_the_same_norms(name):
    model, images, labels = digits_network(name, 25)
    cpu, gpu = (fishertail.gradient_norms(model, images, labels, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.per_layer, cpu.per_layer, rtol=1e-3)
