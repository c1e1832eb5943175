"""Networks by name: the paper's two, today's on images of any size, and those of factories."""

import pytest
import torch
from torch import nn

from fishertail.errors import UnsupportedModelError
from fishertail.training.networks import build, factory
from fishertail.training.networks.network import Architecture, module, networks

OPTIONS = {name: network.architecture().model_dump() for name, network in networks().items()}
TODAYS = ["alexnet", "googlenet", "resnet18", "vit"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize(("name", "convolutions", "poolings", "linear"), [("fc", 0, 0, 5), ("conv", 4, 3, 3)])
def test_layers_of_the_paper_fit_every_image(name, convolutions, poolings, linear, shape):
    model = build.build(name, OPTIONS[name], shape, 7, seed=0)
    kinds = [type(module) for module in model.modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.MaxPool2d, nn.Linear)] == [convolutions, poolings, linear]
    assert model(torch.zeros(2, *shape)).shape == (2, 7)
    assert OPTIONS[name]["figure_layer"] in dict(model.named_modules())


def test_initial_weights_are_lecun_normal_with_zero_biases():
    model = build.build("fc", OPTIONS["fc"], (1, 28, 28), 10, seed=0)
    assert model.fc1.weight.std().item() == pytest.approx(784**-0.5, rel=0.03)
    assert model.fc4.weight.std().item() == pytest.approx(500**-0.5, rel=0.03)
    assert all(not module.bias.any() for module in model.modules() if isinstance(module, nn.Linear))


def test_convolutions_are_lecun_normal_by_all_their_inputs():
    model = build.build("conv", OPTIONS["conv"], (3, 32, 32), 10, seed=0)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.weight[0].numel() for layer in layers] == [27, 288, 288, 576]
    scaled = torch.cat([layer.weight.flatten() * layer.weight[0].numel() ** 0.5 for layer in layers])
    assert scaled.std().item() == pytest.approx(1, rel=0.03)
    assert not any(layer.bias.any() for layer in layers)


def test_pytorchs_own_initialisation_can_be_had():
    model = build.build("fc", OPTIONS["fc"] | {"initialisation": "torch"}, (1, 28, 28), 10, seed=0)
    assert model.fc1.weight.abs().max().item() == pytest.approx(784**-0.5, rel=1e-3)  # uniform
    assert model.fc1.bias.any()


@pytest.mark.parametrize(("name", "keys"), [("fc", ["hidden_widths"]), ("conv", ["channels", "hidden_widths"])])
def test_a_built_in_network_is_also_a_factory(name, keys):
    options = {
        "factory": f"fishertail.training.networks.{name}:{name}",
        "arguments": {key: OPTIONS[name][key] for key in keys},
    }
    by_factory, built_in = (build.build(name, o, (1, 8, 8), 7, seed=3) for o in (options, OPTIONS[name]))
    assert all(torch.equal(a, b) for a, b in zip(by_factory.parameters(), built_in.parameters(), strict=True))


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, same, other = (build.build("conv", OPTIONS["conv"], (1, 8, 8), 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, same.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_streams_differ_between_seeds_and_epochs():
    assert len({build.stream(seed, epoch) for seed in range(20) for epoch in range(50)}) == 1000


def test_images_too_small_to_pool_are_refused():
    with pytest.raises(UnsupportedModelError, match="at least 8 x 8 expected, found"):
        build.build("conv", OPTIONS["conv"], (1, 8, 7), 10, seed=0)


def test_a_factory_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    build.build("mine", {"factory": f"{__name__}:make", "arguments": {"width": 3}}, (2, 3, 4), 5, seed=0)
    factory.layer_names(make, {"width": 3})
    assert torch.equal(torch.random.get_rng_state(), before)


def make(shape, classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width), nn.Linear(width, classes))


def test_a_factory_gets_shape_classes_and_arguments():
    options = {"factory": f"{__name__}:make", "arguments": {"width": 3}}
    model = build.build("mine", options, (2, 3, 4), 5, seed=0)
    assert (model[1].in_features, model[1].out_features, model[2].out_features) == (24, 3, 5)
    assert torch.equal(model[1].weight, build.build("mine", options, (2, 3, 4), 5, seed=0)[1].weight)
    assert factory.layer_names(factory.function(options["factory"]), options["arguments"]) == ["1", "2"]


def test_the_names_that_the_configuration_knows():
    assert set(networks()) == {"fc", "conv", *TODAYS}
    assert module("vit") == "training.networks.vit"
    assert module("mine") == "training.networks.factory"


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_layers_told_without_torch_are_those_of_the_network(name):
    own = {key: value for key, value in OPTIONS[name].items() if key not in Architecture.model_fields}
    assert networks()[name].layers(own) == factory.layer_names(networks()[name].build, own)


@pytest.mark.parametrize("name", TODAYS)
def test_todays_networks_take_grey_and_coloured_images_of_any_size(name):
    shown = []
    for shape in ((1, 8, 8), (3, 40, 36)):
        model = build.build(name, OPTIONS[name], shape, 7, seed=0).eval()
        shown.append(model(torch.rand(2, *shape)))
    assert [outputs.shape for outputs in shown] == [(2, 7)] * 2
    layers = factory.layer_names(networks()[name].build, {})
    assert OPTIONS[name]["figure_layer"] in layers
    assert "network" not in layers  # the name of all layers together


def test_a_grey_image_is_seen_as_the_same_in_three_channels():
    grey = torch.rand(2, 1, 8, 8)
    model = build.build("vit", OPTIONS["vit"], (1, 8, 8), 7, seed=0).eval()
    torch.testing.assert_close(model(grey), model(grey.expand(-1, 3, -1, -1)))


def test_images_of_two_channels_are_refused():
    with pytest.raises(UnsupportedModelError, match="vit: images of 1 or 3 channels expected, found 2"):
        build.build("vit", OPTIONS["vit"], (2, 8, 8), 7, seed=0)


def test_the_vision_transformer_is_as_small_as_it_says():
    model = build.build("vit", OPTIONS["vit"], (3, 32, 32), 10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(0.14e6, rel=0.05)
