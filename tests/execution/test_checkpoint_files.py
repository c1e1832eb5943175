"""Checkpoint files of each kind: their weights by the model's names, their steps, and what is wrong with them."""

import argparse
import os
import re

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from fishertail.data.operators import declare_torchvision_operators
from fishertail.errors import CheckpointError
from fishertail.execution.checkpoint_files import find
from fishertail.training import checkpoints


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return network().state_dict()


def under(prefix: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def only(path, model=None, **options):
    (found,) = find([path], model or network(), **options)
    return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


WRITERS = {
    "step-40.safetensors": lambda path: save_file(state(), path),
    "run2_40.pt": lambda path: torch.save(state(), path),
    "old40.pth": lambda path: torch.save(state(), path, _use_new_zipfile_serialization=False),
    "inside.pt": lambda path: torch.save({"model": state(), "optimizer": {"lr": 1}, "step": 40}, path),
    "epoch7.pth.tar": lambda path: torch.save({"state_dict": state(), "iteration": torch.tensor(40)}, path),
    "best-3.pt": lambda path: torch.save({"model_state_dict": state(), "global_step": 40}, path),
    "said9.safetensors": lambda path: save_file(state(), path, metadata={"step": "40"}),
    "ddp40.pt": lambda path: torch.save(under("module.", state()), path),
    "compiled40.pt": lambda path: torch.save(under("_orig_mod.", state()), path),
    "both40.pt": lambda path: torch.save(under("module._orig_mod.", state()), path),
    "both-other-way-40.pt": lambda path: torch.save(under("_orig_mod.module.", state()), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_weights_and_step_of_every_kind(tmp_path, name):
    WRITERS[name](tmp_path / name)
    found = only(tmp_path)
    assert found.step == 40
    assert_same(found.weights(), state())


def test_layers_that_were_compiled_one_by_one(tmp_path):
    torch.save({name.replace("2.", "2._orig_mod."): tensor for name, tensor in state().items()}, tmp_path / "5.pt")
    assert_same(only(tmp_path).weights(), state())


def test_a_lightning_checkpoint_loses_its_prefix_and_what_is_not_of_the_model(tmp_path):
    content = {
        "epoch": 3,
        "global_step": 128,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": under("model.", state()) | {"loss.weight": torch.ones(2), "ema.0.weight": torch.ones(3, 4)},
        "loops": {},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(content, tmp_path / "epoch=3-val_loss=0.25.ckpt")
    found = only(tmp_path)
    assert (found.step, found.stripped, found.left_out) == (128, "model.", ("loss.weight", "ema.0.weight"))
    assert_same(found.weights(), state())


@pytest.mark.slow
def test_a_real_lightning_checkpoint(tmp_path):
    declare_torchvision_operators()  # lightning imports torchvision where it is
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self, rate: float = 0.1):
            super().__init__()
            self.save_hyperparameters()
            self.net = network()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

    data = torch.utils.data.TensorDataset(torch.randn(20, 4), torch.arange(20) % 2)
    module = Module()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = only(tmp_path / "last.ckpt")
    assert (found.step, found.stripped) == (6, "net.")
    assert_same(found.weights(), module.net.state_dict())


def test_the_folders_of_hugging_face(tmp_path):
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        save_file(state(step), tmp_path / f"checkpoint-{step}" / "model.safetensors")
        torch.save({"lr": 1}, tmp_path / f"checkpoint-{step}" / "optimizer.pt")
        torch.save({"lr": 1}, tmp_path / f"checkpoint-{step}" / "rng_state_0.pth")
    (tmp_path / "checkpoint-1000" / "model.safetensors").unlink()
    torch.save(state(1000), tmp_path / "checkpoint-1000" / "pytorch_model.bin")
    for places in ([tmp_path], sorted(tmp_path.iterdir())):  # as a glob of checkpoint-* gives them
        found = find(places, network())
        assert [each.step for each in found] == [500, 1000]
        assert_same(found[1].weights(), state(1000))
    save_file(state(1000), tmp_path / "model.safetensors")  # as `save_model` does at the end
    torch.save({"lr": 1}, tmp_path / "training_args.bin")
    assert [each.step for each in find([tmp_path], network())] == [500, 1000]


def test_a_folder_with_files_of_steps_has_them_all(tmp_path):
    (tmp_path / "run7").mkdir()
    torch.save(state(), tmp_path / "run7" / "step5.pt")
    save_file(state(), tmp_path / "run7" / "model.safetensors", metadata={"step": "9"})
    assert [each.step for each in find([tmp_path / "run7"], network())] == [5, 9]


@pytest.mark.slow
def test_a_real_hugging_face_checkpoint(tmp_path):
    """As its Trainer saves one: the head is tied to the embedding, and safetensors keeps one of them."""
    declare_torchvision_operators()
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=4, n_layer=1, n_head=2)
    torch.manual_seed(0)
    trained = transformers.GPT2LMHeadModel(config)
    trained.save_pretrained(tmp_path / "checkpoint-12")
    found = only(tmp_path, transformers.GPT2LMHeadModel(config))
    assert found.step == 12
    assert_same(found.weights(), trained.state_dict())


def test_the_workflows_own_file_has_several_steps(tmp_path):
    checkpoints.write({0: state(0), 59: state(59)}, str(tmp_path / checkpoints.FILE), {})
    save_file({"step00000000/0": torch.ones(1, 4)}, tmp_path / "eigenvectors.safetensors")
    found = find([tmp_path], network())
    assert [each.step for each in found] == [0, 59]
    assert_same(found[1].weights(), state(59))


def test_the_blocks_of_a_run_of_the_workflow(tmp_path):
    for block, step in {"epochs0001-0010": 59, "epochs0011-0020": 118, "landmarks": 118}.items():
        checkpoints.write({step: state(step)}, str(tmp_path / block / checkpoints.FILE), {})
    assert [each.step for each in find([tmp_path], network())] == [59, 118]


def test_tied_weights_of_which_safetensors_keeps_one(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    save_model(model, str(tmp_path / "1.safetensors"))
    assert_same(only(tmp_path, model).weights(), model.state_dict())


def test_epochs_in_names_become_steps(tmp_path):
    for name in ("net-epoch3.pt", "ep_04.pt", "step5.pt"):
        torch.save(state(), tmp_path / name)
    assert [each.step for each in find([tmp_path], network(), steps_per_epoch=90)] == [5, 270, 360]
    with pytest.raises(CheckpointError, match=r"ep_04\.pt: its name has an epoch and no SGD step; --steps-per-epoch"):
        find([tmp_path], network())


def test_steps_come_in_their_order_and_other_files_are_passed_over(tmp_path):
    for step in (1000, 2, 30):
        torch.save(state(step), tmp_path / f"{step}.pt")
    (tmp_path / "log.csv").touch()
    (tmp_path / ".5.pt").touch()
    assert [each.step for each in find([tmp_path], network())] == [2, 30, 1000]


def test_replaced_weights_have_another_hash(tmp_path):
    torch.save(state(), tmp_path / "1.pt")
    before = only(tmp_path).content_hash()
    assert only(tmp_path).content_hash() == before
    torch.save(state(1), tmp_path / "1.pt")
    assert only(tmp_path).content_hash() != before


class Touches:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


FAULTS = {
    "lacks.pt 1": ({k: t for k, t in state().items() if k != "0.bias"}, r"1\.pt: .* it lacks 0\.bias$"),
    "other.pt 1": ({**state(), "9.weight": torch.ones(1)}, r"1\.pt: .* it has 9\.weight$"),
    "both": (under("module.", {"0.weight": torch.ones(3, 4), "x": torch.ones(1)}), r"lacks .* and has module\.x$"),
    "shape": ({**state(), "0.weight": torch.ones(3, 5)}, r"0\.weight: shape \(3, 4\) expected, found \(3, 5\)"),
    "no weights": ({"epoch": 3, "lr": 0.1}, r"below state_dict, .* expected; found epoch, lr"),
    "a list": ([1, 2], "a state dict or a mapping with one expected, found list"),
    "code": ({"model": state(), "args": argparse.Namespace(lr=1)}, r"pickled in it \(argparse\.Namespace\); --trust"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_sentence_names_the_file_and_the_keys(tmp_path, fault):
    content, message = FAULTS[fault]
    torch.save(content, tmp_path / "1.pt")
    with pytest.raises(CheckpointError, match=message) as error:
        find([tmp_path], network())
    assert str(tmp_path / "1.pt") in str(error.value)
    assert "\n" not in str(error.value)


def test_many_keys_are_not_all_listed(tmp_path):
    torch.save({f"layer{i}": torch.ones(1) for i in range(30)}, tmp_path / "1.pt")
    with pytest.raises(CheckpointError, match=r"layer4 and 25 more$"):
        find([tmp_path], network())


def test_pickled_code_runs_only_if_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": state(), "step": 1, "other": Touches()}, "a.pt")
    with pytest.raises(CheckpointError, match="--trust"):
        find(["a.pt"], network())
    assert not (tmp_path / "executed").exists()
    assert only("a.pt", trusted=True).step == 1
    assert (tmp_path / "executed").exists()


def test_steps_that_are_missing_or_repeated(tmp_path):
    torch.save(state(), tmp_path / "final.pt")
    with pytest.raises(CheckpointError, match=r"final\.pt: its SGD step expected"):
        find([tmp_path / "final.pt"], network())
    torch.save({"state_dict": state(), "global_step": 7}, tmp_path / "last.ckpt")
    torch.save(state(), tmp_path / "7.pt")
    with pytest.raises(CheckpointError, match=re.escape(f"last.ckpt: step 7 is also that of {tmp_path}/7.pt")):
        find([tmp_path / "7.pt", tmp_path / "last.ckpt"], network())


def test_broken_and_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such file or folder"):
        find([tmp_path / "nowhere"], network())
    with pytest.raises(CheckpointError, match="no checkpoint in this folder"):
        find([tmp_path], network())
    for name in ("1.pt", "1.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not a file")
        with pytest.raises(CheckpointError, match=f"{name}: not a readable checkpoint"):
            find([tmp_path / name], network())
