"""What the README and the docs promise is there: examples run, and targets, rules, links and modules exist."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from fishertail import storage
from tests.workflow.project import Project

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
RULES = {
    rule
    for path in (ROOT / "workflow" / "rules").glob("*.smk")
    for rule in re.findall(r"^(?:rule|use rule \w+ as) (\w+)", path.read_text(), re.MULTILINE)
}


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run_python(code: str, cwd: Path = ROOT) -> str:
    """What `code` prints in an interpreter of its own with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_targets(text: str) -> set[str]:
    """The targets of the `make` commands in code spans and in fenced blocks."""
    return set(re.findall(r"(?:`|^)make ([a-z-]+)\b", text, re.MULTILINE))


def graph_of_the_readme() -> set[tuple[str, str]]:
    """The arrows of the mermaid graph."""
    (graph,) = blocks("mermaid")
    first, *lines = (line.strip() for line in graph.splitlines())
    assert first == "flowchart LR"
    arrows = set()
    for line in lines:
        assert re.fullmatch(r"\w+ --> \w+( & \w+)*", line), line
        source, targets = line.split(" --> ")
        arrows |= {(source, target) for target in targets.split(" & ")}
    return arrows


def without_implied(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The transitive reduction of an acyclic graph."""

    def reachable(start, arrows):
        found, pending = set(), [start]
        while pending:
            new = {b for a, b in arrows if a == pending[-1]} - found
            pending.pop()
            found |= new
            pending += new
        return found

    return {arrow for arrow in arrows if arrow[1] not in reachable(arrow[0], arrows - {arrow})}


def test_the_example_runs_as_it_stands_and_prints_numbers():
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) < 10
    layers, eigenvalues = run_python(example).splitlines()
    assert layers.startswith("('0', '2') [")
    numbers = [float(number) for number in re.findall(r"\d+\.\d+(?:e[+-]?\d+)?", eigenvalues)]
    assert len(numbers) == 7  # two eigenvalues, two means of a_x^2, two residuals, the trace
    assert numbers[0] == pytest.approx(numbers[2], rel=1e-5)
    assert 0 < numbers[1] <= numbers[0] < numbers[6]


@pytest.mark.workflow
def test_own_data_and_models_as_the_readme_has_them(tmp_path):
    data, model = blocks("py")
    (overlay,) = blocks("yaml")
    project = Project.new(tmp_path)
    (project.path / "src" / "my_networks.py").write_text(model)
    run_python(data, cwd=project.path)
    short = {"batch_sizes": [256], "seeds": [0], "epochs": 2}
    (project.path / "grid.yaml").write_text(yaml.safe_dump(yaml.safe_load(overlay) | short))
    project.run("results/mine/figures/fig2_ax_over_epochs_blobs.svg")
    assert (project.path / "results/mine/runs/blobs-mine/bs256/seed0/epochs0001-0002/spectrum.csv").exists()


def test_every_target_with_a_help_is_named_and_no_other():
    assert make_targets(README) == set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_exist(page):
    assert make_targets(page.read_text()) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_the_graph_names_every_rule_and_no_other():
    assert {rule for arrow in graph_of_the_readme() for rule in arrow} == RULES


def test_the_gallery_names_the_rule_of_every_figure_and_table():
    gallery = README.partition("| in the paper |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", gallery)) <= RULES
    for rule in RULES:
        if re.match(r"fig\d|table\d", rule) or rule.endswith("_table"):
            assert f"`{rule}`" in gallery


@pytest.mark.workflow
def test_the_graph_is_that_of_the_rules(tmp_path):
    output = Project.new(tmp_path).run("-n", "--rulegraph")
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', output, re.MULTILINE))
    arrows = {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)$", output, re.MULTILINE)}
    between = {(a, b) for a, b in arrows if a != b and b != "all"}  # train follows itself, block by block
    assert {rule for arrow in between for rule in arrow} == RULES
    assert graph_of_the_readme() == without_implied(between)


def test_the_verdicts_are_those_of_the_kept_runs():
    verdicts = storage.read_table(ROOT / "docs/reproduction/tables/claims.csv")
    rows = README.partition("| claim | verdict |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows == [
        f"| {row.claim}. {row.statement} | **{row.verdict}** | {row.finding.partition('. ')[0]} |".replace(
            "|a_x|", "abs(a_x)"
        )
        for row in verdicts.itertuples()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_images_are_small():
    assert max(path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()) < 150_000


def test_the_list_of_modules_is_complete_and_in_the_order_of_imports():
    text = (ROOT / "docs" / "development.md").read_text().partition("## The library")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", text.partition("`executor/` is a")[0], re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([\w/]*\w)`", row)]
    package = ROOT / "src" / "fishertail"
    paths = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py") if path.stem != "__init__"]
    listed_as_folders = ("page", "gradients/layer_rules")  # in which a new file needs no entry
    assert sorted(listed) == sorted(str(path) for path in paths if not str(path).startswith(listed_as_folders))
    for position, module in enumerate(listed):
        for node in ast.parse((package / f"{module}.py").read_text()).body:  # imports in functions are exempt
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fishertail":
                origin = node.module.split(".")[1:]
                names = {"/".join([*origin, alias.name]) for alias in node.names} | {"/".join(origin)}
                assert names & set(listed) <= set(listed[:position]), module


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yashima", "Ishikawa", "Sato", "Matsuoka"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_scripts_hold_no_more_than_glue():
    for path in (ROOT / "workflow" / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 16, path
