"""The paper's two networks, and networks from factories."""

import pytest
import torch
from torch import nn

from fishertail import config, models
from fishertail.errors import UnsupportedModelError

OPTIONS = {name: architecture.model_dump() for name, architecture in config.Config().architectures.items()}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize(("name", "convolutions", "poolings", "linear"), [("fc", 0, 0, 5), ("conv", 4, 3, 3)])
def test_layers_of_the_paper_fit_every_image(name, convolutions, poolings, linear, shape):
    model = models.build(name, OPTIONS[name], shape, 7, seed=0)
    kinds = [type(module) for module in model.modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.MaxPool2d, nn.Linear)] == [convolutions, poolings, linear]
    assert model(torch.zeros(2, *shape)).shape == (2, 7)
    assert OPTIONS[name]["figure_layer"] in dict(model.named_modules())


def test_initial_weights_are_lecun_normal_with_zero_biases():
    model = models.build("fc", OPTIONS["fc"], (1, 28, 28), 10, seed=0)
    assert model.fc1.weight.std().item() == pytest.approx(784**-0.5, rel=0.03)
    assert model.fc4.weight.std().item() == pytest.approx(500**-0.5, rel=0.03)
    assert all(not module.bias.any() for module in model.modules() if isinstance(module, nn.Linear))


def test_convolutions_are_lecun_normal_by_all_their_inputs():
    model = models.build("conv", OPTIONS["conv"], (3, 32, 32), 10, seed=0)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.weight[0].numel() for layer in layers] == [27, 288, 288, 576]
    scaled = torch.cat([layer.weight.flatten() * layer.weight[0].numel() ** 0.5 for layer in layers])
    assert scaled.std().item() == pytest.approx(1, rel=0.03)
    assert not any(layer.bias.any() for layer in layers)


def test_pytorchs_own_initialisation_can_be_had():
    model = models.build("fc", OPTIONS["fc"] | {"initialisation": "torch"}, (1, 28, 28), 10, seed=0)
    assert model.fc1.weight.abs().max().item() == pytest.approx(784**-0.5, rel=1e-3)  # uniform
    assert model.fc1.bias.any()


@pytest.mark.parametrize(("name", "keys"), [("fc", ["hidden_widths"]), ("conv", ["channels", "hidden_widths"])])
def test_a_built_in_network_is_also_a_factory(name, keys):
    options = {"factory": f"fishertail.models:{name}", "arguments": {key: OPTIONS[name][key] for key in keys}}
    by_factory, built_in = (models.build(name, o, (1, 8, 8), 7, seed=3) for o in (options, OPTIONS[name]))
    assert all(torch.equal(a, b) for a, b in zip(by_factory.parameters(), built_in.parameters(), strict=True))


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, same, other = (models.build("conv", OPTIONS["conv"], (1, 8, 8), 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, same.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_streams_differ_between_seeds_and_epochs():
    assert len({models.stream(seed, epoch) for seed in range(20) for epoch in range(50)}) == 1000


def test_images_too_small_to_pool_are_refused():
    with pytest.raises(UnsupportedModelError, match="at least 8 x 8 expected, found"):
        models.build("conv", OPTIONS["conv"], (1, 8, 7), 10, seed=0)


def test_a_factory_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    models.build("mine", {"factory": f"{__name__}:make", "arguments": {"width": 3}}, (2, 3, 4), 5, seed=0)
    models.factory_layer_names(f"{__name__}:make", {"width": 3})
    assert torch.equal(torch.random.get_rng_state(), before)


def make(shape, classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width), nn.Linear(width, classes))


def test_a_factory_gets_shape_classes_and_arguments():
    options = {"factory": f"{__name__}:make", "arguments": {"width": 3}}
    model = models.build("mine", options, (2, 3, 4), 5, seed=0)
    assert (model[1].in_features, model[1].out_features, model[2].out_features) == (24, 3, 5)
    assert torch.equal(model[1].weight, models.build("mine", options, (2, 3, 4), 5, seed=0)[1].weight)
    assert models.factory_layer_names(options["factory"], options["arguments"]) == ["1", "2"]
