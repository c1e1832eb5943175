"""Which jobs an edit of the code makes run again: those whose result it can alter, and no other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import edited
from tests.execution import hashes

ROOT = Path(__file__).parents[2]
OF_NETWORKS = ("norms", "spectrum", "trimmed_eigenvalues", "noise_scale", "alignment")
GRADIENTS = {f"{name} {model}" for name in OF_NETWORKS for model in hashes.MODELS}
TRAINING = {f"train {model}" for model in hashes.MODELS}
ALL_TABLES = {"outliers", "ax_histogram", "ax_statistics", "outlier_samples", "fit", "layers", "drift_to_diffusion"}
ALL_TABLES |= {"trimmed_both_ends", "ax_at_minimum"}
FIGURES = {
    "fig1_validation_accuracy",
    "fig2_3_ax_over_epochs",
    "fig4_5_ax_at_minimum",
    "fig6_trimmed_eigenvalues",
    "fig7_outliers",
    "table1_machine",
    "layers_over_training",
    "outliers_against_fit",
    "noise_scale_over_training",
    "alignment_over_training",
}


def of(model: str) -> set[str]:
    """The jobs of a network."""
    return {job for job in GRADIENTS | TRAINING if job.endswith(f" {model}")}


def of_models(measurement: str) -> set[str]:
    """The jobs of a measurement of gradients."""
    return {job for job in GRADIENTS if job.startswith(f"{measurement} ")}


EDITS = {  # file, what is replaced, by what, and the jobs that run again
    "a panel": ("measurements/outliers.py", 'colour="#009E73"', 'colour="#000000"', set()),
    "a title of a panel": ("measurements/spectrum.py", '"lambda_1", {"rank": 1}', '"l", {"rank": 1}', set()),
    "the text of an option": ("measurements/outliers.py", "in units of MAD", "MAD", set()),
    "a default, which is a parameter": ("measurements/outliers.py", "Field(10, gt=0", "Field(9, gt=0", set()),
    "a question": ("measurements/norms.py", "How large is each", "What is each", set()),
    "the meaning of a column": ("measurements/norms.py", "class of the sample", "label", set()),
    "the cost of a measurement": ("measurements/spectrum.py", "passes=2.0", "passes=3.0", set()),
    "a docstring": ("measurements/norms.py", "without forming the gradients", "from factors", set()),
    "what a measurement does": ("measurements/outliers.py", '"mad": found', '"mad2": found', {"outliers"}),
    "norms": ("measurements/norms.py", "astype(np.float32)", "astype(np.float64)", of_models("norms")),
    "a caption": ("paper/figures/fig7_outliers.py", "The number of training", "How many training", set()),
    "a drawing": ("paper/figures/fig7_outliers.py", "ENOUGH = 1 ", "ENOUGH = 2 ", {"fig7_outliers"}),
    "what all figures share": ("results/drawing.py", 'MARK = "#D55E00"', 'MARK = "#D55E01"', FIGURES),
    "a claim": ("paper/claims/claim4.py", "lower=0.5", "lower=0.6", {"claims"}),
    "how claims are judged": ("paper/claims/judging.py", "CONFIDENCE = 0.95", "CONFIDENCE = 0.9", {"claims", "page"}),
    "a network": ("training/networks/vit.py", "2 * width", "4 * width", of("vit")),
    "the text of a network's option": ("training/networks/vit.py", "transformer blocks", "blocks", set()),
    "what shares of networks": ("training/networks/resized.py", "0.45, 0.225", "0.5, 0.25", of("vit")),
    "a data set": ("data/digits.py", "random_state=0", "random_state=1", {"dataset digits"}),
    "a title of a data set": ("data/torchvision.py", '"CIFAR-10",', '"CIFAR",', set()),
    "training": ("training/sgd.py", "model.train()", "model.eval()", TRAINING),
    "how weights are named": ("training/checkpoints.py", "08d", "09d", TRAINING | GRADIENTS | ALL_TABLES),
    "gradients": ("gradients/layer_rules/convolution.py", "", "added = 1\n", GRADIENTS | ALL_TABLES),
    "the solver": ("fisher/krylov.py", "", "added = 1\n", GRADIENTS - of_models("norms") - of_models("alignment")),
    "the configuration": ("grid/config.py", "", "added = 1\n", set()),
    "the plan": ("execution/plan.py", "", "added = 1\n", set()),
    "the command line": ("execution/keep.py", "", "added = 1\n", set()),
    "the page": ("page/render.py", ":.2f", ":.3f", {"page"}),
    "stopping": ("paper/stopping.py", "CONFIDENCE = 0.95", "CONFIDENCE = 0.9", {"stopping", "claims", "page"}),
    "the outliers of a run": (
        "statistics/outliers.py",
        "threshold * mad",
        "threshold * median",
        {"outliers", "outlier_samples", "fit", "stopping", "claims", "page"},
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, and the hashes of its jobs; it is to be left as it was."""
    with edited.package(tmp_path_factory.mktemp("package")) as copy:
        yield copy, hashes.of_jobs()


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_reruns_what_it_can_alter(package, name):
    file, old, new, expected = EDITS[name]
    copy, before = package
    path = copy / file
    text = path.read_text()
    edited.edit(path, old or text, new if old else text + new)
    after = hashes.of_jobs()
    path.write_text(text)
    edited.provenance.code_hash.cache_clear()
    assert {job for job in before if before[job] != after[job]} == expected


