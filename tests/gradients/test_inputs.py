"""Losses, targets, containers, precisions and contexts that people have; and what a user is told where one is wrong."""

import copy
import re
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import fishertail
from fishertail.errors import UnsupportedModelError
from fishertail.gradients.matrix import GradientMatrix
from tests.gradients.parts import SAMPLES, Lambda, flat, pictures, sequences, tokens


def mlp(outputs: int = 5) -> nn.Module:
    return flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, outputs))


def segmenter() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 4, 1))


def language_model() -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 12), nn.Tanh(), nn.Linear(12, 50, bias=False))


def classes_second() -> nn.Module:
    return Lambda(lambda m, x: m.model(x).transpose(1, 2), model=language_model())


def words(ignored: bool = False) -> torch.Tensor:
    labels = torch.randint(50, (SAMPLES, 10))
    if ignored:
        labels[:, 7:], labels[4] = -100, -100
    return labels


def by_position(outputs, targets):
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def over_counted(outputs, targets):
    """The mean over the positions that count, 0 where none does."""
    total = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="sum")
    return total / max(1, int((targets != -100).sum()))


def some_ignored() -> torch.Tensor:
    labels = torch.arange(SAMPLES) % 5
    labels[3] = -100
    return labels


WEIGHTS = torch.tensor([1.0, 2, 3, 4, 5])
CE = nn.CrossEntropyLoss
LOSSES = {  # model, inputs, targets, loss, the same in float64 where that is another function
    "squared error": (lambda: mlp(1), sequences, lambda: torch.randn(SAMPLES, 1), nn.MSELoss(), None),
    "outputs (N,)": (
        lambda: nn.Sequential(mlp(1), nn.Flatten(0)), sequences, lambda: torch.randn(SAMPLES), nn.MSELoss(), None
    ),
    "several outputs": (lambda: mlp(7), sequences, lambda: torch.randn(SAMPLES, 7), nn.MSELoss(), None),
    "Huber": (lambda: mlp(1), sequences, lambda: torch.randn(SAMPLES, 1), nn.HuberLoss(), None),
    "binary cross entropy": (lambda: mlp(1), sequences, lambda: torch.ones(SAMPLES, 1), nn.BCEWithLogitsLoss(), None),
    "label smoothing": (mlp, sequences, lambda: torch.arange(SAMPLES) % 5, CE(label_smoothing=0.1), None),
    "class weights": (
        mlp, sequences, lambda: torch.arange(SAMPLES) % 5, CE(weight=WEIGHTS, reduction="sum"),
        lambda z, y: F.cross_entropy(z, y, weight=WEIGHTS.to(z), reduction="sum"),
    ),
    "probabilities": (mlp, sequences, lambda: torch.rand(SAMPLES, 5).softmax(1), CE(), None),
    "probabilities by default": (mlp, sequences, lambda: torch.rand(SAMPLES, 5).softmax(1), None, F.cross_entropy),
    "one-hot": (mlp, sequences, lambda: torch.eye(5)[torch.arange(SAMPLES) % 5], CE(), None),
    "an ignored label": (mlp, sequences, some_ignored, CE(), lambda z, y: F.cross_entropy(z, y, reduction="sum")),
    "another ignored label": (
        mlp, sequences, lambda: torch.arange(SAMPLES) % 5, CE(ignore_index=2),
        lambda z, y: F.cross_entropy(z, y, ignore_index=2, reduction="sum"),
    ),
    "int32": (
        mlp, sequences, lambda: (torch.arange(SAMPLES) % 5).int(), None, lambda z, y: F.cross_entropy(z, y.long())
    ),
    "uint8, in which -100 would be 156": (
        lambda: mlp(200), sequences, lambda: torch.tensor([156, 3, 199] * SAMPLES)[:SAMPLES].to(torch.uint8), None,
        lambda z, y: F.cross_entropy(z, y.long()),
    ),
    "uint8 by position": (
        lambda: nn.Sequential(nn.Conv2d(8, 200, 3, padding=1)), pictures,
        lambda: torch.randint(150, 160, (SAMPLES, 7, 6), dtype=torch.uint8), CE(),
        lambda z, y: F.cross_entropy(z, y.long()),
    ),
    "log-likelihood": (
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)), sequences, lambda: torch.arange(SAMPLES) % 5, nn.NLLLoss(), None
    ),
    "segmentation": (segmenter, pictures, lambda: torch.randint(4, (SAMPLES, 7, 6)), CE(), None),
    "segmentation by default": (segmenter, pictures, lambda: torch.randint(4, (SAMPLES, 7, 6)), None, F.cross_entropy),
    "segmentation, summed": (segmenter, pictures, lambda: torch.randint(4, (SAMPLES, 7, 6)), CE(reduction="sum"), None),
    "segmentation by probabilities": (
        segmenter, pictures, lambda: torch.rand(SAMPLES, 4, 7, 6).softmax(1), CE(), None
    ),
    "language model by default": (language_model, tokens, words, None, by_position),
    "language model": (language_model, tokens, words, by_position, None),
    "language model, classes second": (classes_second, tokens, words, CE(), None),
    "padded language model": (language_model, tokens, lambda: words(True), None, over_counted),
    "boolean mask": (
        language_model, tokens, lambda: words(True),
        lambda z, y: F.cross_entropy(z[y >= 0], y[y >= 0], reduction="sum"), None,
    ),
    "a number of Python": (
        lambda: mlp(1), sequences, lambda: torch.randn(SAMPLES, 1),
        lambda z, y: (z - y).square().mean() * (1 if y.sum().item() > 0 else 2), None,
    ),
    "focal": (
        mlp, sequences, lambda: torch.arange(SAMPLES) % 5,
        lambda z, y: ((1 - z.softmax(1)[0, y]) ** 2 * F.cross_entropy(z, y)).sum(), None,
    ),
    "several margins": (mlp, sequences, lambda: torch.arange(SAMPLES) % 5, nn.MultiMarginLoss(), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_losses_and_targets_are_exact(case):
    torch.manual_seed(0)
    make, data, labels, loss, exact = LOSSES[case]
    model, inputs, targets = make().eval(), data()[0], labels()
    double = copy.deepcopy(model).double()
    rows, losses = [], []
    for x, y in zip(inputs, targets, strict=True):
        x, y = (t.double() if t.is_floating_point() else t for t in (x, y))
        value = (exact or loss)(double(x[None]), y[None])
        losses.append(float(value))
        gradients = torch.autograd.grad(value, list(double.parameters()), allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients]).numpy())
    rows = np.stack(rows)
    expected = np.linalg.norm(rows, axis=1)
    norms = fishertail.gradient_norms(model, inputs, targets, loss=loss, batch_size=4)
    np.testing.assert_allclose(norms.network, expected, rtol=1e-5, atol=1e-6 * expected.max())
    np.testing.assert_allclose(norms.loss, losses, rtol=1e-5, atol=1e-6)
    pairs = fishertail.fisher_eigenpairs(model, inputs, targets, loss=loss, layers=["network"])["network"]
    assert pairs.eigenvalues[0] == pytest.approx(np.linalg.eigvalsh(rows @ rows.T / SAMPLES)[-1], rel=1e-4)


