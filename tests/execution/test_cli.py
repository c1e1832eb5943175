"""The command `fishertail`: what it measures is what a call gives, it goes on, follows, and errs in a sentence."""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tomllib
import types

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fishertail
from fishertail.errors import StorageError
from fishertail.execution.chosen import FAILURES
from fishertail.execution.command_line import cli, measure_checkpoints
from tests.workflow.project import ROOT

STEPS = [0, 10, 200]
FACTORY = """
import torch
from torch import nn


def net(width=5, slope=0):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def other_net():
    return net()


def images():
    return torch.randn(23, 6, generator=torch.Generator().manual_seed(0))


def data():
    return torch.utils.data.TensorDataset(images(), torch.arange(23) % 3)


def misfit():
    return nn.Linear(4, 1)(torch.ones(2, 6))


def narrow():
    return images()[:, :4], torch.arange(23) % 3


def failing():
    raise RuntimeError("no such weights")


def squares(outputs, label):
    return (outputs - label).square().mean()


class Heads(nn.Sequential):
    def forward(self, inputs):
        return {"all": super().forward(inputs), "first": None}


class Fussy(nn.Sequential):
    def forward(self, inputs):
        if self[0].weight.isnan().any():
            raise RuntimeError("no such weights")
        return super().forward(inputs)


def fussy():
    return Fussy(*net())


def heads():
    return Heads(*net())


VALUE = 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with a user's module, checkpoints of three kinds and a data file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "user_net", raising=False)
    (tmp_path / "user_net.py").write_text(FACTORY)
    (tmp_path / "broken.py").write_text("import torch\ndef net(:\n    pass\n")
    (tmp_path / "raising.py").write_text("def width(of):\n    raise ValueError(f'no such width: {of}')\n\nwidth(3)\n")
    (tmp_path / "ending.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "kept").mkdir()
    weights = {step: state(step) for step in STEPS}
    torch.save(weights[0], "kept/first0.pt")
    lightning = {f"model.{name}": tensor for name, tensor in weights[10].items()}
    torch.save({"state_dict": lightning, "global_step": 10, "epoch": 0}, "kept/epoch=0.ckpt")
    save_file(weights[200], "kept/200.safetensors")
    images, labels = samples()
    np.savez("train.npz", images=images.numpy(), labels=labels.numpy())
    yield tmp_path
    sys.modules.pop("user_net", None)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def state(step: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(step)
    return network().state_dict()


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(23, 6, generator=torch.Generator().manual_seed(0)), torch.arange(23) % 3


def measure(*options: str, data: str = "train.npz", factory: str = "user_net:net") -> int:
    return cli.main(
        ["measure", factory, "--checkpoints", "kept", "--data", data, "--out", "out", "--device", "cpu", *options]
    )


def test_measured_is_what_a_call_gives(project, capsys):
    assert measure("--steps-per-epoch", "8", "--threshold", "3") == 0
    truth = fishertail.analyse_run(
        network(), {s: state(s) for s in STEPS}, *samples(), steps_per_epoch=8, threshold=3, device="cpu"
    )
    found = fishertail.RunAnalysis.load("out")
    for name in ("norms", "spectrum", "outliers"):
        pd.testing.assert_frame_equal(found.tables[name], truth.tables[name], check_dtype=False, rtol=1e-5)
    assert found.eigenvectors.keys() == truth.eigenvectors.keys()
    printed = capsys.readouterr()
    assert "3 checkpoints, steps 0 (first0.pt) to 200 (200.safetensors)" in printed.out
    assert "the prefix model. was taken off the names of weights in 1 of them" in printed.out
    largest = truth.spectrum.query("step == 200 and layer == 'network'")["eigenvalue"].item()
    (row,) = [line for line in printed.out.splitlines() if line.split()[:1] == ["200"]]
    assert f"{largest:.4g}" in row.split()


def test_the_validation_loss_and_accuracy_are_those_of_torch(project, capsys):
    images, labels = torch.randn(300, 6), torch.arange(300) % 3
    torch.save((images, labels), "validation.pt")
    assert measure("--measurements", "norms", "--validation", "validation.pt") == 0
    found = fishertail.RunAnalysis.load("out").tables["metrics"].set_index("step")
    for step in STEPS:
        model = network()
        model.load_state_dict(state(step))
        outputs = model.double()(images.double())
        assert found["validation_loss"][step] == pytest.approx(
            nn.functional.cross_entropy(outputs, labels).item(), 1e-6
        )
        assert found["validation_accuracy"][step] == (outputs.argmax(1) == labels).double().mean().item()
    assert "validation_loss" in capsys.readouterr().out


def test_it_goes_on_where_it_stopped(project, monkeypatch, capsys):
    read = measure_checkpoints.CheckpointFile.weights

    def interrupted(self):
        if self.step == 200:
            raise KeyboardInterrupt
        return read(self)

    with monkeypatch.context() as patched:
        patched.setattr(measure_checkpoints.CheckpointFile, "weights", interrupted)
        assert measure() == cli.INTERRUPTED
    assert "the same command goes on from here" in capsys.readouterr().err
    assert fishertail.RunAnalysis.load("out").spectrum["step"].unique().tolist() == [0, 10]
    measured = []
    forward = fishertail.execution.chosen.Chosen.of_gradients

    def noted(self, weights, *rest, **options):
        measured.extend(weights)
        return forward(self, weights, *rest, **options)

    monkeypatch.setattr(fishertail.execution.chosen.Chosen, "of_gradients", noted)
    assert measure() == 0
    assert measured == [200]
    assert fishertail.RunAnalysis.load("out").spectrum["step"].unique().tolist() == STEPS


def test_weights_that_were_replaced_are_not_taken_for_the_old(project, capsys):
    assert measure("--measurements", "norms") == 0
    torch.save(state(1), "kept/first0.pt")
    assert measure("--measurements", "norms") == cli.WRONG
    assert "step 0 was measured of other weights than those of kept/first0.pt" in capsys.readouterr().err


def test_other_data_are_refused(project, capsys):
    assert measure("--measurements", "norms") == 0
    images, labels = samples()
    np.savez("train.npz", images=images.numpy() + 1, labels=labels.numpy())
    assert measure("--measurements", "norms") == cli.WRONG
    assert "give another folder" in capsys.readouterr().err


OTHERS = {
    "factory": ([], {"factory": "user_net:other_net"}),
    "kwargs": (["--kwargs", '{"slope": 1}'], {}),
    "learning_rate": (["--learning-rate", "0.1"], {}),
    "validation": (["--validation", "more.npz"], {}),
    "no validation": ([], {}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_model_or_other_options_are_refused(project, capsys, case):
    options, others = OTHERS[case]
    images, labels = samples()
    np.savez("less.npz", images=images[:9].numpy(), labels=labels[:9].numpy())
    np.savez("more.npz", images=images[:10].numpy(), labels=labels[:10].numpy())
    first = ["--measurements", "norms", *(["--validation", "less.npz"] if "validation" in case else [])]
    assert measure(*first) == 0
    assert measure(*first) == 0
    before = (project / "out" / "metrics.csv").read_bytes()
    assert measure("--measurements", "norms", *options, **others) == cli.WRONG
    key = case.removeprefix("no ")
    assert re.search(f"out: a run with {key}.* expected, found .*; give another folder", capsys.readouterr().err)
    assert (project / "out" / "metrics.csv").read_bytes() == before


def test_what_fails_leaves_the_rest_and_says_so(project, monkeypatch, capsys):
    original = measure_checkpoints.CheckpointFile.weights

    def broken(self):
        weights = original(self)
        return {name: t * float("nan") for name, t in weights.items()} if self.step == 10 else weights

    monkeypatch.setattr(measure_checkpoints.CheckpointFile, "weights", broken)
    assert measure(factory="user_net:fussy") == cli.FAILED
    printed = capsys.readouterr()
    assert "out/failures.csv says why" in printed.err
    assert printed.out.count("warning: step 10: ") + printed.err.count("warning: step 10: ") >= 1
    found = fishertail.RunAnalysis.load("out")
    assert set(found.failures["step"]) == {10}
    assert found.spectrum["step"].unique().tolist() == [0, 200]


@pytest.fixture
def limited():
    """Limits the size of files to some bytes, until the test ends."""
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or limits[0], limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


def test_checkpoints_that_cannot_be_written_are_counted(project, monkeypatch, limited, capsys):
    original = measure_checkpoints.CheckpointFile.weights

    def weights(self):
        limited({10: 1000}.get(self.step))  # bytes, less than a table
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(measure_checkpoints.CheckpointFile, "weights", weights)
        assert measure() == cli.FAILED
    printed = capsys.readouterr()
    assert "out: tables of 2 checkpoints" in printed.out
    assert printed.err.splitlines()[-1] == "1 could not be written, steps 10; the same command measures them again"
    assert "could not be measured" not in printed.err
    assert measure() == 0
    assert "out: tables of 3 checkpoints" in capsys.readouterr().out
    found = fishertail.RunAnalysis.load("out")
    assert found.spectrum["step"].unique().tolist() == STEPS
    assert found.failures.empty


def test_where_nothing_can_be_written_nothing_is_shown(project, limited, capsys):
    wide = nn.Sequential(nn.Linear(6, 900), nn.ReLU(), nn.Linear(900, 3))
    torch.save(wide.state_dict(), "wide1.pt")
    limited(20_000)  # bytes, more than the files that describe the run
    given = ["--kwargs", '{"width": 900}', "--checkpoints", "wide1.pt", "--out", "none", "--data", "train.npz"]
    assert cli.main(["measure", "user_net:net", *given, "--device", "cpu"]) == cli.FAILED
    printed = capsys.readouterr()
    assert "1 could not be written, steps 1;" in printed.err
    assert "tables of" not in printed.out


def test_options_reach_the_measurements(project):
    save_file({"0.weight": torch.randn(7, 6), "0.bias": torch.zeros(7), "2.weight": torch.randn(3, 7),
               "2.bias": torch.zeros(3)}, "wide-1.safetensors")  # fmt: skip
    arguments = ["measure", "user_net:net", "--kwargs", '{"width": 7}', "--checkpoints", "wide-1.safetensors"]
    options = ["--layers", "2", "network", "--eigenpairs", "2", "--subset", "9", "--threads", "1", "--device", "cpu"]
    assert cli.main([*arguments, "--data", "user_net:data", *options, "--loss", "user_net:squares"]) == 0
    found = fishertail.RunAnalysis.load("fishertail-run")
    assert found.spectrum["layer"].unique().tolist() == ["2", "network"]
    assert found.spectrum["rank"].max() == 2
    assert len(found.norms) == 9


def test_the_output_that_counts_is_named(project):
    torch.save((torch.randn(9, 6), torch.arange(9) % 3), "validation.pt")
    options = ["--measurements", "norms", "--validation", "validation.pt"]
    assert measure(*options) == 0
    assert measure(*options, "--output", "all", "--out", "heads", factory="user_net:heads") == 0
    for name in ("norms", "metrics"):
        of_head = fishertail.RunAnalysis.load("heads").tables[name]
        pd.testing.assert_frame_equal(of_head, fishertail.RunAnalysis.load("out").tables[name])


WRONG = {
    "factory's form": (
        ["--kwargs", "{}"],
        {"factory": "net"},
        "FACTORY: package.module:function expected, found 'net'",
    ),
    "module": ([], {"factory": "nowhere:net"}, "no module named 'nowhere'"),
    "function": ([], {"factory": "user_net:nothing"}, "has no attribute 'nothing'"),
    "not a function": ([], {"factory": "user_net:VALUE"}, "a function expected, found 'user_net:VALUE', which is int"),
    "no model": ([], {"factory": "user_net:images"}, "gives a torch.nn.Module expected; user_net:images gives Tensor"),
    "it raises": ([], {"factory": "user_net:failing"}, "raised RuntimeError: no such weights (user_net.py, line 31)"),
    "arguments": (["--kwargs", '{"depth": 3}'], {}, "unexpected keyword argument 'depth'"),
    "json": (["--kwargs", "width=3"], {}, "--kwargs: a JSON object expected"),
    "a list": (["--kwargs", "[1]"], {}, "--kwargs: a JSON object expected"),
    "another model": (
        ["--kwargs", '{"width": 4}'],
        {},
        "200.safetensors: 0.weight: shape (4, 6) expected",
    ),
    "measurement": (["--measurements", "curvature"], {}, "measurements: among norms, "),
    "layer": (["--layers", "fc9"], {}, "layers: among 0, 2, network expected, found 'fc9'"),
    "device": (["--device", "abacus"], {}, "abacus"),
    "data that raise": ([], {"data": "user_net:failing"}, "--data: user_net:failing raised RuntimeError"),
    "data of another shape": ([], {"data": "user_net:narrow"}, "mat1 and mat2"),
    "data that are none": ([], {"data": "user_net:net"}, "labels expected; only a Dataset or a DataLoader"),
    "validation": (["--validation", "user_net:narrow"], {}, "--validation: "),
    "no data": ([], {"data": "nowhere.npz"}, "nowhere.npz: no such file"),
    "no memory": (["--memory-budget", "0"], {}, "--memory-budget: a number above 0 expected, found '0'"),
    "no threads": (["--threads", "0"], {}, "--threads: a whole number of 1 or more expected, found '0'"),
    "fewer threads": (["--threads", "-1"], {}, "--threads: a whole number of 1 or more expected, found '-1'"),
    "no eigenpairs": (["--eigenpairs", "0"], {}, "--eigenpairs: a whole number of 1 or more expected, found '0'"),
    "half an eigenpair": (
        ["--eigenpairs", "1.5"],
        {},
        "--eigenpairs: a whole number of 1 or more expected, found '1.5'",
    ),
    "tolerance": (["--tolerance", "2"], {}, "--tolerance: a number above 0 and below 1 expected, found '2'"),
    "threshold": (["--threshold", "nan"], {}, "--threshold: a number above 0 expected, found 'nan'"),
    "seed": (["--seed", "-1"], {}, "--seed: a whole number of 0 or more expected, found '-1'"),
    "steps per epoch": (["--steps-per-epoch", "0"], {}, "--steps-per-epoch: a number above 0 expected, found '0'"),
    "unknown option": (["--eigenpair-s", "1"], {}, "unrecognized arguments: --eigenpair-s 1"),
    "labels of a function": (
        ["--labels", "train.npz"],
        {"data": "user_net:data"},
        "--labels: none expected beside the function user_net:data of --data",
    ),
    "a syntax error": ([], {"factory": "broken:net"}, "importing broken raised SyntaxError: "),
    "where it is": ([], {"factory": "broken:net"}, "(broken.py, line 2)"),
    "an import that raises": (
        [],
        {"factory": "raising:net"},
        "importing raising raised ValueError: no such width: 3 (raising.py, line 2)",
    ),
    "an import that ends": ([], {"factory": "ending:net"}, "importing ending raised SystemExit: 3 (ending.py, line 1)"),
    "where torch raises": (
        [],
        {"factory": "user_net:misfit"},
        "(2x6 and 4x1) (user_net.py, line 23)",
    ),
    "kind of data": ([], {"data": "user_net.py"}, "a file that ends in .npz, .npy, .pt, .pth, .safetensors expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_sentence_says_what_is_wrong(project, capsys, case):
    options, others, message = WRONG[case]
    assert measure(*options, **others) == cli.WRONG
    printed = capsys.readouterr().err
    assert printed.startswith("fishertail: error: ")
    assert message in printed
    assert printed.count("\n") == 1
    assert not (project / "out" / "norms.parquet").exists()


@pytest.fixture
def of_folder(monkeypatch):
    """Stands in for the module that renders, and notes its calls."""
    module = types.ModuleType("fishertail.page.of_folder")
    module.calls = []
    module.write = lambda folder, path: module.calls.append((str(folder), str(path)))
    monkeypatch.setitem(sys.modules, "fishertail.page.of_folder", module)
    monkeypatch.setattr("fishertail.page.of_folder", module, raising=False)
    return module


def test_a_page_is_written_into_the_folder_or_elsewhere(of_folder, capsys):
    assert cli.main(["page", "measured"]) == 0
    assert cli.main(["page", "measured", "--out", "here.html"]) == 0
    assert of_folder.calls == [("measured", "measured/page.html"), ("measured", "here.html")]
    assert capsys.readouterr().out.split() == ["measured/page.html", "here.html"]


def test_a_followed_page_is_renewed_when_a_table_changes(of_folder, tmp_path, monkeypatch, capsys):
    """Each time that the command sleeps, something happens in the folder; at last Ctrl-C."""
    table, events = tmp_path / "spectrum.csv", []

    def sleep(seconds):
        events.append(seconds)
        if len(events) == 2:
            table.write_text("a")
        elif len(events) == 4:
            (tmp_path / "page.html").write_text("not a table")
        elif len(events) == 5:
            os.utime(table, (1, 1))
        elif len(events) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", sleep)
    assert cli.main(["page", str(tmp_path), "--follow", "--every", "0.5"]) == 0
    assert len(of_folder.calls) == 3  # at first, after the table was written, and after it changed
    assert set(events) == {0.5}


@pytest.mark.parametrize("seconds", ["-1", "0", "soon"])
def test_a_followed_page_is_looked_at_after_some_time(of_folder, monkeypatch, seconds, capsys):
    monkeypatch.setattr(cli.time, "sleep", lambda _: pytest.fail("followed"))
    assert cli.main(["page", "measured", "--follow", "--every", seconds]) == cli.WRONG
    assert capsys.readouterr().err == f"fishertail: error: --every: a number above 0 expected, found '{seconds}'\n"
    assert not of_folder.calls


def test_a_followed_folder_may_be_empty_at_first(of_folder, tmp_path, monkeypatch, capsys):
    tries = []

    def write(folder, path):
        tries.append(path)
        if len(tries) < 3:
            raise StorageError("tables of a run expected")

    def sleep(seconds):
        (tmp_path / f"{len(tries)}.csv").touch()
        if len(tries) == 3:
            raise KeyboardInterrupt

    of_folder.write = write
    monkeypatch.setattr(cli.time, "sleep", sleep)
    assert cli.main(["page", str(tmp_path), "--follow"]) == 0
    assert capsys.readouterr().err.count("waiting: tables of a run expected") == 1


def test_the_help_teaches(capsys):
    for command, words in {
        "": ["empirical Fisher matrix", "labels of the data", "true_fisher", "hessian"],
        "measure": ["--checkpoints runs/7", "trimmed_eigenvalues", "for 50,000 samples", "exit code"],
        "page": ["--follow"],
    }.items():
        with pytest.raises(SystemExit) as end:
            cli.main([*command.split(), "--help"])
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words)
        assert max(map(len, printed.splitlines())) <= 110


def test_the_command_is_what_the_package_installs():
    with open(ROOT / "pyproject.toml", "rb") as file:
        module, _, name = tomllib.load(file)["project"]["scripts"]["fishertail"].partition(":")
    assert getattr(importlib.import_module(module), name) is cli.main


@pytest.mark.slow
def test_as_a_program(project):
    """In a process of its own: exit codes, no traceback, and tables that name what they came from."""
    command = [
        sys.executable,
        "-c",
        "from fishertail.execution.command_line.cli import main; raise SystemExit(main())",
        "measure",
    ]
    common = ["user_net:net", "--data", "train.npz", "--checkpoints", "kept", "--threads", "1", "--device", "cpu"]
    done = subprocess.run([*command, *common], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stderr
    assert json.loads((project / "fishertail-run" / "checkpoints.json").read_text())["10"]["file"] == "epoch=0.ckpt"
    assert '"measurements"' in (project / "fishertail-run" / "spectrum.csv").read_text().splitlines()[0]
    wrong = subprocess.run([*command, *common, "--layers", "x"], capture_output=True, text=True, timeout=300)
    assert wrong.returncode == cli.WRONG
    assert "Traceback" not in wrong.stderr
    assert FAILURES.name not in [path.stem for path in (project / "fishertail-run").iterdir()]
