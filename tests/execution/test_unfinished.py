"""A job that was killed goes on from the checkpoints that it had measured, and gives the same bits."""

from dataclasses import replace
from pathlib import Path

import pytest

from fishertail.errors import StorageError
from fishertail.execution import steps, unfinished
from fishertail.execution.unfinished import Unfinished
from fishertail.measurements.measurement import measurements
from fishertail.results import storage
from tests.execution.small_run import Files, job, options, outputs

ALL = [0, 1, 2, 4]  # the steps of the first block
SAVED = ".spectrum.unfinished"


class Killed(Exception):
    """Ends a measurement as SIGKILL would."""


class Spectrum:
    """The job that measures the spectrum of the first block."""

    def __init__(self, run: Files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.measured = folder, []
        self.files = {"dataset": run.data, "checkpoints": run.checkpoints[0]}
        self.files |= {"norms": str(run.place / "block0/norms.parquet")}
        self.until: int | None = None
        own = measurements()["spectrum"]

        def measure(at, given):
            if at.step == self.until:
                raise Killed
            self.measured.append(at.step)
            return own.measure(at, given)

        monkeypatch.setattr(steps, "measurements", lambda: measurements() | {"spectrum": replace(own, measure=measure)})

    def run(self, *, until: int | None = None, **changes) -> list[int]:
        """The steps that are measured before the job ends, or is killed at `until`."""
        self.until, self.measured = until, []
        parameters = options("spectrum") | {"checkpoints": {"epochs": (0, 1, 2), "octaves": True}, "code": "one"}
        try:
            steps.measure_block(job(epochs=[0, 1, 2], **parameters | changes), self.files, self.outputs)
        except Killed:
            assert not any(Path(path).exists() for path in self.outputs.values())
        return self.measured

    @property
    def outputs(self) -> dict[str, str]:
        return outputs("spectrum", self.folder)

    @property
    def bytes(self) -> dict[str, bytes]:
        return {name: Path(path).read_bytes() for name, path in self.outputs.items()}

    @property
    def saved(self) -> list[str]:
        return sorted(path.name for path in (self.folder / SAVED).glob("*"))


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory) -> Files:
    return Files.new(tmp_path_factory.mktemp("run"), digits)


@pytest.fixture
def spectrum(run, tmp_path, monkeypatch) -> Spectrum:
    monkeypatch.setattr(unfinished, "INTERVAL", 0.0)
    return Spectrum(run, tmp_path, monkeypatch)


def test_it_goes_on_where_it_was_and_gives_the_same_bits(spectrum, capsys):
    assert spectrum.run() == ALL
    undisturbed = spectrum.bytes
    for path in spectrum.outputs.values():
        Path(path).unlink()
    assert spectrum.run(until=1) == [0]
    assert spectrum.run(until=4) == [1, 2]
    assert len(spectrum.saved) == 3 * len(spectrum.outputs)
    assert spectrum.run() == [4]
    assert "3 of 4 checkpoints are already measured" in capsys.readouterr().out
    assert spectrum.bytes == undisturbed
    assert not (spectrum.folder / SAVED).exists()


def test_a_kill_before_the_outputs_are_written_loses_nothing(spectrum, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(steps, "_write", lambda *_: (_ for _ in ()).throw(Killed))
        assert spectrum.run() == ALL
    assert spectrum.run() == []
    assert storage.read_table(spectrum.outputs["spectrum"])["step"].unique().tolist() == ALL


@pytest.mark.parametrize(
    "changes", [{"code": "two"}, {"options": options("spectrum")["options"] | {"tolerance": 1e-3}}]
)
def test_what_was_measured_otherwise_is_measured_again(spectrum, changes):
    spectrum.run(until=4)
    assert spectrum.run(**changes) == ALL


def test_another_choice_of_checkpoints_keeps_what_is_measured(spectrum):
    spectrum.run(until=4)
    assert spectrum.run(checkpoints={"epochs": (0, 2), "octaves": False}) == [4]


def test_a_checkpoint_of_other_weights_or_norms_is_measured_again(spectrum, run, tmp_path):
    spectrum.run(until=4)
    norms = storage.read_table(spectrum.files["norms"])
    norms.loc[norms["step"] == 1, "network"] *= 1.001
    spectrum.files["norms"] = str(tmp_path / "norms.parquet")
    storage.write_table(norms, spectrum.files["norms"], storage.read_provenance(run.place / "block0/norms.parquet"))
    weights = storage.read_tensors(run.checkpoints[0])
    name = next(name for name in weights if name.startswith("step00000002/"))
    weights[name] = weights[name] * 1.001
    spectrum.files["checkpoints"] = str(tmp_path / "checkpoints.safetensors")
    storage.write_tensors(weights, spectrum.files["checkpoints"], storage.read_provenance(run.checkpoints[0]))
    assert spectrum.run() == [1, 2, 4]


@pytest.mark.parametrize("name", ["spectrum.parquet", "projections.parquet", "eigenvectors.safetensors"])
def test_a_checkpoint_with_a_broken_or_missing_file_is_measured_again(spectrum, name):
    spectrum.run(until=4)
    path = spectrum.folder / SAVED / f"step00000001.{name}"
    path.write_bytes(path.read_bytes()[:-20])
    (spectrum.folder / SAVED / f"step00000002.{name}").unlink()
    assert spectrum.run() == [1, 2, 4]


def test_a_disk_that_is_full_meanwhile_ends_nothing(spectrum, monkeypatch, capsys):
    def full(*_):
        raise StorageError("projections: cannot write: No space left on device")

    monkeypatch.setattr(Unfinished, "_write", full)
    assert spectrum.run() == ALL
    assert "not saved before the job's end: projections: cannot write: No space left" in capsys.readouterr().out
    assert storage.read_table(spectrum.outputs["spectrum"])["step"].unique().tolist() == ALL


def test_quick_jobs_save_nothing_on_the_way(run, tmp_path, monkeypatch):
    spectrum = Spectrum(run, tmp_path, monkeypatch)
    assert spectrum.run(until=4) == [0, 1, 2]
    assert spectrum.saved == []
    assert spectrum.run() == ALL