class Named(nn.Module):
    """Takes and gives things by name, as transformers do."""

    def __init__(self, form=dict):
        super().__init__()
        self.table, self.head, self.form = nn.Embedding(50, 12), nn.Linear(12, 5), form

    def forward(self, input_ids, attention_mask):
        logits = self.head((self.table(input_ids) * attention_mask[..., None]).mean(1))
        return self.form(logits=logits, hidden=input_ids)


class Outputs:
    """An object with attributes."""

    def __init__(self, logits, hidden):
        self.logits, self.hidden = logits, hidden


class Records(Dataset):
    """Samples as mappings."""

    def __init__(self, inputs, mask, labels):
        self.parts = {"input_ids": inputs, "attention_mask": mask, "labels": labels}

    def __len__(self):
        return len(self.parts["labels"])

    def __getitem__(self, i):
        return {name: part[i] for name, part in self.parts.items()}


def test_every_kind_of_data_gives_the_same():
    torch.manual_seed(0)
    model, (inputs, labels) = mlp(), sequences()
    reference = fishertail.gradient_norms(model, inputs, labels)
    dataset = TensorDataset(inputs, labels)
    kinds = {
        "numpy": (inputs.numpy(), labels.numpy()),
        "lists of samples": (list(inputs), list(labels)),
        "one argument in a tuple": ((inputs,), labels),
        "by name": ({"input": inputs}, labels),
        "Dataset": (dataset,),
        "DataLoader": (DataLoader(dataset, 3, shuffle=True),),
        "strided": (inputs.repeat_interleave(2, 0)[::2], labels),
    }
    for kind, data in kinds.items():
        norms = fishertail.gradient_norms(model, *data, batch_size=4)
        np.testing.assert_allclose(norms.per_layer, reference.per_layer, rtol=1e-6, err_msg=kind)
        np.testing.assert_array_equal(norms.correct, reference.correct)


