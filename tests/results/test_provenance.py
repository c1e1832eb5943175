"""The record that results carry, and the hash of the code that decides what runs again."""

import json
import re
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from fishertail.results import provenance, storage
from tests import edited
from tests.edited import edit


@pytest.fixture
def package(tmp_path):
    """A copy of the package that may be edited; the hashes are of the copy."""
    with edited.package(tmp_path) as copy:
        yield copy


def test_comments_docstrings_and_spacing_do_not_count(package):
    before = provenance.code_hash("statistics.outliers")
    edit(
        package / "statistics" / "outliers.py",
        '"""Which samples are outliers, and the median and MAD by which they are."""',
        '"""Something else."""\n',
    )
    edit(package / "statistics" / "outliers.py", "# (N,) bool", "# a mask")
    assert provenance.code_hash("statistics.outliers") == before


def test_a_number_counts(package):
    before = provenance.code_hash("statistics.outliers")
    edit(package / "statistics" / "outliers.py", "threshold: float = 10", "threshold: float = 11")
    assert provenance.code_hash("statistics.outliers") != before


def test_what_a_module_imports_counts_and_nothing_else(package):
    names = ("gradients.matrix", "execution.measuring", "statistics.outliers")
    before = {name: provenance.code_hash(name) for name in names}
    edit(package / "gradients" / "cross_entropy.py", "log_s > _LARGEST", "log_s > 1")
    after = {name: provenance.code_hash(name) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["gradients.matrix", "execution.measuring"]


def test_a_module_imported_among_others_in_a_line_counts(package):
    before = provenance.code_hash("execution.steps")
    edit(package / "training" / "checkpoints.py", "08d", "09d")
    assert provenance.code_hash("execution.steps") != before


FOLDER = {
    "user.py": "from fishertail.folder.inner import value\n",
    "folder/__init__.py": '"""A folder."""\n',
    "folder/inner.py": "from . import beside\nfrom .deep.below import other\nvalue = 1\n",
    "folder/beside.py": "value = 2\n",
    "folder/deep/__init__.py": "",
    "folder/deep/below.py": "from ..cousin import third\nother = 3\n",
    "folder/cousin.py": "third = 4\n",
    "folder/stranger.py": "value = 5\n",
    "hinted.py": "hint = 6\n",
}


@pytest.fixture
def folder(package):
    """The package with a module that imports, over several ways, from a folder."""
    for name, text in FOLDER.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    return package


@pytest.mark.parametrize("name", ["folder/inner.py", "folder/beside.py", "folder/deep/below.py", "folder/cousin.py"])
def test_imports_are_followed_into_folders(folder, name):
    before = provenance.code_hash("user")
    edit(folder / name, FOLDER[name][-2], "7")
    assert provenance.code_hash("user") != before


def test_the_init_of_a_folder_runs_and_counts(folder):
    before = provenance.code_hash("user")
    edit(folder / "folder" / "__init__.py", '"""A folder."""\n', "import math\n")
    assert provenance.code_hash("user") != before


def test_a_module_of_the_folder_that_nobody_imports_does_not_count(folder):
    before = provenance.code_hash("user")
    edit(folder / "folder" / "stranger.py", "5", "7")
    assert provenance.code_hash("user") == before


def test_a_folder_itself_can_be_asked_for(folder):
    before = provenance.code_hash("folder")
    edit(folder / "folder" / "__init__.py", '"""A folder."""\n', "from fishertail.folder import stranger\n")
    after = provenance.code_hash("folder")
    edit(folder / "folder" / "stranger.py", "5", "7")
    assert len({before, after, provenance.code_hash("folder")}) == 3


DISCOVERS = (
    "import importlib, pkgutil\nfor found in pkgutil.iter_modules(__path__):\n    importlib.import_module(found.name)\n"
)
LATER = "import pkgutil\ndef names():\n    return [found.name for found in pkgutil.iter_modules(__path__)]\n"


@pytest.mark.parametrize(("text", "counts"), [(DISCOVERS, True), (LATER, False)])
def test_a_folder_that_imports_all_of_its_files_depends_on_each(folder, text, counts):
    (folder / "folder" / "__init__.py").write_text(text)
    hashes = [provenance.code_hash("user")]
    edit(folder / "folder" / "stranger.py", "5", "7")
    hashes.append(provenance.code_hash("user"))
    (folder / "folder" / "added.py").write_text("value = 8\n")
    provenance.code_hash.cache_clear()
    hashes.append(provenance.code_hash("user"))
    assert len(set(hashes)) == (3 if counts else 1)


@pytest.mark.parametrize("rule", ["prelu", "attention"])
def test_results_of_gradients_depend_on_every_layer_rule_and_training_does_not(package, rule):
    names = ("execution.measuring", "fisher.eigenpairs", "training.sgd")
    before = {name: provenance.code_hash(name) for name in names}
    path = package / "gradients" / "layer_rules" / f"{rule}.py"
    path.write_text(path.read_text() + "\nadded = 1\n")
    provenance.code_hash.cache_clear()
    assert [name for name in names if before[name] != provenance.code_hash(name)] == list(names[:2])


@pytest.mark.parametrize("condition", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_type_hints_do_not_count(folder, condition):
    (folder / "user.py").write_text(f"if {condition}:\n    from fishertail.hinted import hint\n")
    provenance.code_hash.cache_clear()
    before = provenance.code_hash("user")
    edit(folder / "hinted.py", "6", "7")
    assert provenance.code_hash("user") == before


def test_an_unknown_module_or_function_is_refused():
    with pytest.raises(ValueError, match="no module 'gradient'"):
        provenance.code_hash("gradient")
    with pytest.raises(ValueError, match=r"no definition 'measurements\.norms:measured'"):
        provenance.code_hash("measurements.norms:measured")


PLAIN = """
import math
from fishertail.folder.inner import value

class Kept:
    size: int = 3

def used(a, b=1):
    total = a * math.pi
    return total + b + value
"""
ANNOTATED = """
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from fishertail.folder.inner import value

if TYPE_CHECKING:
    from fishertail.hinted import hint

class Kept:
    size: int = 3

def used(a: "Sequence[hint]", b: Any = 1) -> float:
    total: float = a * math.pi
    other: int
    return total + b + value
"""


@pytest.mark.parametrize("start", ["user", "user:used", "user:Kept"])
def test_annotations_do_not_count(folder, start):
    (folder / "user.py").write_text(PLAIN)
    provenance.code_hash.cache_clear()
    before = provenance.code_hash(start)
    (folder / "user.py").write_text(ANNOTATED)
    provenance.code_hash.cache_clear()
    assert provenance.code_hash(start) == before


@pytest.mark.parametrize("start", ["user", "user:Kept"])
def test_the_annotations_of_a_class_make_its_fields_and_count(folder, start):
    (folder / "user.py").write_text(PLAIN)
    provenance.code_hash.cache_clear()
    before = provenance.code_hash(start)
    edit(folder / "user.py", "size: int", "size: float")
    assert provenance.code_hash(start) != before


FUNCTIONS = """
from fishertail.folder.stranger import value
from fishertail.folder.inner import value as other

LIMIT = 3

def used(a):
    from fishertail.folder import beside
    return helper(a) + beside.value

def helper(a):
    return a + LIMIT + value

def neighbour(a):
    return 2 * a + other

FIGURE = print(used, "a caption")
"""


@pytest.fixture
def functions(folder):
    (folder / "user.py").write_text(FUNCTIONS)
    provenance.code_hash.cache_clear()
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("user.py", "helper(a) +", "helper(a) -", True),
        ("user.py", "a + LIMIT", "a * LIMIT", True),  # of what it calls
        ("user.py", "LIMIT = 3", "LIMIT = 4", True),
        ("folder/stranger.py", "5", "6", True),  # what is imported for it
        ("folder/beside.py", "2", "6", True),  # inside it
        ("user.py", "2 * a", "3 * a", False),
        ("folder/inner.py", "1", "6", False),
        ("user.py", "a caption", "another caption", False),
        ("user.py", "LIMIT = 3\n", "LIMIT = 3\nprint(LIMIT)\n", True),  # runs when the module is imported
    ],
)
def test_a_function_takes_of_its_module_only_what_it_uses(functions, file, old, new, counts):
    before = provenance.code_hash("user:used")
    edit(functions / file, old, new)
    assert (provenance.code_hash("user:used") != before) == counts


