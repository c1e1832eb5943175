"""Every line knows its room: imports go one way, no file is long, and parsing the Snakefile imports nothing heavy."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fishertail"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = [  # each may import those above it
    ["errors"],
    ["devices", "registry", "settings", "statistics"],
    ["results", "gradients"],
    ["fisher", "data"],
    ["training"],
    ["measurements"],
    ["grid"],
    ["paper"],
    ["page"],
    ["execution"],
    ["integrations"],
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
HEAVY = ["torch", "pandas", "matplotlib", "numpy", "pyarrow", "scipy", "torchvision", "altair"]
LINES = 400


def imported(tree: ast.AST) -> Iterator[str]:
    """The parts of this package that code imports, wherever it does, for types only included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("fishertail."))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("part", LEVEL)
def test_imports_go_one_way(part):
    lower = {name for name, level in LEVEL.items() if level < LEVEL[part]}
    for path in FILES:
        if part_of(path) == part:
            wrong = set(imported(ast.parse(path.read_text()))) - lower - {part}
            assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_every_part_has_its_level():
    assert {part_of(path) for path in FILES} - {"__init__"} == set(LEVEL)


def test_no_relative_imports_hide_a_direction():
    for path in FILES:
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), path.relative_to(ROOT)


def test_the_library_never_imports_snakemake():
    for path in FILES:
        text = path.read_text()
        assert "import snakemake" not in text, path.relative_to(ROOT)
        assert "from snakemake" not in text, path.relative_to(ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= LINES


@pytest.mark.parametrize("part", sorted({path.parent for path in FILES} - {PACKAGE}), ids=lambda path: path.name)
def test_every_folder_says_its_idea_in_a_sentence(part):
    tree = ast.parse((part / "__init__.py").read_text())
    sentence = (ast.get_docstring(tree) or "").splitlines()[0]
    assert sentence.endswith(".")
    assert part.name == "layer_rules" or len(tree.body) == 1  # that one imports its files


# Snakemake's own imports are those that it needs for any Snakefile
PARSING = """
import json, sys
from snakemake.cli import main
try:
    main(["--list-rules", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code
print(json.dumps(sorted(sys.modules)))
"""

# what the Snakefile takes of the package, without Snakemake, which may import something heavy itself
TAKING = """
import json, sys
from pathlib import Path
import yaml
from fishertail.execution import plan
from fishertail.execution.job import export
from fishertail.grid import checks, config
from fishertail.grid.cost import JOBS_VARIABLE
from fishertail.grid.estimate import Estimator
from fishertail.results.provenance import folder_hash
from fishertail.results.storage import ensure_writable

class Wildcards(dict):
    __getattr__ = dict.__getitem__

settings = yaml.safe_load(open("config.yaml"))
more = {"noise_scale": {"enabled": True}, "alignment": {"enabled": True}, "drift_to_diffusion": {"enabled": True}}
made = plan.Plan(checks.load(settings | {"measurements": settings.get("measurements", {}) | more}))
Estimator(made, own=Path("benchmarks"), kept=Path("docs/reproduction/times.csv"), workers=lambda rule: 1)
run = made.config.runs[0]
wildcards = Wildcards(dataset=run.dataset, model=run.model, batch_size=str(run.batch_size), seed=str(run.seed))
wildcards["block"] = made.new_blocks(run)[0].path
for each in made.measurements.values():
    made.options(each)
    if each.scope == "gradients":
        made.block_inputs(each)(wildcards), made.selection(each)(wildcards), made.landmark_inputs(each)(wildcards)
        made.code_of(each, "measure_block")(wildcards)
    elif each.scope == "pair":
        made.pair_inputs(each)(wildcards), made.code_of(each, "measure_pairs")(wildcards)
    elif each.scope == "run":
        made.run_inputs(each)(wildcards), made.code_of(each, "measure_run")(wildcards)
    else:
        made.table_inputs(each)(wildcards), made.code_of(each, "measure_tables")(wildcards)
made.previous_weights(wildcards), made.octaves(wildcards), made.code_of_training(wildcards)
made.page_inputs(), made.code_of_page(), made.missing(), config.as_yaml(made.config)
for each in made.figures.values():
    made.figure_files(each), plan.code_of_figure(each)
for each in made.tables.values():
    made.table_files(each), plan.code_of_table(each)
print(json.dumps(sorted(sys.modules)))
"""


def modules(code: str, *arguments: str, folder: Path = ROOT) -> tuple[set[str], str]:
    """The modules that some code has imported at its end, and what it printed before."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    return set(json.loads(last)), "\n".join(printed)


def test_parsing_the_snakefile_imports_nothing_heavy(tmp_path):
    (tmp_path / "Snakefile").write_text("rule nothing:\n    shell: 'true'\n")
    shutil.copy(ROOT / "config.yaml", tmp_path)
    of_any, _ = modules(PARSING, "--snakefile", "Snakefile", folder=tmp_path)
    found, rules = modules(PARSING, "--snakefile", str(ROOT / "Snakefile"), folder=tmp_path)
    assert {"train", "per_sample_gradients", "fim_eigen", "ax_histogram", "mad_curve"} <= set(rules.split())
    assert "fishertail.execution.plan" in found
    assert not set(HEAVY) & (found - of_any)


def test_planning_the_workflow_imports_nothing_heavy():
    found, _ = modules(TAKING)
    assert "fishertail.execution.plan" in found
    assert not set(HEAVY) & found


def test_the_errors_come_with_the_package():
    found, shown = modules("""
import json, sys, fishertail
print(fishertail.errors.StorageError.__name__)
print(json.dumps(sorted(sys.modules)))
""")
    assert shown == "StorageError"
    assert not set(HEAVY) & found