@pytest.mark.parametrize("form", [dict, Outputs])
def test_arguments_and_outputs_by_name(form):
    torch.manual_seed(0)
    inputs, labels = tokens()
    mask = torch.rand(SAMPLES, 10)
    model = Named(form)
    plain = Lambda(lambda m, x, a: m.model(x, a)["logits"], model=Named())
    plain.model.load_state_dict(model.state_dict())
    expected = fishertail.gradient_norms(plain, (inputs, mask), labels).network
    for data in (
        ({"input_ids": inputs, "attention_mask": mask}, labels),
        (Records(inputs, mask, labels),),
        (DataLoader(Records(inputs, mask, labels), 4),),
    ):
        for output in (None, "logits"):
            found = fishertail.gradient_norms(model, *data, output=output).network
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(UnsupportedModelError, match="output: the model's output has no 'scores'; found"):
        fishertail.gradient_norms(model, (inputs, mask), labels, output="scores")


def test_one_of_several_outputs_is_chosen_by_its_place():
    torch.manual_seed(0)
    model, (inputs, labels) = mlp(), sequences()
    pair = Lambda(lambda m, x: (x, m.model(x)), model=model)
    expected = fishertail.gradient_norms(model, inputs, labels).network
    np.testing.assert_allclose(fishertail.gradient_norms(pair, inputs, labels, output=1).network, expected, rtol=1e-6)
    with pytest.raises(UnsupportedModelError, match=r"found tuple of 2: name the output that counts \(output=...\)"):
        fishertail.gradient_norms(pair, inputs, labels)