TRAIN = ("execution.steps:train", "training.networks.fc:fc", "training.networks.build", "data.dataset")


@pytest.mark.parametrize("name", ["digits", "torchvision", "npz", "folder"])
def test_training_does_not_depend_on_where_data_come_from(package, name):
    before = provenance.code_hash(*TRAIN)
    path = package / "data" / f"{name}.py"
    path.write_text(path.read_text() + "\nadded = 1\n")
    edit(package / "data" / "source.py", "SPLITS = (", "added = 1\nSPLITS = (")
    assert provenance.code_hash(*TRAIN) == before


def test_training_depends_on_how_a_data_set_is_read(package):
    before = provenance.code_hash(*TRAIN)
    edit(package / "data" / "dataset.py", "div_(255)", "div_(256)")
    assert provenance.code_hash(*TRAIN) != before


def test_the_order_of_modules_does_not_count():
    assert provenance.code_hash("training.sgd", "statistics.outliers") == provenance.code_hash(
        "statistics.outliers", "training.sgd"
    )


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


@pytest.mark.gpu
def test_the_machine_names_the_gpu_that_computed():
    assert provenance.machine("cuda", 1)["gpu"] == torch.cuda.get_device_name()


def test_data_are_those_of_all_files_once(tmp_path):
    for name, data in {"a.csv": ["x"], "b.parquet": ["y", "x"]}.items():
        storage.write_table(pd.DataFrame({"n": [1]}), tmp_path / name, provenance.provenance("r", {}, data))
    assert provenance.data_of(tmp_path.iterdir()) == ["x", "y"]
