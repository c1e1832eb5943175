"""A training job that was killed goes on after the last epoch that it had saved, and gives the same bits."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fishertail.data import dataset
from fishertail.errors import StorageError
from fishertail.execution import steps, unfinished
from fishertail.grid import config
from fishertail.results import storage
from fishertail.training import checkpoints, sgd
from tests.execution.small_run import job

EPOCHS = list(range(7))
ARCHITECTURES = {
    "fc": {"hidden_widths": [8] * 4},
    "mine": {"factory": "my_network:make", "learning_rate": 0.05, "figure_layer": "network"},
}
_COUNTING = """
from torch import nn
class Counting(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.calls, self.head = 0, nn.Linear(64, classes)
    def forward(self, x):
        self.calls += self.training
        return self.head(x.flatten(1)) * (1 + self.calls / 10)
def make(shape, classes):
    return Counting(classes)
"""


class Killed(Exception):
    """Ends a training as SIGKILL would."""


class Training:
    """The jobs that train a run on 120 of the digits."""

    def __init__(self, folder: Path, digits: dataset.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.files = folder, {"dataset": str(folder / "digits.safetensors"), "previous": []}
        small = replace(digits, train_images=digits.train_images[:120], train_labels=digits.train_labels[:120])
        dataset.write(small, self.files["dataset"], {"data": [small.content_hash]})
        self.outputs = {"checkpoints": str(folder / "checkpoints.safetensors"), "metrics": str(folder / "metrics.csv")}
        self.until: int | None = None
        self.trained: list[int] = []
        own = sgd.train_epoch

        def train_epoch(*arguments, epoch, **options):
            if epoch == self.until:
                raise Killed
            self.trained.append(epoch)
            own(*arguments, epoch=epoch, **options)

        monkeypatch.setattr(sgd, "train_epoch", train_epoch)
        monkeypatch.setattr(unfinished, "INTERVAL", 0.0)

    def run(self, epochs=EPOCHS, *, until: int | None = None, model: str = "fc", **changes) -> list[int]:
        """The epochs that are trained before the job ends, or is killed in epoch `until`."""
        self.until, self.trained = until, []
        grid = config.complete()(
            datasets=["digits"], models=[model], batch_sizes=[50], seeds=[0], architectures=ARCHITECTURES
        )
        parameters = {"run": grid.parameters_of(grid.runs[0]), "epochs": epochs, "octaves": epochs[0] == 0}
        try:
            steps.train(job(**parameters | {"code": "one"} | changes), self.files, self.outputs)
        except Killed:
            assert not any(Path(path).exists() for path in self.outputs.values())
        return self.trained

    def take(self) -> dict[str, bytes]:
        """The files that the job wrote, which are removed."""
        found = {name: Path(path).read_bytes() for name, path in self.outputs.items()}
        for path in self.outputs.values():
            Path(path).unlink()
        return found

    @property
    def saved(self) -> Path:
        return self.folder / ".train.unfinished"


@pytest.fixture
def training(tmp_path, digits, monkeypatch) -> Training:
    return Training(tmp_path, digits, monkeypatch)


@pytest.mark.parametrize("model", ["fc", pytest.param("googlenet", marks=pytest.mark.slow)])
def test_it_goes_on_after_the_last_epoch_and_gives_the_same_bits(training, capsys, model):
    assert training.run(model=model) == EPOCHS[1:]
    undisturbed = training.take()
    assert not training.saved.exists()
    assert training.run(until=2, model=model) == [1]
    assert training.run(until=6, model=model) == [2, 3, 4, 5]
    assert training.run(model=model) == [6]
    assert "6 of 7 epochs are already trained, by an earlier start of this job" in capsys.readouterr().out
    assert training.take() == undisturbed
    assert not training.saved.exists()


def test_a_kill_inside_an_epoch_goes_back_to_its_start(training):
    training.run()
    undisturbed = training.take()
    training.run(until=3)
    (training.saved / "step00000006.checkpoints.safetensors").unlink()  # the end of epoch 2, in which step 4 was saved
    assert training.run() == EPOCHS[2:]
    assert training.take() == undisturbed


def test_a_kill_before_the_first_epoch_has_ended_starts_over(training):
    training.run()
    undisturbed = training.take()
    assert training.run(until=1) == []
    assert {path.name.split(".")[0] for path in training.saved.iterdir()} == {"step00000000"}
    assert training.run() == EPOCHS[1:]
    assert training.take() == undisturbed


def test_a_kill_before_the_outputs_are_written_loses_nothing(training, monkeypatch):
    training.run()
    undisturbed = training.take()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_table", failing_for(training.outputs["metrics"], storage.write_table))
        assert training.run() == EPOCHS[1:]
    assert training.run() == []
    assert training.take() == undisturbed


def test_a_disk_that_fails_for_a_while_leaves_no_gap(training, monkeypatch, capsys):
    write = storage.write_tensors

    def failing(tensors, path, provenance):
        if Path(path).name.startswith("step00000006") and training.trained == [1, 2]:  # the end of epoch 2
            raise StorageError(f"{path}: cannot write: Input/output error")
        write(tensors, path, provenance)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_tensors", failing)
        training.run(until=5)
    assert "not saved before the job's end: " in capsys.readouterr().out
    assert training.run() == [5, 6]


def failing_for(path, write):
    """`write`, which is killed where it is to write `path`."""

    def written(frame, at, provenance):
        if str(at) == path:
            raise Killed
        write(frame, at, provenance)

    return written


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-20])])
@pytest.mark.parametrize("name", ["metrics.parquet", "checkpoints.safetensors"])
def test_training_goes_on_before_a_broken_or_missing_file(training, name, spoil):
    training.run()
    undisturbed = training.take()
    training.run(until=6)
    spoil(training.saved / f"step00000012.{name}")  # the end of epoch 4
    assert training.run() == [4, 5, 6]
    assert training.take() == undisturbed


def test_other_code_or_another_start_trains_again(training):
    training.run([0, 1, 2])
    last = training.folder / "last.safetensors"
    Path(training.outputs["checkpoints"]).rename(last)
    training.files["previous"] = [str(last)]
    training.outputs = {
        name: path.replace(str(training.folder), f"{training.folder}/b") for name, path in training.outputs.items()
    }
    assert training.run([3, 4, 5], until=5) == [3, 4]
    assert training.run([3, 4, 5], until=5, code="two") == [3, 4]
    tensors = storage.read_tensors(last)
    state = {name: tensor * 1.001 for name, tensor in checkpoints.read_last(str(last))[1].items()}
    storage.write_tensors(tensors | checkpoints.named({6: state}), last, storage.read_provenance(last))
    assert training.run([3, 4, 5], code="two") == [3, 4, 5]


@pytest.fixture
def own_network(tmp_path, monkeypatch):
    """Writes the file of a factory, of which nothing is imported yet."""
    monkeypatch.syspath_prepend(tmp_path / "own")
    (tmp_path / "own").mkdir()

    def write(text: str) -> None:
        (tmp_path / "own/my_network.py").write_text(text)
        shutil.rmtree(tmp_path / "own/__pycache__", ignore_errors=True)
        sys.modules.pop("my_network", None)

    yield write
    sys.modules.pop("my_network", None)


def test_an_edited_factory_trains_again(training, own_network):
    own_network(_COUNTING)
    training.run(model="mine", until=4)
    own_network(_COUNTING.replace("/ 10", "/ 20"))
    assert training.run(model="mine") == EPOCHS[1:]


def test_a_network_that_holds_more_than_its_weights_gives_the_same_bits(training, own_network):
    own_network(_COUNTING)
    training.run(model="mine")
    undisturbed = training.take()
    training.run(model="mine", until=4)
    assert training.run(model="mine") == [4, 5, 6]
    assert training.take() == undisturbed


_ELSEWHERE = """
import torch
from torch import nn
class Elsewhere(torch.Tensor):
    def cpu(self):
        return self.as_subclass(torch.Tensor)
    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
class Network(nn.Linear):
    def state_dict(self, *arguments, **options):
        own = super().state_dict(*arguments, **options)
        return {name: tensor.as_subclass(Elsewhere) for name, tensor in own.items()}
    def forward(self, x):
        return super().forward(x.flatten(1))
def make(shape, classes):
    return Network(64, classes)
"""


def test_a_factory_may_put_its_network_on_a_gpu(training, own_network):
    own_network(_ELSEWHERE)  # a tensor that behaves as one on a GPU
    assert training.run(model="mine", until=4) == [1, 2, 3]
    assert training.run(model="mine") == [4, 5, 6]


def test_a_longer_block_in_the_same_folder_keeps_what_is_trained(training):
    training.run([0, 1, 2, 3], until=3)
    assert training.run([0, 1, 2, 3, 4]) == [3, 4]


def test_quick_jobs_save_nothing_on_the_way(training, monkeypatch):
    monkeypatch.setattr(unfinished, "INTERVAL", 30.0)
    training.run(until=6)
    assert not training.saved.exists()
    assert training.run() == EPOCHS[1:]