def test_every_job_is_looked_at(package):
    _, before = package
    assert before.keys() > GRADIENTS | TRAINING | ALL_TABLES | FIGURES | {"claims", "stopping", "run_table", "page"}


ADDED = {
    "measurements/added.py": """
from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Figure
from fishertail.results.schema import EPOCH, STEP, Column, Table

def measure(at, options):
    return {"added": None}

def draw(results):
    return None

MEASUREMENT = Measurement(
    name="added", rule="added", question="?", scope="tables", measure=measure, options=Options, needs=("norms",),
    tables=(Table("added", "csv", "added", (STEP, EPOCH, Column("n", "n"))),),
    figures=(Figure("added_figure", "Added", "Added.", ("added",), draw),),
)
""",
    "paper/figures/added.py": """
from fishertail.results.exhibits import Figure

def draw(results):
    return None

FIGURE = Figure("another", "Another", "Another.", ("metrics",), draw)
""",
    "paper/claims/claim8.py": """
from fishertail.paper.claims.claim import Claim

def measure(results):
    return results["metrics"]

CLAIM = Claim("8", "A statement.", measure, (), ("metrics",))
""",
    "paper/tables/added.py": """
from fishertail.results.exhibits import TableOfRuns
from fishertail.results.schema import Column, Table

def make(results):
    return {}

TABLE = TableOfRuns("added_table", "A", "A.", ("metrics",), (Table("more", "csv", "more", (Column("n", "n"),)),), make)
""",
    "training/networks/added.py": """
from fishertail.training.networks.network import Architecture, Network

class Options(Architecture):
    learning_rate: float = 0.1
    figure_layer: str = "network"

def made(shape, classes):
    return None

NETWORK = Network("added", "another network", Options, made)
""",
    "data/added.py": """
from fishertail.data.source import BuiltIn, Source

def load(name, data_dir, attempts):
    return None

SOURCE = Source("added", "another source", load, {"added": BuiltIn("Added", 3, "three")})
""",
}
NEW = {"added", "added_figure", "another", "added_table"}


def jobs_of(source: Path) -> dict[str, str]:
    """The hashes of jobs of a copy of the package, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])}
    command = [sys.executable, "-m", "tests.execution.hashes"]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_added_to_a_registry_reruns_nothing(tmp_path):
    shutil.copytree(edited.PACKAGE, tmp_path / "fishertail", ignore=shutil.ignore_patterns("__pycache__"))
    before = jobs_of(tmp_path)
    for file, text in ADDED.items():
        (tmp_path / "fishertail" / file).write_text(text)
    after = jobs_of(tmp_path)
    assert after.keys() - before.keys() == NEW
    changed = {job for job in before if before[job] != after[job]}
    assert changed == {"claims", "page"}  # which show what is added