def test_a_memory_mapped_array_is_read_in_batches(tmp_path):
    samples, width = 40_000, 200
    array = np.memmap(tmp_path / "images.bin", np.float32, "w+", shape=(samples, width))
    array[:] = 1.0
    tracemalloc.start()
    norms = fishertail.gradient_norms(nn.Linear(width, 3), array, np.zeros(samples, dtype=np.int64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (norms.network > 0).all()
    assert peak < array.nbytes / 4


class Augmented(TensorDataset):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return image + torch.randn(()), label


class InWords(TensorDataset):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return image, "abcde"[label]


class Endless(IterableDataset):
    def __iter__(self):
        yield from zip(*sequences(), strict=True)


def refused(model, *data, **options):
    with pytest.raises((ValueError, TypeError)) as error:
        fishertail.gradient_norms(model, *data, **options)
    return str(error.value)


def test_data_that_do_not_do_are_refused_in_a_sentence():
    inputs, labels = sequences()
    dataset = TensorDataset(inputs, labels)
    cases = {
        "found 11 images and 10 labels": (inputs, labels[:10]),
        "images: parts of one length expected, found 10, 11": ((inputs, inputs[:10]), labels),
        "labels expected; only a Dataset or a DataLoader": (inputs,),
        "labels: none expected beside a Dataset": (dataset, labels),
        "Endless: a dataset with a length and an order": (Endless(),),
        "Endless: a dataset with a length": (DataLoader(Endless(), 3),),
        "Augmented: sample 0 differs when it is read again": (Augmented(inputs, labels),),
        "samples: pairs of input and label expected, found list": (TensorDataset(inputs),),
        "images: a tensor or an array with a row for each sample expected, found str": ("images", labels),
        "images: at least one tensor expected, found an empty mapping": ({}, labels),
        "labels: 0 to 4 expected, found 0 to 8": (inputs, torch.where(torch.arange(SAMPLES) == 10, 8, labels)),
        "labels: a tensor of integers expected, found tuple": (InWords(inputs, labels),),
        "labels: one integer per sample expected, (1,) for outputs (1, 5); found torch.int64 of shape (1, 1)": (
            inputs, labels[:, None],
        ),
        "labels: integers expected, found torch.bool": (inputs, labels > 2),
        "labels: integers, or probabilities (1, 5) like the outputs, expected; found torch.float32": (
            inputs, labels.float(),
        ),
        "(torch.float64 (3, 10, 16))": (inputs.double(), labels),
        "its parameters are torch.float32, which the images may have to be, too": ((inputs * 9).byte(), labels),
        "(torch.float32 (3, 9, 16)): mat1 and mat2 shapes cannot be multiplied": (inputs[:, :9], labels),
    }  # fmt: skip
    for sentence, data in cases.items():
        assert sentence in refused(mlp(), *data)
    assert refused(nn.Linear, inputs, labels) == "model: a torch.nn.Module expected, found the class Linear"
    assert refused(None, inputs, labels) == "model: a torch.nn.Module expected, found NoneType"


@pytest.mark.parametrize("wanted", [[], "fc9"])
def test_layers_are_a_list_of_names(wanted):
    expected = f"layers: a list of names among 0, 2, network expected, found {wanted!r}"
    model = nn.Sequential(nn.Linear(16, 4), nn.Flatten(), nn.Linear(40, 5))
    assert refused(model, *sequences(), layers=wanted) == expected
    with pytest.raises(ValueError, match=re.escape(expected)):
        fishertail.fisher_eigenpairs(model, *sequences(), layers=wanted)


def test_a_loss_that_gives_no_tensor_is_named():
    given = "the loss of one sample must be a tensor of one number, found float"
    assert refused(mlp(), *sequences(), loss=lambda outputs, label: outputs.sum().item()) == given
    expected = "loss: a function of the outputs and labels of one sample expected, found 'mse'"
    assert refused(mlp(), *sequences(), loss="mse") == expected


def test_labels_in_an_array_are_checked_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(GradientMatrix, "norms", lambda self: pytest.fail("norms of a batch are computed"))
    inputs, labels = sequences()
    assert refused(mlp(), inputs, labels.numpy() + 5) == f"labels: 0 to 4 expected, found {5 + labels.min()} to 9"
    assert "'wrong'" in refused(mlp(), {"wrong": inputs}, labels)


def test_classes_on_either_axis_must_be_named():
    outputs = Lambda(lambda m, x: m.l(x)[:, :5], l=nn.Linear(16, 5))
    targets = torch.randint(5, (SAMPLES, 5))
    assert "either axis can be that of the classes; pass loss=" in refused(outputs, sequences()[0], targets)
    fishertail.gradient_norms(outputs, sequences()[0], targets, loss=CE())
    assert "labels: one integer per position expected" in refused(language_model(), tokens()[0], words(), loss=CE())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_of_low_precision_are_computed_in_float32(dtype):
    torch.manual_seed(0)
    inputs, labels = pictures()
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).to(
        dtype
    )
    same = copy.deepcopy(model).float()
    found = fishertail.fisher_eigenpairs(model, inputs.to(dtype), labels)["network"]
    expected = fishertail.fisher_eigenpairs(same, inputs.to(dtype).float(), labels)["network"]
    np.testing.assert_array_equal(found.eigenvalues, expected.eigenvalues)
    assert all(parameter.dtype == dtype for parameter in model.parameters())


def test_what_is_set_around_the_call_changes_nothing():
    torch.manual_seed(0)
    model, (inputs, labels) = mlp(), sequences()
    reference = fishertail.fisher_eigenpairs(model, inputs, labels)["network"]
    contexts = {
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
    }
    for name, context in contexts.items():
        with context:
            norms = fishertail.gradient_norms(model, inputs * 1, labels)
            found = fishertail.fisher_eigenpairs(model, inputs * 1, labels)["network"]
            assert torch.is_grad_enabled() == (name == "autocast")
        np.testing.assert_array_equal(found.eigenvalues, reference.eigenvalues)
        assert (norms.network > 0).all()
    with torch.inference_mode():
        made = mlp()
    assert (fishertail.gradient_norms(made, inputs, labels).network > 0).all()


def test_a_layer_with_fewer_parameters_than_pairs_gives_what_it_has():
    torch.manual_seed(0)
    model, (inputs, labels) = flat(nn.Linear(160, 12), nn.PReLU(), nn.Linear(12, 5)), sequences()
    pairs = fishertail.fisher_eigenpairs(model, inputs, labels, k=3)
    assert {name: len(found.eigenvalues) for name, found in pairs.items()} == {"1": 3, "2": 1, "3": 3, "network": 3}
    assert pairs["2"].projections.shape == (SAMPLES, 1)
    np.testing.assert_allclose(pairs["2"].eigenvalues, pairs["2"].trace, rtol=1e-6)


def test_a_layer_without_parameters_of_its_own_is_named():
    model = language_model()
    model[2].weight = model[0].weight
    message = refused(model, tokens()[0], words(), layers=["2"])
    assert message == "layers: the parameters of '2' are those of 0.weight; ask for that layer"


class Scale(nn.Module):
    """A layer of one's own: each feature times a number, squared."""

    def __init__(self, features: int):
        super().__init__()
        self.factor = nn.Parameter(torch.randn(features))

    def forward(self, x):
        return x * self.factor.square()


@pytest.mark.parametrize("right", [True, False])
def test_a_rule_for_a_layer_of_ones_own_is_used_where_it_proves_right(right, monkeypatch):
    from fishertail.gradients.layer_rules.module_rules import MODULE_RULES

    calls = []

    def rule(module, inputs, derivatives):
        calls.append(len(inputs))
        return {"factor": (derivatives * inputs * (2 if right else 3) * module.factor).sum(1)}

    torch.manual_seed(0)
    inputs, labels = sequences()
    model = nn.Sequential(Scale(16), nn.Tanh(), flat(nn.Linear(160, 5)))
    expected = fishertail.gradient_norms(model, inputs, labels).per_layer
    monkeypatch.setitem(MODULE_RULES, Scale, None)  # so that the rule goes again after the test
    fishertail.register_layer_rule(Scale, rule)
    np.testing.assert_allclose(fishertail.gradient_norms(model, inputs, labels).per_layer, expected, rtol=1e-5)
    assert calls
    with GradientMatrix(model, inputs, labels) as matrix:
        assert ("0" in matrix.plan.by_rule) == right
    with pytest.raises(TypeError, match=r"module_type: a subclass of torch.nn.Module expected, found 'Scale'"):
        fishertail.register_layer_rule("Scale", rule)


class Interrupted(nn.Module):
    """Stops at its n-th call, as by Ctrl-C."""

    def __init__(self, calls: int):
        super().__init__()
        self.layer = nn.Linear(160, 5)
        self.counter = [calls]

    def forward(self, x):
        self.counter[0] -= 1
        if self.counter[0] < 0:
            raise KeyboardInterrupt
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("calls", [0, 2, 4, 6])
def test_an_interrupted_call_leaves_the_model_as_it_was(calls):
    model, (inputs, labels) = Interrupted(calls).train(), sequences()
    weight, hooks = model.layer.weight, len(model.layer._forward_hooks)
    with pytest.raises(KeyboardInterrupt):
        fishertail.fisher_eigenpairs(model, inputs, labels, batch_size=2)
    assert model.layer.weight is weight
    assert (len(model.layer._forward_hooks), model.training, weight.grad) == (hooks, True, None)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
