"""The record that results carry, and the hash of the code that decides what runs again."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from fishertail import provenance, storage


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that may be edited; the hashes are of the copy."""
    copy = tmp_path / "fishertail"
    shutil.copytree(provenance._PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "_PACKAGE", copy)
    provenance.code_hash.cache_clear()
    yield copy
    provenance.code_hash.cache_clear()


def edit(path: Path, old: str, new: str):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    provenance.code_hash.cache_clear()


def test_comments_docstrings_and_spacing_do_not_count(package):
    before = provenance.code_hash("mad")
    edit(package / "mad.py", '"""Which samples are outliers, and by what."""', '"""Something else."""\n')
    edit(package / "mad.py", "# (N,) bool", "# a mask")
    assert provenance.code_hash("mad") == before


def test_a_number_counts(package):
    before = provenance.code_hash("mad")
    edit(package / "mad.py", "threshold: float = 10", "threshold: float = 11")
    assert provenance.code_hash("mad") != before


def test_what_a_module_imports_counts_and_nothing_else(package):
    before = {name: provenance.code_hash(name) for name in ("gradients", "analysis", "mad")}
    edit(package / "cross_entropy.py", "log_s > 0", "log_s > 1")
    after = {name: provenance.code_hash(name) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["gradients", "analysis"]


def test_a_module_imported_among_others_in_a_line_counts(package):
    before = provenance.code_hash("datasets")
    edit(package / "sources.py", "1437", "1438")
    assert provenance.code_hash("datasets") != before


def test_the_order_of_modules_does_not_count():
    assert provenance.code_hash("models", "mad") == provenance.code_hash("mad", "models")


def test_the_record_holds_parameters_data_and_versions():
    record = provenance.provenance("train", {"seed": 0}, ["b", "a", "b"])
    assert record.keys() == {"rule", "parameters", "data", "versions"}
    assert (record["rule"], record["parameters"], record["data"]) == ("train", {"seed": 0}, ["a", "b"])
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["pandas"] == pd.__version__


def test_the_record_holds_no_times_and_no_absolute_paths():
    record = json.dumps(provenance.provenance("train", {"seed": 0}, ["a"], provenance.machine("cpu", 1)))
    assert not re.search(r"\d\d:\d\d|20\d\d-\d\d", record)
    assert str(Path.home()) not in record
    assert str(Path.cwd()) not in record
    assert not re.search(r'"/', record)


def test_the_machine_has_a_processor_cores_and_memory():
    machine = provenance.machine("cpu", 3)
    assert machine["cpu"]
    assert 1 <= machine["cores"] <= psutil.cpu_count()
    assert machine["memory_gib"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.5)
    assert (machine["device"], machine["threads"]) == ("cpu", 3)
    assert "gpu" not in machine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_machine_names_the_gpu_that_computed():
    assert provenance.machine("cuda", 1)["gpu"] == torch.cuda.get_device_name()


def test_data_are_those_of_all_files_once(tmp_path):
    for name, data in {"a.csv": ["x"], "b.parquet": ["y", "x"]}.items():
        storage.write_table(pd.DataFrame({"n": [1]}), tmp_path / name, provenance.provenance("r", {}, data))
    assert provenance.data_of(tmp_path.iterdir()) == ["x", "y"]
