"""What the README and the docs promise is there: targets, rules, links and verdicts. Their code runs in tests/docs."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.workflow.project import Project

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
WORKFLOW = (ROOT / "docs/workflow.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()


def blocks(language: str, page: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def make_targets(text: str) -> set[str]:
    """The targets of the `make` commands in code spans and in fenced blocks."""
    return set(re.findall(r"(?:`|^)make ([a-z-]+)\b", text, re.MULTILINE))


def graph_of_the_page() -> set[tuple[str, str]]:
    """The arrows of the mermaid graph."""
    (graph,) = blocks("mermaid", "docs/workflow.md")
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

    def reachable(start: str, arrows: set[tuple[str, str]]) -> set[str]:
        found: set[str] = set()
        pending = [start]
        while pending:
            new = {b for a, b in arrows if a == pending[-1]} - found
            pending.pop()
            found |= new
            pending += new
        return found

    return {arrow for arrow in arrows if arrow[1] not in reachable(arrow[0], arrows - {arrow})}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.slow
@pytest.mark.workflow
def test_own_data_and_models_as_the_pages_have_them(tmp_path: Path) -> None:
    (data,) = blocks("py", "docs/how-to/own-data.md")
    (model,) = blocks("py", "docs/how-to/own-network.md")
    (overlay,) = blocks("yaml", "docs/how-to/own-network.md")
    project = Project.new(tmp_path)
    (project.path / "src" / "my_networks.py").write_text(model)
    subprocess.run([sys.executable, "-c", data], cwd=project.path, check=True, timeout=300)
    short = {"batch_sizes": [256], "seeds": [0], "epochs": 2}
    (project.path / "grid.yaml").write_text(yaml.safe_dump(yaml.safe_load(overlay) | short))
    project.run("results/mine/figures/fig2_ax_over_epochs_blobs.svg")
    assert (project.path / "results/mine/runs/blobs-mine/bs256/seed0/epochs0001-0002/spectrum.csv").exists()


def test_every_target_with_a_help_is_in_the_table_and_no_other() -> None:
    table = (ROOT / "docs/development.md").read_text().partition("## Make targets")[2].partition("\n## ")[0]
    assert make_targets(table) == set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_exist(page: Path) -> None:
    assert make_targets(page.read_text()) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.workflow
def test_what_is_generated_is_up_to_date() -> None:
    """Tables of what is registered, the verdicts of the kept runs, the schema of config.yaml, and the graph."""
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_stale_is_named(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "reference.md"
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("runs"))
    for name in ("README.md", "results/README.md", "workflow/schemas/config.schema.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    page.write_text(page.read_text().replace("`outliers`", "`outlyers`"))
    workflow = tmp_path / "docs" / "workflow.md"  # the graph takes Snakemake, and is tested above
    workflow.write_text(workflow.read_text().replace("generated: rule-graph", "by hand"))
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == "out of date, renew with `make docs`: docs/reference.md\n"


@pytest.mark.workflow
def test_the_graph_is_that_of_the_rules(tmp_path: Path) -> None:
    output = Project.new(tmp_path).run("-n", "--rulegraph")
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', output, re.MULTILINE))
    arrows = {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)$", output, re.MULTILINE)}
    between = {(a, b) for a, b in arrows if a != b and b != "all"}  # train follows itself, block by block
    assert {rule for arrow in graph_of_the_page() for rule in arrow} == {rule for arrow in between for rule in arrow}
    assert graph_of_the_page() == without_implied(between)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?:\]\(|src=\")([^)#\"]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_images_are_small() -> None:
    assert max(path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()) < 150_000


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yashima", "Ishikawa", "Sato", "Matsuoka"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_scripts_hold_no_more_than_glue() -> None:
    for path in (ROOT / "workflow" / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 16, path
